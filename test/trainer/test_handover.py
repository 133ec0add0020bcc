"""Adapters on their way to several vLLMs, when something else happens to them meanwhile."""

from __future__ import annotations

import asyncio
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from tandem_trainer import handover as handover_module
from tandem_trainer.handover import Handover, HandoverError
from tandem_trainer.placement import Placement
from tandem_trainer.store import Store
from tandem_trainer.vllm_client import NotNow, Refused


class OneVllm:
    """Stands for a client of one vLLM, which fails or waits as a test says; `fake_vllm.py` stands for vLLM itself."""

    url = "http://127.0.0.1:1"

    def __init__(self, **loaded: str) -> None:
        self.loaded = dict(loaded)
        self.says: list[Exception] = []
        self.loads = 0
        self.may_unload = asyncio.Event()
        self.may_unload.set()

    async def models(self) -> dict[str, str]:
        return dict(self.loaded)

    async def load(self, name: str, path: str) -> None:
        self.loads += 1
        if self.says:
            raise self.says.pop(0)
        self.loaded[name] = path

    async def unload(self, name: str) -> None:
        await self.may_unload.wait()
        self.loaded.pop(name, None)


@pytest.fixture
def placement(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Placement:
    monkeypatch.setattr(handover_module, "check_adapter", lambda *_: 1)
    monkeypatch.setattr(handover_module, "RETRY_SECONDS", 0.05)
    (tmp_path / "disk" / "ftjob-1").mkdir(parents=True)
    (tmp_path / "disk" / "ftjob-1" / "adapter_config.json").write_text("{}")
    return Placement(tmp_path / "disk", tmp_path / "memory", None)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path / "trainer.sqlite")
    yield store
    store.close()


def make(store: Store, placement: Placement, *vllms: OneVllm) -> Handover:
    return Handover(store, placement, list(vllms), [], SimpleNamespace(), 16)


def test_a_hand_over_that_is_cancelled_while_it_copies_leaves_no_copy(
    store: Store, placement: Placement, monkeypatch: pytest.MonkeyPatch
) -> None:
    copying, may_copy = threading.Event(), threading.Event()
    copy = shutil.copy2

    def held_copy(source: Path, target: Path) -> None:
        copy(source, target)
        copying.set()
        assert may_copy.wait(20)

    monkeypatch.setattr(shutil, "copy2", held_copy)

    async def main() -> None:
        handover = make(store, placement, OneVllm())
        publishing = asyncio.create_task(handover.publish("ft:1", "ftjob-1", "ftjob-1", 5))
        assert await asyncio.to_thread(copying.wait, 20)
        publishing.cancel()
        withdrawing = asyncio.create_task(handover.withdraw("ft:1", "ftjob-1"))
        await asyncio.sleep(0.2)
        may_copy.set()
        await asyncio.wait_for(withdrawing, 20)
        with pytest.raises(asyncio.CancelledError):
            await publishing

    asyncio.run(main())
    # The loop has waited for its threads by now.
    assert placement.folders() == set()


def test_what_one_vllm_refuses_no_other_gets_later(store: Store, placement: Placement) -> None:
    async def main() -> None:
        refusing, away = OneVllm(), OneVllm()
        refusing.says, away.says = [Refused("rank 32 is too much")], [NotNow("away")]
        handover = make(store, placement, refusing, away)
        with pytest.raises(HandoverError, match="rank 32 is too much"):
            await handover.publish("ft:1", "ftjob-1", "ftjob-1", 5)
        await asyncio.sleep(0.3)
        assert (away.loads, away.loaded) == (1, {})

    asyncio.run(main())


def test_what_is_sent_again_while_strays_are_unloaded_is_no_stray(store: Store, placement: Placement) -> None:
    async def main() -> None:
        vllm = OneVllm(**{name: str(placement.path(name)) for name in ("stray", "ft:1")})
        handover = make(store, placement, vllm)
        vllm.may_unload.clear()
        looking = asyncio.create_task(handover.repair(handover.replicas[0]))
        await asyncio.sleep(0.1)
        publishing = asyncio.create_task(handover.publish("ft:1", "ftjob-1", "ftjob-1", 5))
        await asyncio.sleep(0.1)
        vllm.may_unload.set()
        await asyncio.wait_for(asyncio.gather(looking, publishing), 20)
        assert set(vllm.loaded) == {"ft:1"}

    asyncio.run(main())


def test_an_adapter_that_goes_while_it_is_marked_as_used_is_no_error(
    placement: Placement, monkeypatch: pytest.MonkeyPatch
) -> None:
    # It is there at the look before, and not at what follows.
    monkeypatch.setattr(Path, "is_dir", lambda _: True)
    placement.touch("ftjob-1")
