"""Uses and measures a running vLLM and prints what was found as one JSON object: Proof of plan/proof.ts, and the
unit's id.

Usage: prove.py UNIT_FOLDER, with the request in $TANDEM_REQUEST and { apiKey } on standard input.
Standard library only, Python 3.9 or newer.

Exit status: 41 no token within the deadline, 42 the service refused a request.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import sys
import time
import urllib.parse
from pathlib import Path
from typing import Any, NoReturn

from footprint import keep_footprint
from prove_processes import count_workers, measure_gpus, measure_processes, processes_below, with_logged_names
from supervise_container import container_pid

EXIT_LATE = 41
EXIT_REFUSED = 42
# Asks for a sentence: with the question alone the smallest models often begin with something else.
PROMPT = "What is the capital of France? Answer in one sentence."
ANSWER_TOKENS = 24
STREAM_TOKENS = 64


def tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def fail(status: int, text: str) -> NoReturn:
    tell(text)
    raise SystemExit(status)


class Service:
    """The OpenAI API at a base URL (without /v1)."""

    def __init__(self, base_url: str, key: str, model: str) -> None:
        url = urllib.parse.urlsplit(base_url)
        self._address = (url.hostname or "127.0.0.1", url.port or 80)
        self._headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        self.model = model

    def open(self, path: str, body: Any, limit_seconds: float) -> http.client.HTTPResponse:
        """Sends a request; the response is not read yet. Raises OSError, also when the limit is over."""
        connection = http.client.HTTPConnection(*self._address, timeout=limit_seconds)
        text = None if body is None else json.dumps({"model": self.model, **body})
        connection.request("GET" if body is None else "POST", path, text, self._headers)
        return connection.getresponse()

    def get(self, path: str) -> str:
        response = self.open(path, None, 30)
        text = response.read().decode()
        if response.status != 200:
            fail(EXIT_REFUSED, f"{path} answers {response.status}: {text[:300]}")
        return text


def generate(service: Service, prompt: str, deadline_seconds: float) -> dict[str, Any]:
    """One answer; the first request compiles kernels and fills caches, so it may take a while."""
    chat = {"messages": [{"role": "user", "content": prompt}], "max_tokens": ANSWER_TOKENS, "temperature": 0}
    plain = {"prompt": prompt, "max_tokens": ANSWER_TOKENS, "temperature": 0}
    started = time.monotonic()
    # A base model has no chat template: then vLLM refuses with 400, and plain completion is what it is for.
    for path, body in (("/v1/chat/completions", chat), ("/v1/completions", plain)):
        left = deadline_seconds - (time.monotonic() - started)
        try:
            response = service.open(path, body, max(0.1, left))
            text = response.read().decode()
        except (OSError, http.client.HTTPException) as error:
            why = "within the deadline" if isinstance(error, TimeoutError) else f"({error})"
            fail(EXIT_LATE, f"the service gave no token {why} — allowed: {deadline_seconds:g} s")
        if response.status == 200:
            answer = json.loads(text)
            choice = answer["choices"][0]
            content = choice["message"]["content"] if "message" in choice else choice["text"]
            tokens = answer["usage"]["completion_tokens"]
            return {"text": content or "", "tokens": tokens, "seconds": round(time.monotonic() - started, 3)}
        if response.status != 400:
            break
    fail(EXIT_REFUSED, f"{path} answers {response.status}: {text[:300]}")


def tokens_per_second(service: Service) -> float | None:
    """
    Speed of one stream, from the request to its last token. The service counts the tokens: a piece may hold several.
    """
    body = {
        "prompt": "Count: one, two, three,",
        "max_tokens": STREAM_TOKENS,
        "ignore_eos": True,
        "temperature": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    tokens = 0
    started = time.monotonic()
    try:
        response = service.open("/v1/completions", body, 60)
        for line in response:
            if line.startswith(b"data: {"):
                usage = json.loads(line[6:]).get("usage")
                tokens = usage["completion_tokens"] if usage else tokens
    except (OSError, http.client.HTTPException, ValueError):
        return None
    seconds = time.monotonic() - started
    return round(tokens / seconds, 2) if tokens else None


def kv_cache_tokens(metrics: str, log: Path) -> int | None:
    """Tokens that the KV cache of one replica holds; of several replicas the smallest counts."""
    found = [
        int(tokens) for tokens in re.findall(r'vllm:cache_config_info\{[^}]*kv_cache_size_tokens="(\d+)"', metrics)
    ]
    if found:
        return min(found)
    # Before 0.32 the metric had no such label; the log line is older.
    logged = re.findall(r"(?:GPU|CPU) KV cache size: ([\d,]+) tokens", log.read_text(errors="replace"))
    return min((int(tokens.replace(",", "")) for tokens in logged), default=None)


def train(request: dict[str, Any], key: str) -> dict[str, Any]:
    """One tiny job through the whole way of training, as the trainer's own check reports it."""
    deadline = float(request["deadlineSeconds"])
    tell("training a tiny adapter, loading and sampling it")
    trainer = Service(request["url"], key, "")
    started = time.monotonic()
    try:
        response = trainer.open(f"/health/deep?deadline={deadline:g}", None, deadline + 10)
        answer = json.loads(response.read().decode())
    except (OSError, ValueError, http.client.HTTPException) as error:
        seconds = round(time.monotonic() - started, 3)
        return {"status": "failed", "seconds": seconds, "detail": f"the trainer does not answer: {error}"}
    if "status" not in answer:
        answer = {"status": "failed", "detail": f"the trainer answers {response.status}: {json.dumps(answer)[:300]}"}
    seconds = answer.get("seconds", round(time.monotonic() - started, 3))
    return {"status": answer["status"], "seconds": seconds, "detail": answer["detail"]}


def measure_training(gpus: list[dict[str, Any]], folder: Path) -> None:
    """Adds what the trainer's processes hold of each GPU."""
    try:
        status = json.loads((folder / "status.json").read_text())
    except (OSError, ValueError):
        return
    held = {gpu["index"]: gpu["heldGiB"] for gpu in measure_processes(processes_below(status["supervisorPid"]))}
    for gpu in gpus:
        gpu["trainingGiB"] = held.get(gpu["index"], 0.0)


def service_key(folder: Path) -> str:
    """The key that the services of this host ask for: behind a gateway it is another than the callers'."""
    try:
        return json.loads((folder / "secret.json").read_text()).get("VLLM_API_KEY", "")
    except (OSError, ValueError):
        return ""


def main(folder: Path) -> int:
    request = json.loads(Path(os.environ["TANDEM_REQUEST"]).read_text())
    key = service_key(folder) or json.loads(sys.stdin.readline() or "{}").get("apiKey", "")
    service = Service(request["baseUrl"], key, request["model"])
    tell("asking for a token")
    generated = generate(service, request.get("prompt") or PROMPT, float(request["deadlineSeconds"]))
    tell(f"{generated['tokens']} tokens in {generated['seconds']} s: {generated['text'].strip()[:120]}")
    models = json.loads(service.get("/v1/models"))["data"]
    speed = tokens_per_second(service)
    status = json.loads((folder / "status.json").read_text())
    container = container_pid(json.loads((folder / "unit.json").read_text()))
    roots = [status["supervisorPid"], *([container] if container else [])]
    processes = with_logged_names(processes_below(*roots), folder / "log", container is not None)
    counted = count_workers(processes)
    gpus = measure_gpus(processes, counted["workers"], folder / "gpu-before")
    keep_footprint(request, counted["workers"], gpus)
    training = train(request["training"], key) if "training" in request else None
    if "training" in request:
        measure_training(gpus, folder.with_name(request["training"]["unit"]))
    proof = {
        "generated": generated,
        "models": [entry["id"] for entry in models],
        "maxModelLen": next((entry.get("max_model_len") for entry in models if entry["id"] == request["model"]), None),
        "kvCacheTokens": kv_cache_tokens(service.get("/metrics"), folder / "log"),
        **counted,
        "gpus": gpus,
        "tokensPerSecond": speed,
        "training": training,
        "gateway": request.get("gateway"),
        "unitId": status["unitId"],
    }
    print(json.dumps({name: value for name, value in proof.items() if value is not None}))
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
