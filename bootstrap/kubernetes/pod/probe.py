"""Asks vLLM or the trainer of this pod whether it works; the kubelet runs it. Exit status 0 for yes, 1 with the reason.

probe.py token PORT SECONDS    made a token: for others since the last look, or one for this probe within SECONDS
probe.py alive PORT SECONDS    does not hang: with requests waiting it makes a token at least every SECONDS
probe.py health PORT           GET /health answers 200

vLLM's /health says 200 while its engine is hung or about to die, so only tokens count. A probe of a busy engine sends
no request of its own: it would wait behind the users' and take the pod out of service just when it works hardest.
Standard library only, Python 3.9 or newer. Reads VLLM_API_KEY.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import sys
import time
from pathlib import Path
from typing import Any, NoReturn

# Shared by the runs of the probes in one container.
MEMORY = Path(os.environ.get("TANDEM_PROBE_MEMORY", "/tmp/tandem-probe"))
ANSWER_SECONDS = 5.0


def fail(text: str) -> NoReturn:
    print(text)
    raise SystemExit(1)


def ask(port: int, path: str, body: Any = None, limit_seconds: float = ANSWER_SECONDS) -> str:
    """The text of an answer. Ends the probe when there is none, or not 200."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=limit_seconds)
    headers = {"Authorization": f"Bearer {os.environ.get('VLLM_API_KEY', '')}", "Content-Type": "application/json"}
    try:
        connection.request("GET" if body is None else "POST", path, body and json.dumps(body), headers)
        response = connection.getresponse()
        text = response.read().decode(errors="replace")
    except (OSError, http.client.HTTPException) as error:
        fail(f"port {port}{path} gives no answer within {limit_seconds:g} s: {error}")
    finally:
        connection.close()
    if response.status != 200:
        fail(f"port {port}{path} answers {response.status}: {text[:200]}")
    return text


def total(metrics: str, name: str) -> float:
    """The sum of a metric over its labels."""
    values = re.findall(rf"^{re.escape(name)}(?:\{{[^}}]*\}})? ([0-9.eE+-]+)$", metrics, re.MULTILINE)
    return sum(float(value) for value in values)


def engine(port: int) -> tuple[float, float]:
    """Tokens made so far, and requests that are being worked on or wait."""
    metrics = ask(port, "/metrics")
    made = total(metrics, "vllm:generation_tokens_total") + total(metrics, "vllm:prompt_tokens_total")
    return made, total(metrics, "vllm:num_requests_running") + total(metrics, "vllm:num_requests_waiting")


def recall(name: str) -> dict[str, float] | None:
    try:
        remembered = json.loads((MEMORY / f"{name}.json").read_text())
    except (OSError, ValueError):
        return None
    return remembered if isinstance(remembered, dict) else None


def remember(name: str, values: dict[str, float]) -> None:
    MEMORY.mkdir(parents=True, exist_ok=True)
    fresh = MEMORY / f"{name}.{os.getpid()}"
    fresh.write_text(json.dumps(values))
    fresh.replace(MEMORY / f"{name}.json")


def token(port: int, limit_seconds: float) -> None:
    ask(port, "/health")
    made, _ = engine(port)
    before = recall("token")
    # A counter that went back belongs to an engine that was started again.
    if before is not None and made > before["made"]:
        remember("token", {"made": made})
        return
    model = json.loads(ask(port, "/v1/models"))["data"][0]["id"]
    body = {"model": model, "prompt": "1", "max_tokens": 1, "temperature": 0}
    answer = json.loads(ask(port, "/v1/completions", body, limit_seconds))
    if answer["usage"]["completion_tokens"] < 1:
        fail("the engine answers without a token")
    remember("token", {"made": engine(port)[0]})


def alive(port: int, limit_seconds: float) -> None:
    made, requests = engine(port)
    before = recall("alive")
    now = time.monotonic()
    if requests == 0 or before is None or made != before["made"]:
        remember("alive", {"made": made, "since": now})
    elif now - before["since"] > limit_seconds:
        fail(f"{requests:g} requests and no token for {now - before['since']:.0f} s: the engine hangs")


def main(what: str, port: int, limit_seconds: float) -> None:
    if what == "token":
        token(port, limit_seconds)
    elif what == "alive":
        alive(port, limit_seconds)
    elif what == "health":
        ask(port, "/health")
    else:
        fail(f"probe.py — got '{what}' — allowed: token, alive, health")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]) if len(sys.argv) > 3 else ANSWER_SECONDS)
