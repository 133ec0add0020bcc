"""`python -m tandem_trainer`: the service, on 127.0.0.1."""

from __future__ import annotations

import fcntl
import logging
import os
import sys

import uvicorn

from .adapters import AdapterError
from .api import make_app
from .settings import read_settings


def main(argv: list[str]) -> int:
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    # What is kept here is for this user only.
    os.umask(0o077)
    settings = read_settings(argv)
    settings.state.mkdir(parents=True, exist_ok=True)
    with open(settings.state / "lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"--state — {settings.state} is in use by another trainer", file=sys.stderr)
            return 2
        try:
            app = make_app(settings)
        except (AdapterError, ValueError) as error:
            print(error, file=sys.stderr)
            return 2
        uvicorn.run(app, host="127.0.0.1", port=settings.port, log_level="warning", timeout_graceful_shutdown=20)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
