"""/v1/models/{name} of trained models, and all else under /v1: passed through to vLLM as it is."""

from __future__ import annotations

import itertools
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse

from .errors import ApiError
from .handover import Handover
from .jobs import Jobs

# They belong to one connection, not to the message (RFC 9110, 7.6.1).
HOP_BY_HOP = {
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
}
NOT_SENT = HOP_BY_HOP | {"host", "content-length"}
# Adapters are loaded by the trainer alone: a caller could read any path of the host, or take others' models away.
CLOSED = {"load_lora_adapter", "unload_lora_adapter"}
MAX_BODY_BYTES = 64 << 20


def make_router(jobs: Jobs, handover: Handover, client: httpx.AsyncClient) -> APIRouter:
    router = APIRouter(prefix="/v1")
    turn = itertools.count()

    def in_order() -> list[str]:
        """Addresses to try: those that answered last, each first in its turn, then the others."""
        up = [replica.client.url for replica in handover.replicas if replica.is_up]
        down = [replica.client.url for replica in handover.replicas if not replica.is_up]
        first = next(turn) % len(up) if up else 0
        return up[first:] + up[:first] + down

    @router.delete("/models/{name:path}")
    async def delete(name: str) -> dict[str, Any]:
        await jobs.delete_model(name)
        return {"id": name, "object": "model", "deleted": True}

    @router.get("/models/{name:path}")
    async def retrieve(name: str, request: Request) -> dict[str, Any]:
        # vLLM has no route for a single model.
        answer = await send(client, in_order(), "models", request, b"")
        try:
            data = json.loads(await answer.aread()).get("data", [])
        finally:
            await answer.aclose()
        for model in data:
            if model["id"] == name:
                return model
        raise ApiError(
            404, f"no such model — got '{name}' — allowed: those of GET /v1/models", "model", "model_not_found"
        )

    @router.api_route("/{path:path}", methods=["GET", "POST", "PUT", "PATCH", "DELETE"])
    async def forward(path: str, request: Request) -> Response:
        if path.strip("/") in CLOSED or path.startswith(("files", "fine_tuning")):
            raise ApiError(404, f"no such route — got /v1/{path}", None, "not_found")
        body = await read_body(request)
        if name := model_of(body):
            handover.touch(name)
        answer = await send(client, in_order(), path, request, body)
        headers = [(key, value) for key, value in answer.headers.multi_items() if key.lower() not in HOP_BY_HOP]
        response = StreamingResponse(chunks(answer), status_code=answer.status_code)
        response.raw_headers = [(key.lower().encode(), value.encode()) for key, value in headers]
        return response

    return router


async def read_body(request: Request) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            raise ApiError(413, f"the request is too large — allowed: {MAX_BODY_BYTES >> 20} MiB")
    return bytes(body)


def model_of(body: bytes) -> str | None:
    try:
        value = json.loads(body).get("model") if body[:1] == b"{" else None
    except ValueError:
        return None
    return value if isinstance(value, str) else None


async def send(client: httpx.AsyncClient, urls: list[str], path: str, request: Request, body: bytes) -> httpx.Response:
    """Asks the first vLLM that can be reached; its answer is not read yet."""
    headers = [(key, value) for key, value in request.headers.items() if key.lower() not in NOT_SENT]
    reason = "none is known"
    # Each twice: a connection that was kept open to a vLLM that was started again since fails at first use.
    for url in [*urls, *urls]:
        ask = client.build_request(
            request.method,
            f"{url}/v1/{path}",
            params=request.query_params.multi_items(),
            headers=headers,
            content=body,
            timeout=httpx.Timeout(10, read=None),
        )
        try:
            return await client.send(ask, stream=True)
        except (httpx.NetworkError, httpx.RemoteProtocolError) as error:
            # Nothing was answered, and an inference changes nothing: another one may be asked.
            reason = f"{url}: {type(error).__name__} {error}".rstrip()
        except httpx.HTTPError as error:
            text = f"vLLM broke off: {type(error).__name__} {error}".rstrip()
            raise ApiError(502, text, None, "bad_gateway") from None
    raise ApiError(503, f"no vLLM can be reached — {reason}", None, "model_unavailable")


async def chunks(answer: httpx.Response) -> AsyncIterator[bytes]:
    try:
        async for chunk in answer.aiter_raw():
            yield chunk
    finally:
        await answer.aclose()
