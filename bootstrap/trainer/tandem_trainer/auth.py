"""The key: everything but /health asks for it."""

from __future__ import annotations

import hmac

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from . import errors

OPEN = ("/health",)


class KeyGuard:
    """Answers 401 before anything of the request's body is read."""

    def __init__(self, app: ASGIApp, key: str | None) -> None:
        self._app = app
        self._key = key.encode() if key else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and self._key and scope["path"] not in OPEN:
            given = Headers(scope=scope).get("authorization", "")
            kind, _, token = given.partition(" ")
            if kind.lower() != "bearer" or not hmac.compare_digest(token.strip().encode(), self._key):
                text = "no API key, or a wrong one — fix: send 'Authorization: Bearer <key>'"
                await errors.body(401, text, None, "invalid_api_key")(scope, receive, send)
                return
        await self._app(scope, receive, send)
