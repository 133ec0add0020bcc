"""What happens when two things meet: each case brings about one order of events that a busy machine makes at times."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tandem_trainer import jobs as jobs_module
from tandem_trainer import scheduler as scheduler_module
from tandem_trainer.backend import WorkerSettings
from tandem_trainer.errors import ApiError
from tandem_trainer.hyperparameters import Asked
from tandem_trainer.jobs import Jobs
from tandem_trainer.scheduler import Scheduler
from tandem_trainer.store import Job, Store
from tandem_trainer.turn import make_turn
from tandem_trainer.worker_process import Worker, WorkerDied

RESOLVED = Asked(n_steps=100, batch_size=1, lora_rank=1).resolve(2, 16, 0).to_json()


class HeldWorker:
    """Stands for the worker process: does a step when it is told to, so that a test chooses what comes in between."""

    is_up, is_dead = True, False

    def __init__(self) -> None:
        self.stepping = asyncio.Event()
        self.may_step = asyncio.Semaphore(0)
        self.start_error: Exception | None = None

    async def start(self) -> None:
        if self.start_error:
            raise self.start_error

    async def stop(self) -> None:
        pass

    async def call(self, op: str, **args: Any) -> dict[str, Any]:
        if op == "save":
            (Path(args["path"]) / "adapter_config.json").write_text("{}")
        if op != "step":
            return {}
        self.stepping.set()
        await self.may_step.acquire()
        self.stepping.clear()
        return {"loss": 1.0, "tokens": 1}

    async def do_steps(self, n: int) -> None:
        """And is in the middle of the next one then."""
        for _ in range(n):
            await self.stepping.wait()
            self.may_step.release()
            await asyncio.sleep(0.01)
        await self.stepping.wait()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    (tmp_path / "adapters").mkdir()
    store = Store(tmp_path / "trainer.sqlite")
    yield store
    store.close()


class Parts:
    """Jobs and their scheduler as the trainer has them, around that worker."""

    def __init__(self, store: Store, folder: Path) -> None:
        self.folder = folder
        self.store = store
        self.worker = HeldWorker()
        settings = SimpleNamespace(state=folder, model_name="base", max_sequence_length=64, max_rank=16)
        handover = SimpleNamespace(sweep=lambda _: None, withdraw=self._withdraw)
        base = SimpleNamespace(targets=lambda names: set(names))
        self.jobs = Jobs(settings, store, handover, base)
        self.scheduler = Scheduler(store, self.worker, folder, self.jobs.finish, 4, 50)
        self.jobs.attach(self.scheduler, SimpleNamespace())

    async def _withdraw(self, *_: object) -> None:
        pass

    def job(self, id: str, status: str = "queued") -> Job:
        """A job that is ready to be trained."""
        document = {"model": "base", "resolved": RESOLVED, "asked": {}, "seed": 0}
        job = Job(id, status, "file-1", f"ft:base:{id}", 0, document=document)
        self.jobs.folder(id).mkdir(parents=True)
        (self.jobs.folder(id) / "examples.jsonl").write_text("[1,[1,2],[0,1]]\n[2,[1,2],[0,1]]\n")
        return self.store.add_job(job)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        run = asyncio.create_task(self.scheduler.run())
        try:
            yield
        finally:
            self.scheduler.stop()
            for _ in range(9):
                self.worker.may_step.release()
            await asyncio.wait_for(run, 10)

    async def until(self, look: Any) -> None:
        async def looks() -> None:
            while not look():
                await asyncio.sleep(0.01)

        await asyncio.wait_for(looks(), 20)


@pytest.mark.parametrize("paused_before", [False, True])
def test_a_job_that_is_cancelled_in_a_step_stays_so_also_when_it_was_just_paused(
    store: Store, tmp_path: Path, paused_before: bool
) -> None:
    async def main() -> None:
        parts = Parts(store, tmp_path)
        parts.scheduler.enqueue(parts.job("ftjob-1"))
        async with parts.running():
            await parts.worker.do_steps(2)
            if paused_before:
                assert parts.jobs.pause("ftjob-1").status == "paused"
            assert parts.jobs.cancel("ftjob-1").status == "cancelled"
            told = [row["message"] for row in store.events("ftjob-1")]
            parts.worker.may_step.release()
            await parts.until(lambda: not parts.scheduler.active)
        now = store.job("ftjob-1")
        assert now and (now.status, now.step) == ("cancelled", 2) and now.finished_at
        assert [row["message"] for row in store.events("ftjob-1")] == told
        assert not parts.jobs.folder("ftjob-1").exists()

    asyncio.run(main())


def test_a_trainer_that_stops_keeps_the_steps_of_a_job_that_was_just_paused(store: Store, tmp_path: Path) -> None:
    async def main() -> None:
        parts = Parts(store, tmp_path)
        parts.scheduler.enqueue(parts.job("ftjob-1"))
        async with parts.running():
            await parts.worker.do_steps(2)
            parts.jobs.pause("ftjob-1")
        now = store.job("ftjob-1")
        assert now and (now.status, now.document["saved_step"]) == ("paused", 3)
        assert [path.name for path in parts.jobs.folder("ftjob-1").glob("resume-*")] == ["resume-3"]

    asyncio.run(main())


def test_a_worker_that_can_not_be_started_fails_no_job_that_is_paused(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scheduler_module, "MAX_STARTS", 1)

    async def main() -> None:
        parts = Parts(store, tmp_path)
        for id in ("ftjob-1", "ftjob-2"):
            parts.scheduler.enqueue(parts.job(id))
        async with parts.running():
            await parts.worker.do_steps(2)
            parts.jobs.pause("ftjob-2")
            parts.worker.start_error = OSError(28, "No space left on device")
            parts.worker.is_up = False
            parts.worker.may_step.release()
            await parts.until(lambda: not parts.scheduler.active)
        assert [store.job(id).status for id in ("ftjob-1", "ftjob-2")] == ["failed", "paused"]
        assert "No space left on device" in store.job("ftjob-1").document["error"]["message"]

    asyncio.run(main())


def test_a_job_whose_adapter_is_about_to_be_handed_over_is_no_more_in_training(store: Store, tmp_path: Path) -> None:
    async def main() -> None:
        parts = Parts(store, tmp_path)
        for id in ("ftjob-1", "ftjob-2"):
            parts.scheduler.hand_over(make_turn(parts.job(id, "running"), parts.jobs.folder(id)))
        # The tasks have not begun yet.
        with pytest.raises(ApiError, match="only a queued or running job can be paused"):
            parts.jobs.pause("ftjob-1")
        for id in ("ftjob-1", "ftjob-2"):
            parts.jobs.cancel(id)
        await parts.until(lambda: not parts.scheduler.handing_over("ftjob-1"))
        for id in ("ftjob-1", "ftjob-2"):
            assert store.job(id).status == "cancelled"
            assert [row["message"] for row in store.events(id)] == ["The job was cancelled at step 0"]

    asyncio.run(main())


def test_a_job_that_is_cancelled_while_its_file_is_read_leaves_nothing(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        parts = Parts(store, tmp_path)
        loop = asyncio.get_running_loop()
        job = store.add_job(Job("ftjob-1", "validating_files", "file-1", "ft:1", 0, document={"asked": {}, "seed": 0}))

        async def cancel() -> None:
            parts.jobs.cancel("ftjob-1")

        def tokenize(tokenizer: object, source: Path, target: Path, max_length: int) -> int:
            asyncio.run_coroutine_threadsafe(cancel(), loop).result(10)
            # A removal that met the file which was just being opened left the folder where it is.
            target.parent.mkdir(exist_ok=True)
            target.write_text("[1,[1,2],[0,1]]\n")
            return 1

        monkeypatch.setattr(jobs_module, "tokenize_file", tokenize)
        await parts.jobs._prepare(job)
        assert store.job("ftjob-1").status == "cancelled"
        assert not parts.jobs.folder("ftjob-1").exists()

    asyncio.run(main())


# Dies as one that the kernel kills for its memory while it loads the base model; the second one is up.
WORKER = """
import json, os, signal, socket, sys
link = socket.socket(socket.AF_UNIX)
link.connect(json.loads(os.environ["TANDEM_WORKER"])["socket"])
if not os.path.exists(sys.argv[1]):
    open(sys.argv[1], "w").close()
    if sys.argv[2] == "within its first word":
        link.sendall(b'{"hello": ')
    os.kill(os.getpid(), signal.SIGKILL)
link.sendall(b'{"hello": {"backend": "none"}}\\n')
link.recv(1)
"""


@pytest.mark.parametrize("when", ["before its first word", "within its first word"])
def test_a_worker_that_is_killed_while_it_loads_is_started_again(store: Store, tmp_path: Path, when: str) -> None:
    argv = [sys.executable, "-c", WORKER, str(tmp_path / "was-started"), when]

    async def main() -> None:
        worker = Worker(argv, WorkerSettings("huggingface", "model", ""), 20, 0)
        with pytest.raises(WorkerDied, match="the worker was killed by SIGKILL before it was ready"):
            await worker.start()
        os.unlink(tmp_path / "was-started")
        parts = Parts(store, tmp_path)
        parts.worker.is_up = False
        parts.scheduler._worker = worker
        async with parts.running():
            await parts.until(lambda: worker.is_up)

    asyncio.run(main())
