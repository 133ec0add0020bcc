"""Errors as OpenAI's API gives them: {"error": {"message", "type", "param", "code"}}."""

from __future__ import annotations

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException


class ApiError(Exception):
    """A mistake of the caller, or a state that forbids what was asked."""

    def __init__(self, status: int, message: str, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.param = param
        self.code = code


TYPES = {401: "authentication_error", 404: "not_found_error", 409: "conflict_error", 507: "insufficient_storage"}


def body(status: int, message: str, param: str | None = None, code: str | None = None) -> JSONResponse:
    kind = TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")
    error = {"message": message, "type": kind, "param": param, "code": code}
    return JSONResponse({"error": error}, status_code=status)


def install(app: FastAPI) -> None:
    """Gives every failure of the app OpenAI's form."""

    @app.exception_handler(ApiError)
    async def api_error(request: Request, error: ApiError) -> JSONResponse:
        return body(error.status, error.message, error.param, error.code)

    @app.exception_handler(HTTPException)
    async def http_error(request: Request, error: HTTPException) -> JSONResponse:
        return body(error.status_code, str(error.detail))

    @app.exception_handler(Exception)
    async def mistake_of_ours(request: Request, error: Exception) -> JSONResponse:
        return body(500, f"the trainer made a mistake: {type(error).__name__}, see its log")

    @app.exception_handler(RequestValidationError)
    async def validation_error(request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        # ("body", "method", "supervised") reads as method.supervised.
        place = ".".join(str(part) for part in first["loc"] if part not in ("body", "query", "path"))
        return body(400, f"{place or 'request'}: {first['msg']} — got {first.get('input')!r}", place or None)
