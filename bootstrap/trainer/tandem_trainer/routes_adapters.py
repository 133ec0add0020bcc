"""/adapters: what a trainer on another host sends, for this host's own vLLMs. See `peer_client.py`."""

from __future__ import annotations

import re
import shutil
import tarfile
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from .errors import ApiError
from .handover import RECEIVED, Handover, HandoverError
from .store import Store
from .vllm_client import NotNow

NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")
FILES = ("adapter_config.json", "adapter_model.safetensors", "README.md")
# Shorter than the sender's own wait for an answer.
LOAD_SECONDS = 240.0


def make_router(store: Store, handover: Handover, folder: Path) -> APIRouter:
    router = APIRouter(prefix="/adapters")

    def check(origin: str, name: str = "x") -> str:
        for value in (origin, name):
            if not NAME.fullmatch(value):
                raise ApiError(400, f"name — got {value!r} — allowed: a-z, 0-9 and '-'")
        return f"{RECEIVED}{origin}"

    @router.get("/{origin}")
    async def listing(origin: str) -> dict[str, Any]:
        job = check(origin)
        rows = [row for row in store.adapters() if row["job"] == job]
        return {"data": [{"model": row["model"], "folder": row["folder"]} for row in rows]}

    @router.put("/{origin}/{name}")
    async def receive(origin: str, name: str, model: str, request: Request) -> dict[str, Any]:
        job = check(origin, name)
        part, final = folder / f"{name}.received", folder / name
        shutil.rmtree(part, ignore_errors=True)
        try:
            part.mkdir()
            with open(part / "archive", "wb") as file:
                async for chunk in request.stream():
                    file.write(chunk)
            await run_in_threadpool(unpack, part)
            shutil.rmtree(final, ignore_errors=True)
            part.rename(final)
        except ClientDisconnect:
            raise ApiError(400, "the adapter was cut off; nothing is kept") from None
        except (OSError, tarfile.TarError) as error:
            raise ApiError(
                507 if getattr(error, "errno", 0) == 28 else 400, f"the adapter can't be kept: {error}"
            ) from None
        finally:
            shutil.rmtree(part, ignore_errors=True)
        try:
            await handover.publish(model, job, name, LOAD_SECONDS)
        except HandoverError as error:
            raise ApiError(503 if isinstance(error.__cause__, NotNow) else 400, str(error)) from None
        return {"model": model}

    @router.delete("/{origin}")
    async def delete(origin: str, model: str) -> dict[str, Any]:
        job = check(origin)
        row = store.adapter(model)
        if not row or row["job"] != job:
            raise ApiError(404, f"no such adapter — got '{model}'", "model", "not_found")
        await handover.withdraw(model, row["folder"])
        return {"model": model, "deleted": True}

    return router


def unpack(part: Path) -> None:
    """Takes the files of an adapter out of the archive, and nothing else that it may hold."""
    with tarfile.open(part / "archive") as archive:
        for name in FILES:
            source = archive.extractfile(name) if name in archive.getnames() else None
            if source:
                with open(part / name, "wb") as target:
                    shutil.copyfileobj(source, target)
    (part / "archive").unlink()
