"""The application: its parts, made and ended in order."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
from fastapi import FastAPI
from fastapi.responses import JSONResponse

from . import errors, routes_adapters, routes_files, routes_jobs, routes_models
from .adapters import read_base_model
from .auth import KeyGuard
from .backend import BackendError, WorkerSettings
from .chat import ModelTokenizer
from .deep_health import DeepHealth
from .handover import Handover
from .jobs import Jobs
from .launch import worker_command
from .peer_client import PeerClient
from .placement import Placement
from .scheduler import Scheduler
from .settings import Settings
from .store import Store, new_id
from .vllm_client import VllmClient
from .worker_process import Worker, WorkerDied

# What a job that is handed over or a stream that runs may take when the trainer ends.
STOP_SECONDS = 30.0

log = logging.getLogger(__name__)


def make_worker(settings: Settings) -> Worker:
    argv = worker_command(settings.backend, settings.tensor_parallel, settings.worker_python)
    worker = WorkerSettings(
        backend=settings.backend,
        model=str(settings.model),
        socket="",
        device=settings.device,
        dtype=settings.dtype,
        max_rank=settings.max_rank,
        memory_fraction=settings.memory_fraction,
        memory_bytes=settings.memory_bytes,
        tensor_parallel=settings.tensor_parallel,
        threads=settings.threads,
        extra={"model_name": settings.model_name},
    )
    return Worker(argv, worker, settings.worker_start_seconds, settings.nice)


def make_app(settings: Settings) -> FastAPI:
    """Everything of the service. Raises `AdapterError` or `ValueError` when the base model's directory is none."""
    state = settings.state
    for folder in (state, state / "files", state / "jobs", state / "adapters"):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    sweep(state)
    base = read_base_model(settings.model)
    store = Store(state / "trainer.sqlite")
    client = httpx.AsyncClient(limits=httpx.Limits(max_connections=None, max_keepalive_connections=64))
    replicas = [VllmClient(url, client, settings.api_key) for url in settings.vllm]
    placement = Placement(state / "adapters", settings.adapters, settings.adapters_bytes)
    peers = [PeerClient(url, client, settings.api_key, settings.adapters, origin_of(state)) for url in settings.peer]
    handover = Handover(store, placement, replicas, peers, base, settings.max_rank)
    jobs = Jobs(settings, store, handover, base)
    worker = make_worker(settings)
    scheduler = Scheduler(store, worker, state, jobs.finish, settings.max_active, settings.checkpoint_steps)
    trains = settings.backend != "none"
    tokenizer = ModelTokenizer(settings.model)
    health = DeepHealth(jobs, store, handover, tokenizer)

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        jobs.attach(scheduler, tokenizer)
        running = asyncio.create_task(scheduler.run() if trains else asyncio.sleep(0), name="scheduler")
        running.add_done_callback(end_without_it)
        others = [
            asyncio.create_task(jobs.prepare_all(), name="prepare"),
            asyncio.create_task(handover.watch(settings.watch_seconds), name="watch"),
        ]
        yield
        scheduler.stop()
        await asyncio.wait({running}, timeout=STOP_SECONDS)
        for task in (running, *others):
            task.cancel()
        await asyncio.gather(running, *others, return_exceptions=True)
        await worker.stop()
        await client.aclose()
        store.close()

    app = FastAPI(title="Tandem trainer", lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    errors.install(app)
    app.add_middleware(KeyGuard, key=settings.api_key)

    @app.get("/health")
    async def live() -> JSONResponse:
        """200 once the base model is resident."""
        is_up = worker.is_up or not trains
        return JSONResponse({"status": "ok" if is_up else "starting"}, 200 if is_up else 503)

    @app.get("/health/status")
    async def status() -> dict[str, Any]:
        turns = [
            {"job": turn.job.id, "step": turn.job.step, "nSteps": turn.resolved.n_steps} for turn in scheduler.active
        ]
        memory = None
        # The worker may die in this moment; that is the scheduler's to see to.
        with contextlib.suppress(WorkerDied, BackendError):
            memory = await worker.call("memory") if worker.is_up else None
        return {"worker": worker.description, "memory": memory, "turns": turns, "vllm": handover.status()}

    @app.get("/health/deep")
    async def deep(deadline: float = 60.0) -> JSONResponse:
        """Takes one tiny job all the way within `deadline` seconds; 503 when that fails."""
        answer = await health.check(deadline)
        return JSONResponse(answer, 200 if answer["status"] == "healthy" else 503)

    app.include_router(routes_adapters.make_router(store, handover, state / "adapters"))
    if trains:
        app.include_router(routes_files.make_router(store, state / "files", settings.max_file_bytes))
        app.include_router(routes_jobs.make_router(store, jobs))
    app.include_router(routes_models.make_router(jobs, handover, client))
    return app


def end_without_it(scheduler: asyncio.Task[None]) -> None:
    """A trainer whose scheduler failed would answer and train nothing: it ends, and the unit starts it again."""
    if not scheduler.cancelled() and (error := scheduler.exception()):
        log.error("the scheduler failed", exc_info=error)
        signal.raise_signal(signal.SIGTERM)


def origin_of(state: Path) -> str:
    """The name under which peers keep what this trainer sends; the same after every restart."""
    path = state / "origin"
    if not path.is_file():
        path.write_text(new_id("", 12))
    return path.read_text()


def sweep(state: Path) -> None:
    """What was being written when an earlier process was killed."""
    for part in state.glob("files/*.part"):
        part.unlink()
    for part in (*state.glob("adapters/*.part"), *state.glob("adapters/*.received")):
        shutil.rmtree(part, ignore_errors=True)
