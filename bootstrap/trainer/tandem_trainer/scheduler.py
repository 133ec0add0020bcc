"""Whose turn it is: jobs take turns on the one worker, one optimizer step each, round robin.

So the step counts of jobs that started together never differ by more than one. When the worker dies it is started
again and every job goes on from its last checkpoint. The job in whose step it died is blamed, and fails at the
third time.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
import time
from collections import deque
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from .backend import BackendError
from .schedule import learning_rate
from .store import Job, Store
from .turn import Turn, make_turn
from .worker_process import Worker, WorkerDied

MAX_CRASHES = 3
MAX_STARTS = 3
IDLE_SECONDS = 1.0

log = logging.getLogger(__name__)

Finish = Callable[[Turn], Awaitable[None]]


class Scheduler:
    """`finish` is given each job whose last step is done and whose adapter lies in `folders / "adapters"`."""

    def __init__(
        self, store: Store, worker: Worker, state: Path, finish: Finish, max_active: int, checkpoint_steps: int
    ) -> None:
        self._store = store
        self._worker = worker
        self._state = state
        self._finish = finish
        self._max_active = max_active
        self._checkpoint_steps = checkpoint_steps
        self._turns: deque[Turn] = deque()
        self._current: Turn | None = None
        self._waiting: deque[Job] = deque()
        self._wake = asyncio.Event()
        self._stopping = False
        self._finishing: dict[str, tuple[asyncio.Task[None], Job]] = {}
        self._failed_starts = 0

    @property
    def worker(self) -> Worker:
        return self._worker

    @property
    def active(self) -> list[Turn]:
        """Jobs in training, the one whose turn it is among them."""
        return [*([self._current] if self._current else []), *self._turns]

    def enqueue(self, job: Job, *, first: bool = False) -> None:
        """Takes up a job whose examples lie in its folder. `first` goes before all and beside the limit."""
        if first:
            self._turns.appendleft(make_turn(job, self.folder(job.id)))
        else:
            self._waiting.append(job)
        self._wake.set()

    def withdraw(self, id: str) -> Job | None:
        """Takes a job out, whether it waits or is trained; answers it. What the worker holds goes at the next turn."""
        for job in self._waiting:
            if job.id == id:
                self._waiting.remove(job)
                return job
        for turn in self.active:
            if turn.job.id == id:
                turn.is_over = True
                self._wake.set()
                return turn.job
        return None

    def folder(self, id: str) -> Path:
        return self._state / "jobs" / id

    def stop(self) -> None:
        """After the step that runs, `run` checkpoints all jobs and returns."""
        self._stopping = True
        self._wake.set()

    async def run(self) -> None:
        while not self._stopping:
            self._admit()
            if not await self._has_worker():
                continue
            if not self._turns:
                self._wake.clear()
                with contextlib.suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(self._wake.wait(), IDLE_SECONDS)
                continue
            turn = self._current = self._turns.popleft()
            try:
                if await self._take(turn):
                    self._turns.append(turn)
            except WorkerDied as death:
                self._recover(turn, str(death))
            except Exception as error:
                log.exception("job %s", turn.job.id)
                self.fail(turn.job, "internal_error", f"{type(error).__name__}: {error}")
                await self._drop(turn)
            finally:
                self._current = None
        for task, _ in self._finishing.values():
            task.cancel()
        await self._save_all()
        await self._worker.stop()

    def _admit(self) -> None:
        while self._waiting and len(self._turns) < self._max_active:
            job = self._waiting.popleft()
            try:
                turn = make_turn(job, self.folder(job.id))
            except (OSError, ValueError, KeyError) as error:
                self.fail(job, "internal_error", f"the job's examples can't be read: {error}")
                continue
            if job.status != "running":
                job.status = "running"
                self._store.add_event(job.id, "The job started")
            self._store.save_job(job)
            self._turns.append(turn)

    async def _has_worker(self) -> bool:
        """Starts the worker where it does not run. Jobs that wait for it fail when it can't be started."""
        if self._worker.is_up and not self._worker.is_dead:
            return True
        if self._worker.is_dead:
            self._lose_all()
            await self._worker.stop()
        try:
            await self._worker.start()
            self._failed_starts = 0
            return True
        except (WorkerDied, BackendError, OSError) as error:
            self._failed_starts += 1
            log.error("the worker can't be started: %s", error)
            if self._failed_starts >= MAX_STARTS:
                while self._turns:
                    turn = self._turns.popleft()
                    # A paused one wants no worker now.
                    if not turn.is_over:
                        self.fail(turn.job, "worker_unavailable", f"the trainer can't be started: {error}")
            pause = min(30.0, 2.0**self._failed_starts / 2)
            with contextlib.suppress(asyncio.TimeoutError):
                self._wake.clear()
                await asyncio.wait_for(self._wake.wait(), pause)
            return False

    async def _take(self, turn: Turn) -> bool:
        """One turn: one step. Answers whether the job wants another one."""
        job = turn.job
        if turn.is_over:
            if job.status == "paused" and turn.is_loaded:
                await self._checkpoint(turn)
            await self._drop(turn)
            return False
        try:
            if not turn.is_loaded:
                await self._load(turn)
            if job.step < turn.resolved.n_steps:
                await self._step(turn)
            if turn.is_over:
                return True
            await self._keep(turn)
            if turn.is_over:
                return True
        except BackendError as error:
            self.fail(job, error.kind, error.message, error.details)
            await self._drop(turn)
            return False
        if job.step < turn.resolved.n_steps:
            return True
        job.document["is_trained"] = True
        self._store.save_job(job)
        self.hand_over(turn)
        await self._drop(turn)
        return False

    def hand_over(self, turn: Turn) -> None:
        """Starts the last part of a job whose adapter is saved."""
        id = turn.job.id
        task = asyncio.get_running_loop().create_task(self._finish(turn), name=f"finish {id}")
        # Before the task's first step: whoever asks in between must not take the turn for one of its training.
        self._finishing[id] = (task, turn.job)
        task.add_done_callback(lambda _: self._finishing.pop(id))

    def handing_over(self, id: str) -> tuple[asyncio.Task[None], Job] | None:
        """The task of a job's last part, and the job that it works on."""
        return self._finishing.get(id)

    async def _load(self, turn: Turn) -> None:
        config = turn.resolved.adapter.to_json()
        if turn.saved_step:
            await self._worker.call("restore", job=turn.job.id, config=config, path=str(turn.saved_folder))
        else:
            await self._worker.call("create", job=turn.job.id, config=config)
        turn.job.step = turn.saved_step
        turn.is_loaded = True

    async def _step(self, turn: Turn) -> None:
        job, resolved = turn.job, turn.resolved
        rate = learning_rate(job.step, resolved.n_steps, resolved.learning_rate_multiplier)
        batch = turn.batches.at(job.step)
        began = time.monotonic()
        answer = await self._worker.call("step", job=job.id, batch=batch.to_json(), learning_rate=rate)
        if job.is_over:
            # Cancelled meanwhile: nothing more is told of it.
            return
        job.step += 1
        metrics = {
            "step": job.step,
            "total_steps": resolved.n_steps,
            "train_loss": answer["loss"],
            "learning_rate": rate,
            "tokens": sum(len(sequence) for sequence in batch.tokens),
            "seconds": round(time.monotonic() - began, 4),
        }
        self._store.add_metrics(
            job.id, job.step, f"Step {job.step}/{resolved.n_steps}: loss {answer['loss']:.4f}", metrics
        )
        if not turn.is_over:
            self._store.save_job(job)

    async def _keep(self, turn: Turn) -> None:
        """Saves what has to be saved after this step."""
        job = turn.job
        if job.step in turn.epoch_checkpoints():
            await self._save(turn, self._state / "adapters" / f"{job.id}-step-{job.step}", with_state=False)
            metrics = self._store.losses(job.id)[-1]
            self._store.add_checkpoint(job.id, job.step, f"{job.fine_tuned_model}:ckpt-step-{job.step}", metrics)
        if job.step >= turn.resolved.n_steps:
            await self._save(turn, self._state / "adapters" / job.id, with_state=False)
        elif job.step % self._checkpoint_steps == 0:
            await self._checkpoint(turn)

    async def _checkpoint(self, turn: Turn) -> None:
        """What a restart goes on from. A full disk costs the checkpoint, not the job."""
        job = turn.job
        if job.step in (0, turn.saved_step):
            return
        try:
            await self._save(turn, turn.folder / f"resume-{job.step}", with_state=True)
        except BackendError as error:
            self._store.add_event(job.id, f"No checkpoint at step {job.step}: {error.message}", "warn")
            return
        job.document["saved_step"] = job.step
        self._store.save_job(job)
        turn.forget_older()

    async def _save(self, turn: Turn, folder: Path, *, with_state: bool) -> None:
        part = folder.with_name(f"{folder.name}.part")
        shutil.rmtree(part, ignore_errors=True)
        try:
            part.mkdir(parents=True)
            await self._worker.call("save", job=turn.job.id, path=str(part), with_state=with_state)
            shutil.rmtree(folder, ignore_errors=True)
            part.rename(folder)
        except OSError as error:
            raise BackendError("disk_full", f"the adapter can't be saved to {folder}: {error}") from error
        finally:
            shutil.rmtree(part, ignore_errors=True)

    async def _drop(self, turn: Turn) -> None:
        with contextlib.suppress(BackendError, WorkerDied):
            await self._worker.call("drop", job=turn.job.id)
        turn.is_loaded = False
        if turn.job.status in ("failed", "cancelled"):
            self.remove_traces(turn.job)

    def remove_traces(self, job: Job) -> None:
        """What a job that came to nothing leaves on the disk, and its checkpoints, which nobody can call."""
        for folder in (self._state / "adapters").glob(f"{job.id}*"):
            shutil.rmtree(folder, ignore_errors=True)
        shutil.rmtree(self.folder(job.id), ignore_errors=True)
        for row in self._store.checkpoints(job.id):
            self._store.delete_checkpoint(job.id, row["step"])

    def _recover(self, turn: Turn, reason: str) -> None:
        """The worker died in this job's turn."""
        log.error("%s in a step of job %s", reason, turn.job.id)
        self._lose_all()
        turn.go_back()
        job = turn.job
        if turn.is_over:
            return
        job.crashes += 1
        if job.crashes >= MAX_CRASHES:
            self.fail(job, "worker_died", f"{reason} in a step of this job, time {job.crashes} of {MAX_CRASHES}")
            self.remove_traces(job)
            return
        self._store.add_event(
            job.id, f"{reason} in step {job.step + 1} or later; the job goes on from step {job.step}", "warn"
        )
        self._store.save_job(job)
        self._turns.append(turn)

    def _lose_all(self) -> None:
        for other in self._turns:
            if other.is_loaded and other.job.step != other.saved_step:
                text = f"The trainer's worker was started again; the job goes on from step {other.saved_step}"
                self._store.add_event(other.job.id, text, "warn")
            other.go_back()
            if not other.is_over:
                self._store.save_job(other.job)

    async def _save_all(self) -> None:
        with contextlib.suppress(WorkerDied):
            for turn in self._turns:
                # Also one that was paused and has had no turn since.
                if turn.is_loaded and not turn.job.is_over:
                    await self._checkpoint(turn)

    def fail(
        self, job: Job, code: str, message: str, details: dict[str, Any] | None = None, param: str | None = None
    ) -> None:
        """Ends a job with the reason."""
        if job.is_over:
            return
        job.status = "failed"
        job.finished_at = int(time.time())
        error = {"code": code, "message": message, "param": param}
        job.document["error"] = {**error, "details": details} if details else error
        self._store.add_event(job.id, f"The job failed: {message}", "error")
        self._store.save_job(job)
