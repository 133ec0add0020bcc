"""Waits until vLLM answers on PORT and then becomes the command: vLLM measures the GPUs' memory while alone on them.

after_serving.py PORT -- COMMAND…

There is no limit of its own: the container's start-up probe has one. Standard library only, Python 3.9 or newer.
"""

from __future__ import annotations

import http.client
import os
import sys
import time


def answers(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def main(port: int, command: list[str]) -> None:
    print(f"waiting for vLLM on port {port}", flush=True)
    while not answers(port):
        time.sleep(1)
    print("vLLM answers; starting the trainer", flush=True)
    os.execvp(command[0], command)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[3:])
