"""A stand-in for vLLM 0.32's adapter routes, so that what the trainer does when a vLLM dies, waits or refuses takes no
minute a case. It holds names and paths and generates nothing. `test_with_vllm.py` asks it and the real one the same
questions and compares the answers. What is claimed of vLLM itself is tested with vLLM itself.
"""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


class FakeVllm:
    """Listens on one port of 127.0.0.1; `kill` and `start` restart it there with no adapters, as vLLM does."""

    def __init__(self, base: str = "base", root: str = "/model", key: str | None = None, max_rank: int = 16) -> None:
        self.base = base
        self.root = root
        self.key = key
        self.max_rank = max_rank
        self.adapters: dict[str, str] = {}
        self.requests: list[str] = []
        self.refusal: str | None = None
        # Held back by a test: each load, and what comes after the first piece of a stream.
        self.may_load, self.may_go_on = threading.Event(), threading.Event()
        for gate in (self.may_load, self.may_go_on):
            gate.set()
        self.port = 0
        self._server: ThreadingHTTPServer | None = None
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        fake = self
        ThreadingHTTPServer.allow_reuse_address = True

        class Handler(FakeHandler):
            vllm = fake

        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def kill(self) -> None:
        """Requests that are being answered get no answer."""
        server, self._server = self._server, None
        self.adapters.clear()
        if server:
            server.shutdown()
            server.server_close()

    @property
    def is_up(self) -> bool:
        return self._server is not None

    def load(self, body: dict[str, Any]) -> tuple[int, Any] | None:
        """Status and body; None when it was killed meanwhile."""
        name, path = body["lora_name"], Path(body["lora_path"])
        server = self._server
        while not self.may_load.wait(0.02):
            if self._server is not server:
                return None
        if self.refusal:
            return 500, error(self.refusal, "InternalServerError", 500)
        if not body.get("load_inplace") and name in self.adapters:
            text = f"The lora adapter '{name}' has already been loaded. If you want to load the adapter in place, set "
            text += "'load_inplace' to True."
            return 400, error(text, "InvalidUserInput", 400)
        try:
            config = json.loads((path / "adapter_config.json").read_text())
            (path / "adapter_model.safetensors").read_bytes()
        except OSError:
            return 404, error(f"Loading lora {name} failed: No adapter found for <path>", "NotFoundError", 404)
        if config["r"] > self.max_rank:
            text = f"LoRA rank {config['r']} is greater than max_lora_rank {self.max_rank}."
            return 500, error(text, "InternalServerError", 500)
        self.adapters[name] = str(path)
        return 200, f"Success: LoRA adapter '{name}' added successfully."

    def unload(self, body: dict[str, Any]) -> tuple[int, Any]:
        name = body["lora_name"]
        if self.adapters.pop(name, None) is None:
            return 404, error(f"The lora adapter '{name}' cannot be found.", "NotFoundError", 404)
        return 200, f"Success: LoRA adapter '{name}' removed successfully."

    def models(self) -> dict[str, Any]:
        # A list at once: another thread may be loading one.
        cards = [(self.base, self.root, None), *((name, path, self.base) for name, path in list(self.adapters.items()))]
        keys = ("id", "root", "parent")
        return {"object": "list", "data": [{**dict(zip(keys, card, strict=True)), "object": "model"} for card in cards]}


def error(message: str, kind: str, code: int) -> dict[str, Any]:
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


class FakeHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    vllm: FakeVllm

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def answer(self, status: int, body: Any) -> None:
        if not self.vllm.is_up:
            # Killed meanwhile.
            self.close_connection = True
            return
        data = body.encode() if isinstance(body, str) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/plain" if isinstance(body, str) else "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def may(self) -> bool:
        vllm = self.vllm
        vllm.requests.append(f"{self.command} {self.path}")
        if not vllm.is_up:
            self.close_connection = True
            return False
        if vllm.key and self.path.startswith("/v1") and self.headers.get("Authorization") != f"Bearer {vllm.key}":
            self.answer(401, {"error": "Unauthorized"})
            return False
        return True

    def do_GET(self) -> None:
        if not self.may():
            return
        if self.path == "/health":
            self.answer(200, "")
        elif self.path == "/v1/models":
            self.answer(200, self.vllm.models())
        else:
            self.answer(404, {"detail": "Not Found"})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length", "0"))) or b"{}")
        if not self.may():
            return
        if self.path == "/v1/load_lora_adapter":
            loaded = self.vllm.load(body)
            if loaded:
                self.answer(*loaded)
            else:
                self.close_connection = True
        elif self.path == "/v1/unload_lora_adapter":
            self.answer(*self.vllm.unload(body))
        elif self.path in ("/v1/completions", "/v1/chat/completions"):
            self.complete(body)
        else:
            self.answer(404, {"detail": "Not Found"})

    def complete(self, body: dict[str, Any]) -> None:
        model = body["model"]
        if model != self.vllm.base and model not in self.vllm.adapters:
            self.answer(404, error(f"The model `{model}` does not exist.", "NotFoundError", 404))
            return
        if body.get("stream"):
            self.stream(model)
            return
        message = {"text": f"from {model}", "message": {"role": "assistant", "content": f"from {model}"}}
        self.answer(
            200,
            {
                "id": "cmpl-1",
                "object": "chat.completion",
                "created": 0,
                "model": model,
                "choices": [{"index": 0, "finish_reason": "stop", **message}],
            },
        )

    def stream(self, model: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        for piece in ("one ", "two"):
            chunk = {
                "id": "c",
                "object": "chat.completion.chunk",
                "created": 0,
                "model": model,
                "choices": [{"index": 0, "delta": {"content": piece}, "finish_reason": None}],
            }
            self.wfile.write(f"data: {json.dumps(chunk)}\n\n".encode())
            self.wfile.flush()
            if not self.vllm.may_go_on.wait(20):
                return
        self.wfile.write(b"data: [DONE]\n\n")
