"""What ends a job, or the trainer, though nobody asked for it."""

from __future__ import annotations

import asyncio
import errno
import signal
from pathlib import Path
from types import SimpleNamespace

import pytest

from tandem_trainer import jobs as jobs_module
from tandem_trainer.api import make_app
from tandem_trainer.jobs import Jobs
from tandem_trainer.scheduler import Scheduler
from tandem_trainer.settings import Settings
from tandem_trainer.store import Job, Store


def test_a_trainer_whose_scheduler_fails_ends_so_that_it_is_started_again(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run(_: Scheduler) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Scheduler, "run", run)
    settings = Settings(tmp_path / "state", tmp_path / "memory", tiny_model, "base", (), (), None)
    asked_to_end = []
    before = signal.signal(signal.SIGTERM, lambda number, _: asked_to_end.append(number))

    async def main() -> None:
        app = make_app(settings)
        async with app.router.lifespan_context(app):
            for _ in range(100):
                await asyncio.sleep(0.05)
                if asked_to_end:
                    return

    try:
        asyncio.run(main())
    finally:
        signal.signal(signal.SIGTERM, before)
    assert asked_to_end == [signal.SIGTERM]


def test_a_job_whose_results_can_not_be_kept_fails_and_its_model_is_taken_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def keep_results(*_: object) -> str:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(jobs_module, "keep_results", keep_results)
    store = Store(tmp_path / "trainer.sqlite")
    served: dict[str, str] = {}

    async def publish(model: str, job: str, folder: str, limit_seconds: float) -> None:
        served[model] = folder

    async def withdraw(model: str, folder: str) -> None:
        del served[model]

    async def main() -> None:
        settings = SimpleNamespace(state=tmp_path, handover_seconds=5, copy_to=None)
        handover = SimpleNamespace(publish=publish, withdraw=withdraw, sweep=lambda _: None)
        jobs = Jobs(settings, store, handover, SimpleNamespace())
        scheduler = Scheduler(store, SimpleNamespace(), tmp_path, jobs.finish, 4, 50)
        jobs.attach(scheduler, SimpleNamespace())
        job = store.add_job(Job("ftjob-1", "running", "file-1", "ft:1", 0, document={}))
        store.add_metrics(job.id, 1, "Step 1/1", {"step": 1, "train_loss": 1.0, "tokens": 3})
        scheduler.hand_over(SimpleNamespace(job=job, folder=tmp_path / "jobs" / job.id))
        for _ in range(100):
            await asyncio.sleep(0.05)
            if store.job(job.id).is_over and not served:
                return

    asyncio.run(main())
    job = store.job("ftjob-1")
    assert job and (job.status, job.document["error"]["code"]) == ("failed", "disk_full")
    assert not served and not store.checkpoints("ftjob-1")
    store.close()
