"""The ranks of one worker: the leader says what is done, all do it, and all tell how it went before the next thing.

A rank that fails while the others wait for it in a collective would leave them waiting for ever. It notes its failure
in the store of the process group first, so the leader, which waits on another thread than it works on, can give up.
"""

from __future__ import annotations

import datetime
import gc
import json
import os
import queue
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist

from .backend import BackendError

POLL_SECONDS = 0.5
# From the first rank's failure until the others must have come to their end, too.
GRACE_SECONDS = 10.0
# A trainer without jobs waits this long for the next one; gloo wants a number.
IDLE = datetime.timedelta(days=365)
# Of errors of several ranks the first of these kinds is told.
TELLING = ("out_of_memory", "disk_full", "not_finite", "invalid", "failed")

Run = Callable[[str, dict[str, Any]], dict[str, Any]]


class Ranks:
    def __init__(self, device: torch.device, run: Run) -> None:
        self._device = device
        self._run = run
        self._turn = 0
        # One host: its own loopback serves where the host's name leads nowhere.
        for name in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"):
            os.environ.setdefault(name, "lo")
        if device.type == "cuda":
            torch.cuda.set_device(device)
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
        self.rank, self.size = dist.get_rank(), dist.get_world_size()
        self._control = dist.new_group(backend="gloo", timeout=IDLE)
        self._store = dist.PrefixStore("tandem", dist.distributed_c10d._get_default_store())
        self._tasks: queue.SimpleQueue[Any] = queue.SimpleQueue()
        if self.rank == 0 and self.size > 1:
            threading.Thread(target=self._work, args=(torch.get_num_threads(),), daemon=True).start()

    def lead(self, op: str, **args: Any) -> list[dict[str, Any]]:
        """Does `op` on every rank; answers their results, or raises what went wrong on one."""
        if self.size == 1:
            return [self._run(op, args)]
        self._turn += 1
        done: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._tasks.put((op, args, done))
        outcome = self._await(done)
        if isinstance(outcome, Exception):
            # A rank is gone. Nothing can be said that the end of this process doesn't say better.
            print(f"rank 0: another rank is gone: {outcome}", flush=True)
            os._exit(70)
        errors = [each["error"] for each in outcome if "error" in each]
        if errors:
            worst = min(errors, key=lambda error: TELLING.index(error["kind"]))
            raise BackendError(**worst)
        return [each["result"] for each in outcome]

    def _await(self, done: queue.SimpleQueue[Any]) -> Any:
        failed_at = None
        while True:
            try:
                return done.get(timeout=POLL_SECONDS)
            except queue.Empty:
                note = self._failure()
            now = time.monotonic()
            failed_at = failed_at or (now if note else None)
            if note and failed_at and now - failed_at > GRACE_SECONDS:
                raise BackendError(**note, fatal=True)

    def _failure(self) -> dict[str, Any] | None:
        key = f"failed/{self._turn}"
        return json.loads(self._store.get(key)) if self._store.check([key]) else None

    def _work(self, threads: int) -> None:
        """The leader's own share of every `op`, on a thread of its own."""
        torch.set_num_threads(threads)
        if self._device.type == "cuda":
            torch.cuda.set_device(self._device)
        while True:
            op, args, done = self._tasks.get()
            try:
                dist.broadcast_object_list([(op, args)], src=0, group=self._control)
                done.put(self._together(op, args))
            except Exception as error:
                done.put(error)

    def follow(self) -> None:
        """On the other ranks: does what the leader says until the leader is gone."""
        while True:
            said: list[Any] = [None]
            try:
                dist.broadcast_object_list(said, src=0, group=self._control)
            except RuntimeError:
                return
            self._turn += 1
            op, args = said[0]
            self._together(op, args)

    def _together(self, op: str, args: dict[str, Any]) -> list[Any]:
        mine = self._attempt(op, args)
        everyone: list[Any] = [None] * self.size
        dist.all_gather_object(everyone, mine, group=self._control)
        return everyone

    def _attempt(self, op: str, args: dict[str, Any]) -> dict[str, Any]:
        try:
            return {"result": self._run(op, args)}
        except BackendError as error:
            failure = {"kind": error.kind, "message": error.message, "details": error.details}
        except Exception as error:
            traceback.print_exc()
            failure = {"kind": "failed", "message": f"{type(error).__name__}: {error}", "details": {}}
        self._store.set(f"failed/{self._turn}", json.dumps(failure))
        # The exception kept the step's tensors alive until here.
        gc.collect()
        if self._device.type == "cuda":
            # A collective that this rank began and another did not would meet a later one: it must not come to that.
            torch.cuda.synchronize(self._device)
            torch.cuda.empty_cache()
        return {"error": failure}
