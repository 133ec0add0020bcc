"""The deep check's report, whenever it happens to look; the check of a whole trainer is in test_api.py."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from tandem_trainer.chat import ModelTokenizer
from tandem_trainer.deep_health import DeepHealth
from tandem_trainer.store import Job, Store, new_id


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path / "trainer.sqlite")
    yield store
    store.close()


class JobsThatEndAtOnce:
    """Stands for the trainer's jobs: each is what it comes to before anybody looks, as on a fast machine."""

    max_length = 64
    base = SimpleNamespace(targets=lambda _: {"q_proj"})

    def __init__(self, store: Store, folder: Path, status: str, document: dict) -> None:
        self._store = store
        self._folder = folder
        self._ends = (status, document)
        self.scheduler = SimpleNamespace(enqueue=self._enqueue)

    def new_job(self, file: str, suffix: str, *, hidden: bool) -> Job:
        id = new_id("ftjob-")
        return Job(id, "running", file, f"ft:base:{suffix}:{id}", 0, hidden=hidden)

    def folder(self, job: str) -> Path:
        return self._folder / job

    def resolve_probe(self, n_examples: int, targets: set[str]) -> SimpleNamespace:
        return SimpleNamespace(to_json=lambda: {"examples": n_examples, "targets": sorted(targets)})

    def _enqueue(self, job: Job, *, first: bool) -> None:
        assert first
        job.status, job.document = self._ends[0], {**job.document, **self._ends[1]}
        self._store.add_metrics(job.id, 1, "Step 1/1", {"step": 1, "train_loss": 2.5})
        self._store.save_job(job)

    def stop_hidden(self, job: Job) -> None:
        job.status = "cancelled"

    def forget(self, job: Job) -> None:
        self._store.forget_job(job.id)


class OneReplica:
    replicas = ("http://127.0.0.1:1",)

    async def sample(self, model: str, limit_seconds: float) -> list[str]:
        return [f"{model} says good"]

    async def withdraw(self, model: str, job: str) -> None:
        pass


@pytest.mark.parametrize(
    ("status", "document", "says", "done"),
    [
        ("succeeded", {"is_trained": True}, "healthy", ["train", "load", "sample"]),
        ("failed", {"is_trained": True, "error": {"message": "no more room"}}, "failed", ["train"]),
        ("failed", {"error": {"message": "out of memory"}}, "failed", []),
    ],
)
def test_says_what_was_done_of_a_job_that_was_over_at_the_first_look(
    store: Store, tmp_path: Path, tiny_model: Path, status: str, document: dict, says: str, done: list[str]
) -> None:
    jobs = JobsThatEndAtOnce(store, tmp_path, status, document)
    report = asyncio.run(DeepHealth(jobs, store, OneReplica(), ModelTokenizer(tiny_model)).check(5))
    assert report["status"] == says, report
    assert [check["name"] for check in report["checks"]] == done
    if "error" in document:
        assert report["detail"] == document["error"]["message"]
    assert not store.active_jobs()


def test_waits_no_longer_than_asked_also_for_another_check(store: Store, tmp_path: Path, tiny_model: Path) -> None:
    jobs = JobsThatEndAtOnce(store, tmp_path, "running", {"is_trained": True})
    health = DeepHealth(jobs, store, OneReplica(), ModelTokenizer(tiny_model))

    async def both() -> list[dict]:
        return await asyncio.gather(health.check(3), health.check(0.2))

    long, short = asyncio.run(both())
    assert (long["status"], long["detail"]) == ("failed", "not done after 3 s; done: train")
    assert (short["status"], short["detail"]) == ("failed", "another check is not done after 0.2 s")
    assert short["seconds"] < 3 and not store.active_jobs()
