"""Many jobs on one worker: turns, waiting, cancelling, pausing."""

from __future__ import annotations

import contextlib
import sqlite3

import openai
import pytest
from service import Service, chats, until

ARGUMENTS = ("--max-active", "12")


def in_training(service: Service, job: str) -> bool:
    return job in [turn["job"] for turn in service.http.get("/health/status").json()["turns"]]


def has_steps(service: Service, job: str) -> bool:
    """Whether its file was read, so that it takes part in the turns."""
    return service.client.fine_tuning.jobs.retrieve(job).tandem["n_steps"] is not None


def order_of_steps(service: Service) -> list[str]:
    """The jobs of all steps, in the order in which the steps were done."""
    with contextlib.closing(sqlite3.connect(service.state / "trainer.sqlite")) as database:
        return [row[0] for row in database.execute("select job from events where step is not null order by seq")]


def test_ten_jobs_take_turns_and_are_never_more_than_one_step_apart(service: Service) -> None:
    files = [service.upload(chats(8, f"answer of {index}")) for index in range(10)]
    # Nothing is trained before all are there.
    service.freeze_worker()
    try:
        jobs = [
            service.create(file, suffix=f"user-{index}", n_steps=60, seed=index).id for index, file in enumerate(files)
        ]
        until("all are ready", lambda: all(has_steps(service, job) for job in jobs))
    finally:
        service.thaw_worker()
    for job in jobs:
        service.succeeded(job, 120)
    order = order_of_steps(service)
    assert len(order) == 600
    # From the moment when the last of them started until the first is done.
    began = max(order.index(job) for job in jobs)
    done = min(len(order) - order[::-1].index(job) for job in jobs)
    assert done - began > 500
    steps = dict.fromkeys(jobs, 0)
    for job in order[began:done]:
        steps[job] += 1
        assert max(steps.values()) - min(steps.values()) <= 1
    assert len({tuple(service.losses(job)) for job in jobs}) == 10


def test_fifty_jobs_at_once_are_all_accepted_and_all_done(service: Service) -> None:
    file = service.upload(chats(2))
    jobs = [service.create(file, n_steps=2, lora_rank=1).id for _ in range(50)]
    assert len({service.succeeded(job, 240).fine_tuned_model for job in jobs}) == 50


def test_a_cancelled_job_ends_at_once_and_leaves_nothing(service: Service) -> None:
    file = service.upload(chats(2))
    job = service.create(file, n_steps=100_000)
    until("it trains", lambda: service.losses(job.id))
    with pytest.raises(openai.ConflictError) as caught:
        service.client.files.delete(file)
    assert job.id in str(caught.value)
    assert service.client.fine_tuning.jobs.cancel(job.id).status == "cancelled"
    until("its folder is gone", lambda: not (service.state / "jobs" / job.id).exists())
    assert service.client.fine_tuning.jobs.retrieve(job.id).status == "cancelled"
    with pytest.raises(openai.BadRequestError, match="got status cancelled"):
        service.client.fine_tuning.jobs.cancel(job.id)
    assert service.client.files.delete(file).deleted


def test_a_paused_job_goes_on_where_it_was(service: Service) -> None:
    file = service.upload(chats(4))
    undisturbed = service.succeeded(service.create(file, n_steps=99, seed=3, learning_rate_multiplier=9).id)
    job = service.create(file, n_steps=99, seed=3, learning_rate_multiplier=9)
    until("it trains", lambda: service.losses(job.id))
    assert service.client.fine_tuning.jobs.pause(job.id).status == "paused"
    until("it is away", lambda: not in_training(service, job.id))
    step = service.client.fine_tuning.jobs.retrieve(job.id).tandem["step"]
    assert 0 < step < 99
    service.client.fine_tuning.jobs.resume(job.id)
    service.succeeded(job.id)
    assert service.losses(job.id) == pytest.approx(service.losses(undisturbed.id), abs=1e-5)
