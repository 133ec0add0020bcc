"""Keeps what vLLM was measured to take of a GPU beside its KV cache, for later plans of the same model and layout.

The record is one line of JSON beside the weights, which facts.sh reads back. Standard library only, Python 3.9 or
newer.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

GIB = 1 << 30


def keep_footprint(request: dict[str, Any], workers: list[dict[str, Any]], gpus: list[dict[str, Any]]) -> None:
    """
    Writes the file $TANDEM_FOOTPRINT, or nothing where the GPUs' memory could not be told by the workers' own
    processes: what a GPU holds more than before the start may be the trainer's.
    """
    path = os.environ.get("TANDEM_FOOTPRINT")
    if not path or not workers or not gpus or any("gpuIndex" not in worker for worker in workers):
        return
    # All GPUs have the same KV cache, so the fullest one decides.
    beside_gib = max(gpu["servingGiB"] for gpu in gpus) - request["kvCacheBytes"] / GIB
    record = {
        "key": request["footprintKey"],
        "besideKvGiB": round(beside_gib, 3),
        "measuredAt": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
    part = Path(f"{path}.part")
    part.write_text(json.dumps(record, ensure_ascii=False, separators=(",", ":")) + "\n")
    part.replace(path)
