"""The life of a job: made from a request, prepared, trained by the scheduler, handed over."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import re
import secrets
import shutil
import time
from pathlib import Path
from typing import Any

from .adapters import BaseModel
from .backend import ALL_TARGETS
from .chat import ModelTokenizer
from .copies import CopyError, keep_copy
from .data import DataError
from .errors import ApiError
from .handover import Handover, HandoverError, is_received
from .hyperparameters import Asked, Resolved, read_hyperparameters
from .prepare import tokenize_file
from .results import keep_results
from .scheduler import Scheduler
from .settings import Settings
from .store import Job, Store, new_id
from .turn import Turn, make_turn

log = logging.getLogger(__name__)

SUFFIX = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class Jobs:
    def __init__(self, settings: Settings, store: Store, handover: Handover, base: BaseModel) -> None:
        self._settings = settings
        self._store = store
        self._handover = handover
        self.base = base
        self._scheduler: Scheduler | None = None
        self._tokenizer: ModelTokenizer | None = None
        self._unprepared: asyncio.Queue[Job] = asyncio.Queue()
        self._withdrawing: set[asyncio.Task[None]] = set()

    @property
    def scheduler(self) -> Scheduler:
        assert self._scheduler
        return self._scheduler

    def attach(self, scheduler: Scheduler, tokenizer: ModelTokenizer) -> None:
        """Gives the parts that are made after this one, and takes up what an earlier process left."""
        self._scheduler = scheduler
        self._tokenizer = tokenizer
        jobs = self._store.active_jobs()
        self._handover.sweep({job.id for job in jobs})
        for job in jobs:
            self._take_up(job)

    def _take_up(self, job: Job) -> None:
        if job.hidden:
            self.forget(job)
        elif job.document.get("is_trained") and (self._settings.state / "adapters" / job.id).is_dir():
            self.scheduler.hand_over(make_turn(job, self.folder(job.id)))
        elif job.status == "paused":
            return
        elif not (self.folder(job.id) / "examples.jsonl").is_file() or "resolved" not in job.document:
            job.status = "validating_files"
            self._unprepared.put_nowait(job)
        else:
            job.step = job.document.get("saved_step", 0)
            if job.status == "running":
                self._store.add_event(
                    job.id, f"The trainer was started again; the job goes on from step {job.step}", "warn"
                )
            self.scheduler.enqueue(job)

    def folder(self, id: str) -> Path:
        return self._settings.state / "jobs" / id

    @property
    def max_length(self) -> int:
        return self._settings.max_sequence_length or min(self.base.max_length, 8192)

    def get(self, id: str) -> Job:
        job = self._store.job(id)
        if not job or job.hidden:
            raise ApiError(404, f"no such job — got '{id}'", "fine_tuning_job_id", "not_found")
        return job

    def create(self, request: dict[str, Any], values: dict[str, Any], place: str) -> Job:
        """Checks a request and queues the job. `values` are the hyper-parameters, found at `place` in the request."""
        model = request["model"]
        if model != self._settings.model_name:
            raise ApiError(
                400, f"model — got '{model}' — allowed: {self._settings.model_name}", "model", "model_not_found"
            )
        if not self._store.file(request["training_file"]):
            raise ApiError(400, f"no such file — got '{request['training_file']}'", "training_file", "file_not_found")
        suffix = request.get("suffix") or ""
        if suffix and not SUFFIX.fullmatch(suffix):
            allowed = "1 to 64 letters, digits, '.', '_' and '-', a letter or digit first"
            raise ApiError(400, f"suffix — got {suffix!r} — allowed: {allowed}", "suffix")
        metadata = request.get("metadata") or {}
        targets = self.base.targets(ALL_TARGETS)
        asked = read_hyperparameters(values, place, metadata, request.get("seed"), self._settings.max_rank, targets)
        job = self.new_job(request["training_file"], suffix)
        job.document = {
            "model": model,
            "suffix": suffix or None,
            "metadata": metadata or None,
            "asked": {**asked.to_json(), "seed": asked.seed},
            "seed": secrets.randbelow(2**31) if asked.seed is None else asked.seed,
        }
        self._store.add_job(job)
        self._store.add_event(job.id, f"Created fine-tuning job: {job.id}")
        self._unprepared.put_nowait(job)
        return job

    def new_job(self, file: str, suffix: str, *, hidden: bool = False) -> Job:
        """A job that is in no store yet. The end of its model's name makes that unique."""
        name = f"ft:{self._settings.model_name}:{self._settings.organization}:{suffix}:{new_id('', 8)}"
        status = "running" if hidden else "validating_files"
        return Job(new_id("ftjob-"), status, file, name, int(time.time()), hidden=hidden)

    async def prepare_all(self) -> None:
        """Tokenizes the files of new jobs, one at a time, without end."""
        while True:
            job = await self._unprepared.get()
            if not self._is_still(job, "validating_files"):
                continue
            try:
                await self._prepare(job)
            except DataError as error:
                self._fail_new(job, "invalid_training_file", str(error))
            except OSError as error:
                self._fail_new(job, "disk_full" if error.errno == errno.ENOSPC else "internal_error", str(error))
            except Exception as error:
                log.exception("preparing %s", job.id)
                self._fail_new(job, "internal_error", f"{type(error).__name__}: {error}")

    def _fail_new(self, job: Job, code: str, message: str) -> None:
        if self._is_still(job, "validating_files"):
            self.scheduler.fail(job, code, message, param="training_file")
        self.scheduler.remove_traces(job)

    def _is_still(self, job: Job, status: str) -> bool:
        now = self._store.job(job.id)
        return now is not None and now.status == status

    async def _prepare(self, job: Job) -> None:
        folder = self.folder(job.id)
        folder.mkdir(parents=True, exist_ok=True)
        source = self._settings.state / "files" / job.training_file
        assert self._tokenizer
        target = folder / "examples.jsonl"
        count = await asyncio.to_thread(tokenize_file, self._tokenizer, source, target, self.max_length)
        targets = job.document["asked"].get("lora_targets")
        asked = {name: None if value == "auto" else value for name, value in job.document["asked"].items()}
        asked["lora_targets"] = None if targets in (None, "auto") else tuple(targets)
        if asked["lora_targets"] is None:
            present = self.base.targets(ALL_TARGETS)
            asked["lora_targets"] = tuple(name for name in ALL_TARGETS if name in present)
        resolved = Asked(**asked).resolve(count, self._settings.max_rank, job.document["seed"])
        if not self._is_still(job, "validating_files"):
            # Cancelled meanwhile; what was written since then is left.
            self.scheduler.remove_traces(job)
            return
        job.document["resolved"] = resolved.to_json()
        job.status = "queued"
        self._store.save_job(job)
        self._store.add_event(job.id, f"Files validated: {count} examples, {resolved.n_steps} steps; the job is queued")
        self.scheduler.enqueue(job)

    def cancel(self, id: str) -> Job:
        job = self.get(id)
        if job.is_over:
            raise ApiError(400, f"the job is over — got status {job.status}", "fine_tuning_job_id", "invalid_status")
        handing_over = self.scheduler.handing_over(id)
        if handing_over:
            task, job = handing_over
            task.cancel()
            self._withdraw_later(job)
        else:
            job = self.scheduler.withdraw(id) or job
        job.status = "cancelled"
        job.finished_at = int(time.time())
        self._store.save_job(job)
        self._store.add_event(job.id, f"The job was cancelled at step {job.step}")
        # Its turn, if it has one, may still write; then that is removed with the turn.
        self.scheduler.remove_traces(job)
        return job

    def _withdraw_later(self, job: Job) -> None:
        """Takes away what a hand-over that came to nothing may have loaded."""
        names = [(job.fine_tuned_model, job.id)]
        names += [(row["model"], f"{job.id}-step-{row['step']}") for row in self._store.checkpoints(job.id)]

        async def withdraw() -> None:
            for model, folder in names:
                await self._handover.withdraw(model, folder)

        later = asyncio.get_running_loop().create_task(withdraw())
        self._withdrawing.add(later)
        later.add_done_callback(self._withdrawing.discard)

    def pause(self, id: str) -> Job:
        job = self.get(id)
        if job.status not in ("queued", "running") or self.scheduler.handing_over(id):
            raise ApiError(
                400, f"only a queued or running job can be paused — got status {job.status}", None, "invalid_status"
            )
        job = self.scheduler.withdraw(id) or job
        job.status = "paused"
        self._store.save_job(job)
        self._store.add_event(id, f"The job was paused at step {job.step}")
        return job

    def resume(self, id: str) -> Job:
        job = self.get(id)
        if job.status != "paused":
            raise ApiError(400, f"only a paused job can be resumed — got status {job.status}", None, "invalid_status")
        if any(turn.job.id == id for turn in self.scheduler.active):
            raise ApiError(409, "the job is still being paused — fix: try again in a moment", None, "invalid_status")
        job.status = "queued"
        self._store.save_job(job)
        self._store.add_event(id, "The job was resumed")
        self.scheduler.enqueue(job)
        return job

    async def finish(self, turn: Turn) -> None:
        """Called by the scheduler after the last step: gives the adapter away, and only then calls it a success."""
        try:
            await self._hand_over(turn)
        except asyncio.CancelledError:
            if not turn.job.is_over:
                # The trainer stops; the next one hands over from the checkpoint that holds all steps.
                log.info("hand-over of %s is left to the next start", turn.job.id)
        except Exception as error:
            log.exception("handing over %s", turn.job.id)
            code = "disk_full" if getattr(error, "errno", 0) == errno.ENOSPC else "internal_error"
            self.scheduler.fail(turn.job, code, f"the adapter can't be handed over: {type(error).__name__}: {error}")
            self._withdraw_later(turn.job)
            self.scheduler.remove_traces(turn.job)
        finally:
            if turn.job.is_over:
                shutil.rmtree(turn.folder, ignore_errors=True)

    async def _hand_over(self, turn: Turn) -> None:
        job, limit = turn.job, self._settings.handover_seconds
        self._store.add_event(job.id, "Training is done; the adapter is being loaded into vLLM")
        try:
            await self._handover.publish(job.fine_tuned_model, job.id, job.id, limit)
        except HandoverError as error:
            self.scheduler.fail(job, "adapter_not_served", str(error))
            self.scheduler.remove_traces(job)
            return
        for row in self._store.checkpoints(job.id):
            with contextlib.suppress(HandoverError):
                await self._handover.publish(row["model"], job.id, f"{job.id}-step-{row['step']}", limit)
        await self._copy(job)
        self._succeed(turn)

    async def _copy(self, job: Job) -> None:
        if not self._settings.copy_to:
            return
        source = self._settings.state / "adapters" / job.id
        name = re.sub(r"[^A-Za-z0-9._-]", "_", job.fine_tuned_model)
        try:
            place = await asyncio.to_thread(keep_copy, source, self._settings.copy_to, name)
            self._store.add_event(job.id, f"The adapter was copied to {place}")
        except (CopyError, OSError) as error:
            # The model is served; that it has no copy is said.
            self._store.add_event(job.id, str(error), "warn")

    def _succeed(self, turn: Turn) -> None:
        job = turn.job
        losses = self._store.losses(job.id)
        self._store.add_checkpoint(job.id, job.step, job.fine_tuned_model, losses[-1])
        job.document["trained_tokens"] = sum(metrics["tokens"] for metrics in losses)
        if not job.hidden:
            job.document["result_files"] = [keep_results(self._store, self._settings.state / "files", job, losses)]
        job.status = "succeeded"
        job.finished_at = int(time.time())
        self._store.add_event(job.id, f"New fine-tuned model created: {job.fine_tuned_model}")
        self._store.add_event(job.id, "The job has successfully completed")
        self._store.save_job(job)

    async def delete_model(self, name: str) -> None:
        """Takes a trained model away everywhere."""
        row = self._store.adapter(name)
        if not row or is_received(row["job"]):
            raise ApiError(404, f"no model of that name was trained here — got '{name}'", "model", "model_not_found")
        linger = self._settings.linger_seconds
        for checkpoint in self._store.checkpoints(row["job"]):
            # Its checkpoints go with the model; one that is deleted by itself goes alone.
            if row["folder"] == row["job"] and checkpoint["model"] != name:
                await self._handover.withdraw(checkpoint["model"], f"{row['job']}-step-{checkpoint['step']}", linger)
        await self._handover.withdraw(name, row["folder"], linger)

    def stop_hidden(self, job: Job) -> None:
        """Ends a job that was never shown, wherever it is."""
        if handing_over := self.scheduler.handing_over(job.id):
            handing_over[0].cancel()
            job = handing_over[1]
        job = self.scheduler.withdraw(job.id) or job
        job.status = "cancelled"

    def forget(self, job: Job) -> None:
        """Removes all trace of a job that was never shown."""
        self._store.forget_job(job.id)
        for folder in (self.folder(job.id), self._settings.state / "adapters" / job.id):
            shutil.rmtree(folder, ignore_errors=True)

    def resolve_probe(self, n_examples: int, targets: set[str]) -> Resolved:
        """Hyper-parameters of the health check's job: one step of the smallest adapter."""
        names = tuple(name for name in ALL_TARGETS if name in targets)
        return Asked(n_steps=1, batch_size=n_examples, lora_rank=1, lora_targets=names).resolve(n_examples, 1, 0)
