"""/v1/files"""

from __future__ import annotations

import os
import shutil
import sqlite3
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import FileResponse
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.requests import ClientDisconnect
from starlette.types import Message

from .data import DataError, read_records
from .errors import ApiError
from .settings import MIB
from .store import Store, new_id

# Of a multipart body beyond the file: boundaries, headers, the other fields.
FORM_BYTES = 64 << 10
PURPOSES = ("fine-tune",)
MAX_PAGE = 10_000


def as_file(row: sqlite3.Row) -> dict[str, Any]:
    return {
        "id": row["id"],
        "object": "file",
        "bytes": row["bytes"],
        "created_at": row["created_at"],
        "filename": row["filename"],
        "purpose": row["purpose"],
        "status": "processed",
        "expires_at": None,
    }


def make_router(store: Store, folder: Path, max_bytes: int) -> APIRouter:
    router = APIRouter(prefix="/v1/files")

    def get(id: str) -> sqlite3.Row:
        row = store.file(id)
        if not row:
            raise ApiError(404, f"no such file — got '{id}'", "file_id", "not_found")
        return row

    @router.post("")
    async def upload(request: Request) -> dict[str, Any]:
        form = await read_form(request, max_bytes)
        try:
            file, purpose = form.get("file"), form.get("purpose")
            if not isinstance(file, UploadFile):
                raise ApiError(400, "file — missing — allowed: a file in multipart form data", "file")
            if purpose not in PURPOSES:
                raise ApiError(400, f"purpose — got {purpose!r} — allowed: {', '.join(PURPOSES)}", "purpose")
            if (file.size or 0) > max_bytes:
                raise too_large(max_bytes)
            id = new_id("file-")
            size, examples = await run_in_threadpool(keep, file, folder / id)
        finally:
            await form.close()
        # A name is only ever shown, never a path.
        name = Path((file.filename or "").replace("\\", "/")).name or "file.jsonl"
        return as_file(store.add_file(id, name, str(purpose), size, examples))

    @router.get("")
    async def listing(after: str | None = None, limit: int = MAX_PAGE, purpose: str | None = None, order: str = "desc"):
        rows = [row for row in store.files() if purpose in (None, row["purpose"])]
        if order == "asc":
            rows.reverse()
        return page([as_file(row) for row in rows], after, limit, MAX_PAGE)

    @router.get("/{id}")
    async def retrieve(id: str) -> dict[str, Any]:
        return as_file(get(id))

    @router.get("/{id}/content")
    async def content(id: str) -> FileResponse:
        return FileResponse(folder / get(id)["id"], media_type="application/octet-stream")

    @router.delete("/{id}")
    async def delete(id: str) -> dict[str, Any]:
        row = get(id)
        if users := store.users_of(id):
            raise ApiError(
                409,
                f"the file is in use by {', '.join(users)} — fix: wait for it, or cancel it",
                "file_id",
                "file_in_use",
            )
        store.delete_file(id)
        (folder / row["id"]).unlink(missing_ok=True)
        return {"id": id, "object": "file", "deleted": True}

    return router


def page(items: list[dict[str, Any]], after: str | None, limit: int, max_limit: int) -> dict[str, Any]:
    """A page of OpenAI's list form: what comes after the item `after`."""
    if not 1 <= limit <= max_limit:
        raise ApiError(400, f"limit — got {limit} — allowed: 1 to {max_limit}", "limit")
    if after is not None:
        places = [index for index, item in enumerate(items) if item["id"] == after]
        if not places:
            raise ApiError(400, f"after — got '{after}' — allowed: the id of an item of this list", "after")
        items = items[places[0] + 1 :]
    shown = items[:limit]
    return {
        "object": "list",
        "data": shown,
        "first_id": shown[0]["id"] if shown else None,
        "last_id": shown[-1]["id"] if shown else None,
        "has_more": len(items) > limit,
    }


def too_large(max_bytes: int) -> ApiError:
    return ApiError(413, f"the file is too large — allowed: {max_bytes / MIB:g} MiB", "file", "file_too_large")


async def read_form(request: Request, max_bytes: int) -> Any:
    """Parses the multipart body, which goes to a temporary file; refuses one that is too large once that is known."""
    limit = max_bytes + FORM_BYTES
    said = request.headers.get("content-length", "")
    if said.isdigit() and int(said) > limit:
        raise too_large(max_bytes)
    seen = 0

    async def counted() -> Message:
        nonlocal seen
        message = await request.receive()
        seen += len(message.get("body", b""))
        if seen > limit:
            raise too_large(max_bytes)
        return message

    try:
        return await Request(request.scope, counted).form(max_files=1, max_fields=16)
    except ClientDisconnect:
        raise ApiError(400, "the upload was cut off; nothing is kept", "file", "upload_incomplete") from None


def keep(upload: UploadFile, target: Path) -> tuple[int, int]:
    """Checks an uploaded file and gives it its place; answers size and number of examples. Nothing stays on failure."""
    part = target.with_name(f"{target.name}.part")
    try:
        with open(part, "wb") as file:
            shutil.copyfileobj(upload.file, file, MIB)
            file.flush()
            os.fsync(file.fileno())
        examples = sum(1 for _ in read_records(part))
        part.replace(target)
        return target.stat().st_size, examples
    except DataError as error:
        raise ApiError(400, str(error), "file", "invalid_file_format") from None
    except OSError as error:
        raise ApiError(507, f"the file can't be kept: {error}", "file", "disk_full") from None
    finally:
        part.unlink(missing_ok=True)
