"""Uses and measures the vLLM of this pod, in its container, and prints what was found as one JSON object: Proof of
plan/proof.ts. The first line of standard input is {"model", "servingPort", "gatewayPort", "apiKey", "deadlineSeconds",
"training": {"url", "deadlineSeconds"} or nothing}. Standard library only, Python 3.9 or newer.

Exit status: 41 no token within the deadline, 42 the service refused a request, 43 the gateway does not guard it.
"""

from __future__ import annotations

import http.client
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from prove import PROMPT, Service, fail, generate, kv_cache_tokens, tell, tokens_per_second, train
from prove_processes import count_workers, measure_gpus, processes_below

EXIT_GATEWAY = 43


def status(port: int, path: str, key: str | None) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request("GET", path, headers={"Authorization": f"Bearer {key}"} if key else {})
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return 0
    finally:
        connection.close()


def prove_gateway(port: int, key: str) -> None:
    """Closed without a key, open with it, and nothing beyond the allow-list."""
    for who, path, used, wanted in (
        ("no key", "/v1/models", None, 401),
        ("the key", "/v1/models", key, 200),
        ("the key", "/invocations", key, 404),
    ):
        got = status(port, path, used)
        if got != wanted:
            fail(EXIT_GATEWAY, f"the gateway answers {got} to {path} with {who} — expected: {wanted}")


def measure(workers: list[dict[str, Any]], processes: dict[int, tuple[int, str]], trains: bool) -> list[dict[str, Any]]:
    """
    In a container the driver names processes by the node's ids, which say nothing here. What the pod's GPUs hold is
    vLLM's as long as nothing trains, since nobody else has them; with a trainer nobody can tell the two apart.
    """
    with tempfile.TemporaryDirectory() as folder:
        before = Path(folder) / "gpu-before"
        if not trains:
            before.touch()
        return measure_gpus(processes, workers, before)


def main() -> int:
    request = json.loads(sys.stdin.readline())
    port = request["servingPort"]
    key = os.environ.get("VLLM_API_KEY", "")
    service = Service(f"http://127.0.0.1:{port}", key, request["model"])
    tell("asking for a token")
    generated = generate(service, PROMPT, float(request["deadlineSeconds"]))
    tell(f"{generated['tokens']} tokens in {generated['seconds']} s: {generated['text'].strip()[:120]}")
    models = json.loads(service.get("/v1/models"))["data"]
    speed = tokens_per_second(service)
    # The container's first process is vLLM, or what started it.
    processes = processes_below(int(os.environ.get("TANDEM_FIRST_PROCESS", "1")))
    counted = count_workers(processes)
    gpus = measure(counted["workers"], processes, "training" in request)
    prove_gateway(request["gatewayPort"], request["apiKey"])
    proof = {
        "generated": generated,
        "models": [entry["id"] for entry in models],
        "maxModelLen": next((entry.get("max_model_len") for entry in models if entry["id"] == request["model"]), None),
        "kvCacheTokens": kv_cache_tokens(service.get("/metrics"), Path(os.devnull)),
        **counted,
        "gpus": gpus,
        "tokensPerSecond": speed,
        "training": train(request["training"], key) if "training" in request else None,
    }
    print(json.dumps({name: value for name, value in proof.items() if value is not None}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
