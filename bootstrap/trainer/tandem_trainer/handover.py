"""Gives adapters to every vLLM, and again after a restart of one."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .adapters import AdapterError, BaseModel, check_adapter
from .peer_client import PeerClient
from .placement import Placement, PlacementError
from .store import Store
from .vllm_client import NotNow, Refused, VllmClient

RETRY_SECONDS = 1.0
RECEIVED = "peer-"

log = logging.getLogger(__name__)


def is_received(job: str) -> bool:
    """Whether an adapter came from another host's trainer."""
    return job.startswith(RECEIVED)


class HandoverError(Exception):
    """An adapter could not be given to every vLLM."""


@dataclass
class Replica:
    """One address, and what was last seen there. A peer, another host's trainer, gets what was trained here only."""

    client: VllmClient
    is_peer: bool = False
    is_up: bool = False
    detail: str = "not asked yet"
    adapters: int = 0
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class Handover:
    def __init__(
        self,
        store: Store,
        placement: Placement,
        clients: list[VllmClient],
        peers: list[PeerClient],
        base: BaseModel,
        max_rank: int,
    ) -> None:
        self._store = store
        self._placement = placement
        self.replicas = [Replica(client) for client in clients] + [Replica(peer, is_peer=True) for peer in peers]
        self._base = base
        self._max_rank = max_rank
        self._publishing: set[str] = set()
        # An adapter is never put in place while it is being removed.
        self._files = asyncio.Lock()
        self._lingering: set[asyncio.Task[None]] = set()

    async def publish(self, model: str, job: str, folder: str, limit_seconds: float) -> None:
        """Checks the adapter, then loads it everywhere; a vLLM that is away is waited for. On failure it is nowhere.

        When cancelled it may be loaded in some: `withdraw` is for the caller, or `repair` sees to it.
        """
        self._publishing.add(model)
        given_up = asyncio.Event()
        try:
            source = self._placement.on_disk(folder)
            await asyncio.to_thread(check_adapter, source, self._base, self._max_rank)
            # A thread goes on when its caller is cancelled, and so does what keeps others from the files meanwhile.
            path = await asyncio.shield(self._place(folder))
            deadline = time.monotonic() + limit_seconds
            to = [replica for replica in self.replicas if not (replica.is_peer and is_received(job))]
            await asyncio.gather(*(self._load(replica, model, str(path), deadline, given_up) for replica in to))
            self._store.add_adapter(model, job, folder)
        except (AdapterError, PlacementError, Refused, NotNow) as error:
            # The other vLLMs, which may be waited for, must not get it after this.
            given_up.set()
            await self.withdraw(model, folder)
            raise HandoverError(str(error)) from error
        finally:
            self._publishing.discard(model)

    async def _place(self, folder: str) -> Path:
        async with self._files:
            return await asyncio.to_thread(self._placement.place, folder)

    async def _load(self, replica: Replica, model: str, path: str, deadline: float, given_up: asyncio.Event) -> None:
        while True:
            try:
                async with replica.lock:
                    if given_up.is_set():
                        return
                    await replica.client.load(model, path)
                replica.is_up = True
                return
            except NotNow as error:
                replica.is_up, replica.detail = False, str(error)
                if time.monotonic() > deadline:
                    raise NotNow(f"the adapter is not loaded in time: {error}") from None
                await asyncio.sleep(RETRY_SECONDS)

    async def withdraw(self, model: str, folder: str, linger_seconds: float = 0) -> None:
        """Takes an adapter away from every vLLM that can be reached, and from memory and disk.

        `linger_seconds` keeps the files for requests that vLLM has accepted already: one whose adapter was dropped from
        its cache has it read again, and vLLM 0.32 dies when the files are gone.
        """
        self._store.delete_adapter(model)
        for replica in self.replicas:
            # One that is away has lost it by itself, or is told by `watch`.
            with contextlib.suppress(NotNow):
                async with replica.lock:
                    await replica.client.unload(model)
        removal = asyncio.create_task(self._remove(folder, linger_seconds))
        if not linger_seconds:
            await removal
            return
        # The task needs someone who remembers it. One that is cut off is made good by `sweep` at the next start.
        self._lingering.add(removal)
        removal.add_done_callback(self._lingering.discard)

    async def _remove(self, folder: str, linger_seconds: float) -> None:
        await asyncio.sleep(linger_seconds)
        async with self._files:
            await asyncio.to_thread(self._placement.remove, folder)

    async def _place_again(self, model: str, folder: str) -> None:
        """Puts an adapter back where vLLM reads it, unless it was taken away meanwhile."""
        async with self._files:
            if self._store.adapter(model):
                await asyncio.to_thread(self._placement.place, folder)

    def sweep(self, working: set[str]) -> None:
        """Removes the files of adapters that are in no store, but those of `working` jobs."""
        known = {row["folder"] for row in self._store.adapters()}
        for folder in self._placement.folders():
            if folder not in known and folder.split("-step-")[0] not in working:
                self._placement.remove(folder)

    async def watch(self, seconds: float) -> None:
        """Looks at every vLLM again and again, without end."""
        while True:
            await asyncio.gather(*(self.repair(replica) for replica in self.replicas))
            await asyncio.sleep(seconds)

    async def repair(self, replica: Replica) -> None:
        """Loads what a vLLM lacks, and unloads what is ours and should not be there."""
        try:
            there = await replica.client.models()
            replica.is_up, replica.detail = True, "answers"
            rows = [row for row in self._store.adapters() if not (replica.is_peer and is_received(row["job"]))]
            for row in rows:
                await self._give_again(replica, row["model"], row["folder"], is_there=row["model"] in there)
            wanted = {row["model"] for row in rows} | self._publishing
            ours = str(self._placement.path(""))
            for model, root in there.items():
                if root.startswith(ours) and model not in wanted:
                    async with replica.lock:
                        # It may be wanted since.
                        if model not in self._publishing and not self._store.adapter(model):
                            await replica.client.unload(model)
            replica.adapters = len(wanted - self._publishing)
        except NotNow as error:
            replica.is_up, replica.detail = False, str(error)
        except Exception:
            log.exception("looking after %s", replica.client.url)

    async def _give_again(self, replica: Replica, model: str, folder: str, *, is_there: bool) -> None:
        try:
            # Also of one that is there: vLLM may read it again, and dies when it can't.
            await self._place_again(model, folder)
            async with replica.lock:
                # It may have been deleted since.
                if not is_there and self._store.adapter(model):
                    await replica.client.load(model, str(self._placement.path(folder)))
                    log.info("loaded %s into %s again", model, replica.client.url)
        except (Refused, PlacementError) as error:
            log.error("%s can't be given to %s again: %s", model, replica.client.url, error)

    def touch(self, model: str) -> None:
        """Marks an adapter as used."""
        if row := self._store.adapter(model):
            self._placement.touch(row["folder"])

    async def sample(self, model: str, limit_seconds: float) -> list[str]:
        """One token from every vLLM."""
        return [await replica.client.complete(model, "Hello", limit_seconds) for replica in self.replicas]

    def status(self) -> list[dict[str, Any]]:
        return [
            {"url": replica.client.url, "up": replica.is_up, "detail": replica.detail, "adapters": replica.adapters}
            for replica in self.replicas
        ]
