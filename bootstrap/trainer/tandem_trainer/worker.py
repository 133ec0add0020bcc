"""The worker process: `python -m tandem_trainer.worker`, or the same under torchrun. Settings in TANDEM_WORKER."""

from __future__ import annotations

import importlib
import json
import os
import socket
import sys
import traceback
from typing import Any

from .backend import AdapterConfig, Backend, BackendError, Batch, WorkerSettings

# Each module has `make_backend(WorkerSettings) -> Backend`, which returns once the base model is resident.
BACKENDS = {"huggingface": ".huggingface", "megatron-bridge": ".megatron"}


def call(backend: Backend, op: str, args: dict[str, Any]) -> dict[str, Any]:
    """Does one operation of the protocol."""
    if op == "create":
        return backend.create(args["job"], AdapterConfig.from_json(args["config"]))
    if op == "step":
        return backend.step(args["job"], Batch.from_json(args["batch"]), args["learning_rate"])
    if op == "save":
        return backend.save(args["job"], args["path"], args["with_state"])
    if op == "restore":
        return backend.restore(args["job"], AdapterConfig.from_json(args["config"]), args["path"])
    if op == "drop":
        return backend.drop(args["job"])
    if op == "memory":
        return backend.memory()
    raise BackendError("invalid", f"operation — got '{op}' — allowed: create, step, save, restore, drop, memory")


def error_of(error: Exception) -> dict[str, Any]:
    """What the API process is told; the whole traceback goes to the log."""
    if isinstance(error, BackendError):
        return {"kind": error.kind, "message": error.message, "details": error.details}
    traceback.print_exc()
    return {"kind": "failed", "message": f"{type(error).__name__}: {error}", "details": {}}


def serve(backend: Backend, link: socket.socket) -> None:
    """Answers requests until the other side closes or a fatal error was answered."""
    send(link, {"hello": backend.describe()})
    for line in link.makefile("r", encoding="utf-8"):
        request = json.loads(line)
        if request["op"] == "exit":
            return
        fatal = False
        try:
            answer = {"id": request["id"], "result": call(backend, request["op"], request["args"])}
        except Exception as error:
            fatal = isinstance(error, BackendError) and error.fatal
            answer = {"id": request["id"], "error": error_of(error)}
        send(link, answer)
        if fatal:
            sys.exit(1)


def send(link: socket.socket, message: dict[str, Any]) -> None:
    link.sendall(json.dumps(message, separators=(",", ":")).encode() + b"\n")


def main() -> None:
    settings = WorkerSettings(**json.loads(os.environ["TANDEM_WORKER"]))
    # Rank 0 connects before it loads anything, so that a failure to load reaches the API process.
    link = None
    if os.environ.get("RANK", "0") == "0":
        link = socket.socket(socket.AF_UNIX)
        link.connect(settings.socket)
    try:
        backend = importlib.import_module(BACKENDS[settings.backend], __package__).make_backend(settings)
    except Exception as error:
        if link:
            send(link, {"hello_error": error_of(error)})
        sys.exit(1)
    if backend.is_leader and link:
        serve(backend, link)
    else:
        backend.follow()


if __name__ == "__main__":
    main()
