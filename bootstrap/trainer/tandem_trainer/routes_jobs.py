"""/v1/fine_tuning/jobs"""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator
from typing import Any

from fastapi import APIRouter
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict

from .errors import ApiError
from .jobs import Jobs
from .routes_files import page
from .store import Job, Store

MAX_PAGE = 100
STREAM_SECONDS = 0.25


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Supervised(Strict):
    hyperparameters: dict[str, Any] | None = None


class Method(BaseModel):
    type: str
    supervised: Supervised | None = None


class CreateJob(Strict):
    """The request of POST /v1/fine_tuning/jobs. Hyper-parameters are checked by `hyperparameters.py`."""

    model: str
    training_file: str
    validation_file: str | None = None
    suffix: str | None = None
    seed: int | None = None
    method: Method | None = None
    hyperparameters: dict[str, Any] | None = None
    metadata: dict[str, str] | None = None
    integrations: list[Any] | None = None


def as_job(job: Job) -> dict[str, Any]:
    """OpenAI's form of a job, with `tandem`: what is ours."""
    document = job.document
    values = {**document.get("asked", {}), **document.get("resolved", {})}
    values.pop("seed", None)
    return {
        "id": job.id,
        "object": "fine_tuning.job",
        "created_at": job.created_at,
        "finished_at": job.finished_at,
        "estimated_finish": None,
        "model": document["model"],
        "fine_tuned_model": job.fine_tuned_model if job.status == "succeeded" else None,
        "organization_id": "tandem",
        "status": job.status,
        "hyperparameters": {
            name: values.get(name, "auto") for name in ("n_epochs", "batch_size", "learning_rate_multiplier")
        },
        "method": {"type": "supervised", "supervised": {"hyperparameters": values}},
        "training_file": job.training_file,
        "validation_file": None,
        "result_files": document.get("result_files", []),
        "trained_tokens": document.get("trained_tokens"),
        "error": document.get("error"),
        "seed": document.get("seed", 0),
        "user_provided_suffix": document.get("suffix"),
        "metadata": document.get("metadata"),
        "integrations": [],
        "tandem": {"step": job.step, "n_steps": document.get("resolved", {}).get("n_steps"), "crashes": job.crashes},
    }


def as_event(row: sqlite3.Row) -> dict[str, Any]:
    return {
        "id": row["id"],
        "object": "fine_tuning.job.event",
        "created_at": row["created_at"],
        "level": row["level"],
        "message": row["message"],
        "type": row["type"],
        "data": json.loads(row["data"]),
    }


def as_checkpoint(row: sqlite3.Row) -> dict[str, Any]:
    return {
        "id": row["id"],
        "object": "fine_tuning.job.checkpoint",
        "created_at": row["created_at"],
        "fine_tuned_model_checkpoint": row["model"],
        "fine_tuning_job_id": row["job"],
        "step_number": row["step"],
        "metrics": json.loads(row["metrics"]),
    }


def hyperparameters_of(request: CreateJob) -> tuple[dict[str, Any], str]:
    """The hyper-parameters and where they stand. Raises `ApiError` for a method that is not ours."""
    method = request.method
    if method and method.type != "supervised":
        raise ApiError(400, f"method — got '{method.type}' — allowed: supervised", "method.type", "invalid_method")
    if method and method.supervised and method.supervised.hyperparameters:
        if request.hyperparameters:
            raise ApiError(400, "hyperparameters — given twice — allowed: in method.supervised only", "hyperparameters")
        return method.supervised.hyperparameters, "method.supervised.hyperparameters"
    return request.hyperparameters or {}, "hyperparameters"


def make_router(store: Store, jobs: Jobs) -> APIRouter:
    router = APIRouter(prefix="/v1/fine_tuning/jobs")

    @router.post("")
    async def create(request: CreateJob) -> dict[str, Any]:
        values, place = hyperparameters_of(request)
        for name in ("validation_file", "integrations"):
            if getattr(request, name):
                raise ApiError(400, f"{name} — not supported — fix: leave it out", name, "unsupported")
        return as_job(jobs.create(request.model_dump(), values, place))

    @router.get("")
    async def listing(after: str | None = None, limit: int = 20) -> dict[str, Any]:
        return page([as_job(job) for job in store.jobs()], after, limit, MAX_PAGE)

    @router.get("/{id}")
    async def retrieve(id: str) -> dict[str, Any]:
        return as_job(jobs.get(id))

    @router.post("/{id}/cancel")
    async def cancel(id: str) -> dict[str, Any]:
        return as_job(jobs.cancel(id))

    @router.post("/{id}/pause")
    async def pause(id: str) -> dict[str, Any]:
        return as_job(jobs.pause(id))

    @router.post("/{id}/resume")
    async def resume(id: str) -> dict[str, Any]:
        return as_job(jobs.resume(id))

    @router.get("/{id}/events", response_model=None)
    async def events(id: str, after: str | None = None, limit: int = 20, stream: bool = False) -> Any:
        jobs.get(id)
        if stream:
            return StreamingResponse(follow(store, id), media_type="text/event-stream")
        return page([as_event(row) for row in store.events(id)], after, limit, MAX_PAGE)

    @router.get("/{id}/checkpoints")
    async def checkpoints(id: str, after: str | None = None, limit: int = 10) -> dict[str, Any]:
        jobs.get(id)
        return page([as_checkpoint(row) for row in store.checkpoints(id)], after, limit, MAX_PAGE)

    return router


async def follow(store: Store, id: str) -> AsyncIterator[str]:
    """Events as they come, oldest first, until the job is over."""
    last = 0
    while True:
        job = store.job(id)
        for row in reversed(store.events(id)):
            if row["seq"] > last:
                last = row["seq"]
                yield f"data: {json.dumps(as_event(row))}\n\n"
        if not job or job.is_over:
            yield "data: [DONE]\n\n"
            return
        await asyncio.sleep(STREAM_SECONDS)
