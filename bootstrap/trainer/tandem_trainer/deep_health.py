"""One tiny job through the whole way: train a step, save, load into every vLLM, sample, take it all away again."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

from .backend import ALL_TARGETS
from .chat import ModelTokenizer
from .data import Record
from .handover import Handover
from .jobs import Jobs
from .store import Job, Store
from .tokens import make_example
from .vllm_client import NotNow, Refused

POLL_SECONDS = 0.02

# Its name tells what it is to whoever lists vLLM's models in that moment.
SUFFIX = "health"


class DeepHealth:
    """One check at a time; each takes its turn among the jobs of users."""

    def __init__(self, jobs: Jobs, store: Store, handover: Handover, tokenizer: ModelTokenizer) -> None:
        self._jobs = jobs
        self._store = store
        self._handover = handover
        self._tokenizer = tokenizer
        self._lock = asyncio.Lock()

    async def check(self, limit_seconds: float) -> dict[str, Any]:
        """{"status": "healthy" | "failed", "seconds", "detail", "checks": [{"name", "status", "seconds", "detail"}]}"""
        began = time.monotonic()
        checks: list[dict[str, Any]] = []
        status = "failed"
        try:
            # The time that another check takes counts: whoever asks waits no longer than that.
            await asyncio.wait_for(self._lock.acquire(), limit_seconds)
        except asyncio.TimeoutError:
            detail = f"another check is not done after {limit_seconds:g} s"
        else:
            try:
                left_seconds = limit_seconds - (time.monotonic() - began)
                await self._check(checks, left_seconds)
                detail = f"trained, loaded into {len(self._handover.replicas)} vLLM, sampled"
                status = "healthy"
            except asyncio.TimeoutError:
                detail = f"not done after {limit_seconds:g} s; done: {', '.join(names(checks)) or 'nothing'}"
            except (RuntimeError, Refused, NotNow) as error:
                detail = str(error)
            finally:
                self._lock.release()
        return {"status": status, "seconds": round(time.monotonic() - began, 3), "detail": detail, "checks": checks}

    async def _check(self, checks: list[dict[str, Any]], limit_seconds: float) -> None:
        job = self._submit()
        try:
            await asyncio.wait_for(self._run(job, checks, limit_seconds), limit_seconds)
        finally:
            await self._clean(job)

    def _submit(self) -> Job:
        records = [Record(1, None, "Health:", " good"), Record(2, None, "Health check:", " done")]
        examples = [make_example(self._tokenizer, record, self._jobs.max_length) for record in records]
        job = self._jobs.new_job("none", SUFFIX, hidden=True)
        folder = self._jobs.folder(job.id)
        folder.mkdir(parents=True)
        lines = [json.dumps([example.line, example.tokens, example.mask]) for example in examples]
        (folder / "examples.jsonl").write_text("\n".join(lines) + "\n")
        resolved = self._jobs.resolve_probe(len(examples), self._jobs.base.targets(ALL_TARGETS))
        job.document = {"model": "", "resolved": resolved.to_json(), "seed": 0}
        self._store.add_job(job)
        self._jobs.scheduler.enqueue(job, first=True)
        return job

    async def _run(self, job: Job, checks: list[dict[str, Any]], limit_seconds: float) -> None:
        began = time.monotonic()

        def done(name: str, detail: str) -> None:
            nonlocal began
            now = time.monotonic()
            checks.append({"name": name, "status": "healthy", "seconds": round(now - began, 3), "detail": detail})
            began = now

        while not (now := self._store.job(job.id)) or not (now.document.get("is_trained") or now.is_over):
            await asyncio.sleep(POLL_SECONDS)
        # A job can be over already: this looks every now and then.
        if now.document.get("is_trained"):
            done("train", f"loss {self._store.losses(job.id)[-1]['train_loss']:.4f}")
        while (now := self._store.job(job.id)) and not now.is_over:
            await asyncio.sleep(POLL_SECONDS)
        if not now or now.status != "succeeded":
            raise RuntimeError(
                now.document["error"]["message"] if now and "error" in now.document else "the job is gone"
            )
        done("load", job.fine_tuned_model)
        texts = await self._handover.sample(job.fine_tuned_model, limit_seconds)
        done("sample", json.dumps(texts, ensure_ascii=False))

    async def _clean(self, job: Job) -> None:
        now = self._store.job(job.id)
        if now and not now.is_over:
            self._jobs.stop_hidden(now)
        await self._handover.withdraw(job.fine_tuned_model, job.id)
        self._jobs.forget(job)


def names(checks: list[dict[str, Any]]) -> list[str]:
    return [check["name"] for check in checks]
