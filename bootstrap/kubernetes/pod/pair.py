"""Runs vLLM and then the trainer in one container, where the cluster gives a GPU to one container only.

Reads $TANDEM_PAIR: {"serving": {"argv", "env", "port"}, "training": the same}. vLLM first, alone, while it measures
memory. A trainer that ends is started again, after a pause that grows; when vLLM ends, the container does, with its
exit status, and the kubelet starts both again. SIGTERM is handed to the trainer first, which keeps its jobs'
checkpoints, then to vLLM. As the container's first process it also reaps what its children leave behind.
Standard library only, Python 3.9 or newer.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from typing import Any

from after_serving import answers

LONGEST_PAUSE_SECONDS = 300
# Below the pod's grace period, in which vLLM has to end as well.
TRAINER_STOP_SECONDS = 60
STOPS = (signal.SIGTERM, signal.SIGINT)


@contextlib.contextmanager
def stops_held() -> Iterator[None]:
    """What would stop us waits until the end of this, also in a process that is forked meanwhile."""
    previous = signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, previous)


class Child:
    def __init__(self, name: str, part: dict[str, Any]) -> None:
        self.name = name
        self._part = part
        self.pid: int | None = None

    def start(self) -> None:
        argv = self._part["argv"]
        with stops_held():
            self.pid = os.fork()
            if self.pid == 0:
                try:
                    os.setsid()
                    for number in STOPS:
                        signal.signal(number, signal.SIG_DFL)
                    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPS)
                    os.execvpe(argv[0], argv, {**os.environ, **self._part["env"]})
                except OSError as error:
                    print(f"{self.name} can't be started: {error}", flush=True)
                os._exit(127)
        print(f"{self.name} starts as process {self.pid}", flush=True)

    def stop(self, number: int) -> None:
        """To the whole process group: vLLM's workers are processes of their own."""
        if self.pid is not None:
            # One that was forked a moment ago may have none yet.
            for tell in (os.killpg, os.kill):
                with contextlib.suppress(ProcessLookupError):
                    tell(self.pid, number)
                    return


class Pair:
    def __init__(self, request: dict[str, Any]) -> None:
        self._port = request["serving"]["port"]
        self.serving = Child("vLLM", request["serving"])
        self.training = Child("the trainer", request["training"])
        self._pause = 1
        self._due = 0.0
        self._stop_by: float | None = None
        self._is_serving_told = False

    def stop(self, _number: int, _frame: object) -> None:
        if self._stop_by is None:
            self._stop_by = time.monotonic() + TRAINER_STOP_SECONDS
            self.training.stop(signal.SIGTERM)

    def run(self) -> int:
        for number in STOPS:
            signal.signal(number, self.stop)
        self.serving.start()
        while True:
            status = self._reap()
            if status is not None:
                self.training.stop(signal.SIGKILL)
                return status
            self._next()
            time.sleep(0.2)

    def _reap(self) -> int | None:
        """vLLM's exit status when it has ended."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return 1
            if pid == 0:
                return None
            code = os.waitstatus_to_exitcode(status)
            if pid == self.serving.pid:
                print(f"vLLM ended with {code}", flush=True)
                return 128 - code if code < 0 else code
            if pid == self.training.pid:
                self.training.pid = None
                if self._stop_by is None:
                    print(f"the trainer ended with {code}; it is started again in {self._pause} s", flush=True)
                self._due = time.monotonic() + self._pause
                self._pause = min(2 * self._pause, LONGEST_PAUSE_SECONDS)

    def _next(self) -> None:
        now = time.monotonic()
        if self._stop_by is not None:
            if not self._is_serving_told and (self.training.pid is None or now > self._stop_by):
                self._is_serving_told = True
                self.serving.stop(signal.SIGTERM)
            return
        if self.training.pid is None and now >= self._due and answers(self._port):
            with stops_held():
                # It may have come while vLLM was asked; nobody would tell the trainer then.
                if self._stop_by is None:
                    self.training.start()


if __name__ == "__main__":
    sys.exit(Pair(json.loads(os.environ["TANDEM_PAIR"])).run())
