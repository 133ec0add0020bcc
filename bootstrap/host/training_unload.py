"""Has vLLM forget the adapters that the trainer gave it, before their files go.

A vLLM that reads one again and does not find it ends as a whole (seen with 0.32.0).

Usage: training_unload.py UNIT_FOLDER ADAPTERS_FOLDER. Never fails: a vLLM that does not answer reads nothing.
Standard library only, Python 3.9 or newer.
"""

from __future__ import annotations

import json
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

LIMIT_SECONDS = 10


def call(url: str, key: str, body: dict[str, Any] | None = None) -> bytes:
    data = None if body is None else json.dumps(body).encode()
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(urllib.request.Request(url, data, headers), timeout=LIMIT_SECONDS) as answer:
        return bytes(answer.read())


def unload(vllm: str, key: str, adapters: str) -> None:
    for model in json.loads(call(f"{vllm}/v1/models", key))["data"]:
        if model.get("parent") and str(model.get("root", "")).startswith(f"{adapters}/"):
            call(f"{vllm}/v1/unload_lora_adapter", key, {"lora_name": model["id"]})
            print(f"vLLM forgets {model['id']}", file=sys.stderr)


def main(folder: Path, adapters: str) -> None:
    argv = json.loads((folder / "unit.json").read_text())["argv"]
    key = json.loads((folder / "secret.json").read_text()).get("VLLM_API_KEY", "")
    for option, value in zip(argv, argv[1:]):
        if option == "--vllm":
            try:
                unload(value, key, adapters)
            except (OSError, ValueError, KeyError, urllib.error.URLError) as error:
                print(f"{value} was not asked to forget adapters: {error}", file=sys.stderr)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
