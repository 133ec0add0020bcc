"""A stand-in for vLLM's OpenAI server; see the README of test/fakes/vllm. Standard library only."""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

ANSWER = "The capital of France is Paris."
# The options that Tandem looks for; the real list has some three hundred.
OPTIONS = [
    "--model",
    "--served-model-name",
    "--host",
    "--port",
    "--dtype",
    "--max-model-len",
    "--tensor-parallel-size",
    "--data-parallel-size",
    "--pipeline-parallel-size",
    "--kv-cache-memory-bytes",
    "--gpu-memory-utilization",
    "--max-loras",
    "--max-lora-rank",
    "--max-num-seqs",
]
SWITCHES = ["--enable-lora", "--enforce-eager", "--trust-remote-code", "--disable-custom-all-reduce"]
# A failure of this host alone, where the settings are those of all.
FAILURE = Path("/run/fake-vllm-fail")
# While it is there no request gets an answer, and all else says that nothing is wrong.
HANG = Path("/tmp/fake-vllm-hang")
CLOSED = ("/v1", "/v2", "/inference", "/cohere")


def log(process: str, text: str) -> None:
    print(f"{process}INFO {time.strftime('%m-%d %H:%M:%S')} [stand_in.py:1] {text}", flush=True)


def read_arguments() -> dict[str, Any]:
    parser = argparse.ArgumentParser(prog="api_server.py", add_help=False)
    parser.add_argument("--help", nargs="?", const="all")
    for option in OPTIONS:
        parser.add_argument(option)
    for switch in SWITCHES:
        parser.add_argument(switch, action="store_true")
    known, unknown = parser.parse_known_args()
    if known.help is not None:
        print("\n".join(f"  {option} VALUE" for option in OPTIONS), *(f"  {switch}" for switch in SWITCHES), sep="\n")
        raise SystemExit(0)
    if unknown:
        print(f"api_server.py: error: unrecognized arguments: {' '.join(unknown)}", file=sys.stderr)
        raise SystemExit(2)
    return vars(known)


def kv_cache_tokens(arguments: dict[str, Any]) -> int:
    """Tokens that the cache holds: bytes over what one token takes in all layers."""
    config = json.loads((Path(arguments["model"]) / "config.json").read_text())
    head = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
    width = {"float32": 4}.get(arguments["dtype"], 2)
    token_bytes = 2 * config["num_hidden_layers"] * config["num_key_value_heads"] * head * width
    return int(arguments["kv_cache_memory_bytes"]) // token_bytes


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    arguments: ClassVar[dict[str, Any]] = {}
    tokens = 0
    generated = 0
    running = 0
    counting = threading.Lock()

    def log_message(self, format: str, *args: Any) -> None:
        log(f"(APIServer pid={os.getpid()}) ", format % args)

    def answer(self, status: int, body: Any, kind: str = "application/json") -> None:
        data = body.encode() if isinstance(body, str) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def is_refused(self) -> bool:
        key = os.environ.get("VLLM_API_KEY", "")
        if not key or not self.path.startswith(CLOSED) or self.headers.get("Authorization") == f"Bearer {key}":
            return False
        self.answer(401, {"error": "Unauthorized"})
        return True

    def do_GET(self) -> None:
        if self.is_refused():
            return
        name = self.arguments["served_model_name"]
        if self.path == "/health":
            self.answer(200, "")
        elif self.path == "/v1/models":
            length = int(self.arguments["max_model_len"])
            model = {"id": name, "object": "model", "owned_by": "vllm", "root": self.arguments["model"], "parent": None}
            self.answer(200, {"object": "list", "data": [{**model, "max_model_len": length}]})
        elif self.path == "/metrics":
            self.answer(200, self.metrics(), "text/plain")
        else:
            self.answer(404, {"detail": "Not Found"})

    def metrics(self) -> str:
        labels = f'{{engine="0",model_name="{self.arguments["served_model_name"]}"}}'
        return (
            f'vllm:cache_config_info{{kv_cache_size_tokens="{self.tokens}"}} 1.0\n'
            f"vllm:num_requests_running{labels} {self.running:.1f}\n"
            f"vllm:num_requests_waiting{labels} 0.0\n"
            f"vllm:generation_tokens_total{labels} {self.generated:.1f}\n"
        )

    def count(self, running: int, generated: int = 0) -> None:
        with self.counting:
            Handler.running += running
            Handler.generated += generated

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length", "0"))) or b"{}")
        if self.is_refused():
            return
        if self.path not in ("/v1/chat/completions", "/v1/completions"):
            self.answer(404, {"detail": "Not Found"})
            return
        is_chat = "chat" in self.path
        count = int(body.get("max_tokens", 16)) if body.get("ignore_eos") else 8
        self.count(1)
        while HANG.exists():
            time.sleep(0.2)
        self.count(-1, count)
        usage = {"prompt_tokens": 9, "completion_tokens": count, "total_tokens": 9 + count}
        if body.get("stream"):
            self.stream(usage)
            return
        part = {"message": {"role": "assistant", "content": ANSWER}} if is_chat else {"text": ANSWER}
        choice = {"index": 0, "finish_reason": "stop", **part}
        self.answer(200, {"id": "cmpl-1", "model": body.get("model"), "choices": [choice], "usage": usage})

    def stream(self, usage: dict[str, int]) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        for piece in ({"choices": [{"text": ANSWER}]}, {"choices": [], "usage": usage}, None):
            text = "[DONE]" if piece is None else json.dumps(piece)
            self.wfile.write(f"data: {text}\n\n".encode())
        self.close_connection = True


def start_engines(count: int) -> list[subprocess.Popen[bytes]]:
    """One process for each engine, as vLLM has, and with its name, by which it is counted and logs."""
    engines = []
    for rank in range(count):
        name = "EngineCore" if count == 1 else f"EngineCore_DP{rank}"
        sleep = [f"VLLM::{name}", "-c", "import time; time.sleep(1e9)"]
        engines.append(subprocess.Popen(sleep, executable=sys.executable))
        log(f"({name} pid={engines[-1].pid}) ", "Initializing a V1 LLM engine (stand-in)")
    return engines


def main() -> None:
    arguments = read_arguments()
    api = f"(APIServer pid={os.getpid()}) "
    log(api, "Starting vLLM API server 0")
    engines = start_engines(int(arguments["data_parallel_size"] or 1))
    failure = os.environ.get("FAKE_VLLM_FAIL", "")
    if FAILURE.exists():
        failure = FAILURE.read_text().strip()
    if failure:
        print(f"(EngineCore_DP0 pid={engines[0].pid}) ERROR 11-25 00:00:00 [core.py:1] {failure}", flush=True)
    else:
        time.sleep(float(os.environ.get("FAKE_VLLM_START_SECONDS", "0")))
        _weights = b"w" * (int(os.environ.get("FAKE_VLLM_MEMORY_MIB", "0")) << 20)
    if not failure:
        Handler.arguments, Handler.tokens = arguments, kv_cache_tokens(arguments)
        log(f"(EngineCore_DP0 pid={engines[0].pid}) ", f"CPU KV cache size: {Handler.tokens:,} tokens")
        server = ThreadingHTTPServer((arguments["host"], int(arguments["port"])), Handler)
        signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
        print(f"(APIServer pid={os.getpid()}) INFO:     Application startup complete.", flush=True)
        server.serve_forever(0.05)
    for engine in engines:
        engine.terminate()
        engine.wait()
    raise SystemExit(1 if failure else 0)


if __name__ == "__main__":
    main()
