"""What the weights step's parts say and how they end. Standard library only, Python 3.9 or newer."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import NoReturn

EXIT_GATED = 21
EXIT_MISSING = 22
EXIT_NO_NETWORK = 23
EXIT_NO_DISK = 24
EXIT_NOT_A_MODEL = 29


def tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def fail(status: int, text: str) -> NoReturn:
    tell(text)
    raise SystemExit(status)


def require_disk(folder: Path, needed_bytes: int) -> None:
    """`needed_bytes` are free in the folder's disk, or the step ends with a message."""
    existing = folder
    while not existing.exists():
        existing = existing.parent
    stat = os.statvfs(existing)
    free = stat.f_bavail * stat.f_frsize
    if free < needed_bytes:
        gib = 1024**3
        fail(
            EXIT_NO_DISK,
            f"too little disk for the model in {existing} — got {free / gib:.1f} GiB free"
            f" — allowed: at least {needed_bytes / gib:.1f} GiB — fix: free some space, or set XDG_CACHE_HOME",
        )
