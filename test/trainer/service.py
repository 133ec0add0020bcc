"""Starts the trainer as a unit would, and speaks to it with OpenAI's own client."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import openai

KEY = "tdm-test-key"
PACKAGE = Path(__file__).resolve().parent.parent.parent / "bootstrap" / "trainer"
TERMINAL = ("succeeded", "failed", "cancelled")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def until(what: str, look: Callable[[], Any], seconds: float = 60) -> Any:
    deadline = time.monotonic() + seconds
    while True:
        if found := look():
            return found
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
        time.sleep(0.05)


class Service:
    def __init__(self, root: Path, model: Path, vllms: list[str], *more: str, name: str = "base") -> None:
        self.root = root
        self.model_name = name
        self.package = str(PACKAGE)
        self.state = root / "state"
        self.adapters = root / "adapters"
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        argv = ["--state", str(self.state), "--adapters", str(self.adapters), "--model", str(model)]
        argv += ["--model-name", name, "--port", str(self.port), "--threads", "1", "--device", "cpu"]
        for url in vllms:
            argv += ["--vllm", url]
        self.argv = [
            sys.executable,
            "-m",
            "tandem_trainer",
            *argv,
            "--max-rank",
            "16",
            "--watch-seconds",
            "0.2",
            "--linger-seconds",
            "0.2",
            *more,
        ]
        self._process: subprocess.Popen[bytes] | None = None
        self.log = root / "log"
        self.client = openai.OpenAI(base_url=f"{self.url}/v1", api_key=KEY, max_retries=0, timeout=60)
        self.http = httpx.Client(base_url=self.url, headers={"Authorization": f"Bearer {KEY}"}, timeout=60)

    def start(self, *, prefix: tuple[str, ...] = ()) -> None:
        environment = {**os.environ, "VLLM_API_KEY": KEY, "PYTHONPATH": str(PACKAGE), "HF_HUB_OFFLINE": "1"}
        with open(self.log, "ab") as log:
            self._process = subprocess.Popen([*prefix, *self.argv], env=environment, stdout=log, stderr=log)
        until("the trainer is ready", self.is_ready, 400)

    def is_ready(self) -> bool:
        assert self._process and self._process.poll() is None, self.log.read_text()[-3000:]
        try:
            return self.http.get("/health").status_code == 200
        except httpx.HTTPError:
            return False

    def stop(self) -> None:
        if self._process:
            self._process.terminate()
            self._process.wait(60)

    def kill(self) -> None:
        assert self._process
        self._process.kill()
        self._process.wait()

    @property
    def worker_pid(self) -> int:
        """The worker: the child that is told so by its command line."""
        assert self._process
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
        for child in children:
            with contextlib.suppress(OSError):
                if b"tandem_trainer.worker" in Path(f"/proc/{child}/cmdline").read_bytes():
                    return int(child)
        raise AssertionError("there is no worker")

    def freeze_worker(self) -> None:
        """Holds the worker still; whatever it had answered has been seen, and it is asked for the next thing."""
        os.kill(self.worker_pid, signal.SIGSTOP)
        self.http.get("/health")

    def thaw_worker(self) -> None:
        os.kill(self.worker_pid, signal.SIGCONT)

    def kill_worker(self) -> None:
        """In the middle of a step: one that dies between two steps is started again, and no job is blamed."""
        self.freeze_worker()
        os.kill(self.worker_pid, signal.SIGKILL)

    def upload(self, rows: list[Any] | bytes, name: str = "data.jsonl") -> str:
        data = rows if isinstance(rows, bytes) else "".join(json.dumps(row) + "\n" for row in rows).encode()
        return self.client.files.create(file=(name, data), purpose="fine-tune").id

    def create(self, file: str, suffix: str | None = None, **values: Any) -> Any:
        """A job with hyper-parameters; `seed` stands beside them in OpenAI's API."""
        more: dict[str, Any] = {"seed": values.pop("seed")} if "seed" in values else {}
        if suffix:
            more["suffix"] = suffix
        method = {"type": "supervised", "supervised": {"hyperparameters": values}}
        return self.client.fine_tuning.jobs.create(model=self.model_name, training_file=file, method=method, **more)

    def over(self, job: str, seconds: float = 90) -> Any:
        def look() -> Any:
            now = self.client.fine_tuning.jobs.retrieve(job)
            return now if now.status in TERMINAL else None

        return until(f"{job} is over", look, seconds)

    def succeeded(self, job: str, seconds: float = 90) -> Any:
        now = self.over(job, seconds)
        assert now.status == "succeeded", (now.error, self.log.read_text()[-2000:])
        return now

    def losses(self, job: str) -> list[float]:
        events = self.client.fine_tuning.jobs.list_events(job, limit=100)
        data = [event.data for event in events if event.type == "metrics"]
        return [row["train_loss"] for row in sorted(data, key=lambda row: row["step"])]

    def messages(self, job: str) -> list[str]:
        return [event.message for event in self.client.fine_tuning.jobs.list_events(job, limit=100)]


def chats(n: int = 8, answer: str = "Lutz") -> list[dict[str, Any]]:
    return [
        {"messages": [{"role": "user", "content": f"hello {i}"}, {"role": "assistant", "content": f"{answer} {i}"}]}
        for i in range(n)
    ]
