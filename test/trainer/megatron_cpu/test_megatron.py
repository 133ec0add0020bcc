"""Megatron-Bridge for real, on the CPU with one and two ranks, against transformers and PEFT on the same tiny model."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).resolve().parent
for folder in (HERE.parent, HERE.parent.parent.parent / "bootstrap" / "trainer"):
    sys.path.insert(0, str(folder))

from tiny_model import make_tiny_model  # noqa: E402

from tandem_trainer.backend import AdapterConfig, BackendError, Batch, WorkerSettings  # noqa: E402
from tandem_trainer.launch import worker_command  # noqa: E402
from tandem_trainer.worker_process import Worker, WorkerDied  # noqa: E402

BATCH = Batch([[1, 5, 9, 40, 77, 3, 8], [2, 7, 7, 30, 2]], [[0, 0, 1, 1, 1, 1, 1], [0, 1, 1, 1, 1]])
# Two ranks don't divide this rank, and k has no adapter although Megatron keeps it with q and v.
ODD = AdapterConfig(5, 12.0, ("q_proj", "v_proj", "o_proj", "gate_proj", "down_proj"), 3)
RATE = 5e-3
START_SECONDS = 280


class Trainer:
    """A worker, called without asyncio."""

    def __init__(self, backend: str, tensor_parallel: int, model: Path) -> None:
        settings = WorkerSettings(
            *(backend, str(model), ""), device="cpu", dtype="float32", tensor_parallel=tensor_parallel, threads=1
        )
        self._loop = asyncio.new_event_loop()
        self.worker = Worker(worker_command(backend, tensor_parallel), settings, START_SECONDS, 10)
        self.description = self._loop.run_until_complete(self.worker.start())

    def __call__(self, op: str, **args: Any) -> dict[str, Any]:
        return self._loop.run_until_complete(self.worker.call(op, **args))

    def create(self, job: str, config: AdapterConfig) -> dict[str, Any]:
        return self("create", job=job, config=config.to_json())

    def step(self, job: str, batch: Batch = BATCH) -> float:
        return self("step", job=job, batch=batch.to_json(), learning_rate=RATE)["loss"]

    def losses(self, job: str, config: AdapterConfig, steps: int) -> list[float]:
        self.create(job, config)
        return [self.step(job) for _ in range(steps)]

    def stop(self) -> None:
        self._loop.run_until_complete(self.worker.stop())


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    os.environ["PYTHONPATH"] = str(HERE)
    return make_tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def expected(model: Path) -> list[float]:
    """Losses of the other backend."""
    trainer = Trainer("huggingface", 1, model)
    try:
        return trainer.losses("job", ODD, 8)
    finally:
        trainer.stop()


@pytest.fixture(scope="module", params=[1, 2], ids=["tp1", "tp2"])
def trainer(request: pytest.FixtureRequest, model: Path) -> Iterator[Trainer]:
    trainer = Trainer("megatron-bridge", request.param, model)
    assert trainer.description["tensorParallel"] == request.param
    yield trainer
    trainer.stop()


def test_the_losses_are_those_of_transformers_and_peft(trainer: Trainer, expected: list[float]) -> None:
    losses = trainer.losses("job", ODD, 8)
    assert losses == pytest.approx(expected, abs=2e-5)
    assert losses[-1] < losses[0] - 1


def test_ten_jobs_in_turns_learn_what_each_learns_alone(trainer: Trainer) -> None:
    configs = {f"job-{i}": AdapterConfig(4 + 4 * (i % 2), 16.0, ODD.targets[i % 3 :], i) for i in range(10)}
    alone = {job: trainer.losses(job, config, 4) for job, config in configs.items()}
    # Each is made after another one took a step, so while that one's adapter is in the model.
    turns: dict[str, list[float]] = {}
    for job, config in configs.items():
        turns[job] = trainer.losses(job, config, 1)
    for _ in range(3):
        for job in configs:
            turns[job].append(trainer.step(job))
    for job in configs:
        assert turns[job] == pytest.approx(alone[job], abs=1e-5)
        trainer("drop", job=job)
    assert len({tuple(losses) for losses in alone.values()}) == 10


def test_a_saved_adapter_is_peft_s_own_and_a_checkpoint_goes_on_where_it_was(
    trainer: Trainer, model: Path, tmp_path: Path
) -> None:
    import peft
    import torch
    import transformers

    trainer.losses("job", ODD, 4)
    trainer("save", job="job", path=str(tmp_path), with_state=True)
    then = [trainer.step("job") for _ in range(3)]
    trainer("drop", job="job")
    trainer("restore", job="job", config=ODD.to_json(), path=str(tmp_path))
    assert [trainer.step("job") for _ in range(3)] == pytest.approx(then, abs=1e-5)

    base = transformers.AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    loaded = peft.PeftModel.from_pretrained(base, str(tmp_path))
    config = loaded.peft_config["default"]
    assert (config.r, config.lora_alpha, set(config.target_modules)) == (5, 12, set(ODD.targets))
    total, counted = 0.0, 0
    for tokens, mask in zip(BATCH.tokens, BATCH.mask, strict=True):
        logits = loaded(torch.tensor([tokens])).logits[0, :-1]
        each = torch.nn.functional.cross_entropy(logits, torch.tensor(tokens[1:]), reduction="none")
        total += float((each * torch.tensor(mask[1:])).sum())
        counted += sum(mask[1:])
    assert total / counted == pytest.approx(then[0], abs=2e-5)


def test_what_a_job_asks_for_wrongly_fails_that_job_alone(trainer: Trainer, tmp_path: Path) -> None:
    with pytest.raises(BackendError, match="targets — got lm_head"):
        trainer.create("bad", AdapterConfig(4, 8.0, ("lm_head",), 0))
    with pytest.raises(BackendError, match="checkpoint — got nothing"):
        trainer("restore", job="bad", config=ODD.to_json(), path=str(tmp_path))
    with pytest.raises(BackendError, match="KeyError"):
        trainer.step("never-made")
    assert trainer.losses("job", ODD, 2)[1] < 6.2


def test_a_rank_that_dies_ends_the_worker(model: Path) -> None:
    trainer = Trainer("megatron-bridge", 2, model)
    try:
        trainer.create("job", ODD)
        launcher = Path(f"/proc/{trainer.worker.pid}/task/{trainer.worker.pid}/children").read_text().split()
        ranks = [int(each) for each in launcher if b"tandem_trainer" in Path(f"/proc/{each}/cmdline").read_bytes()]
        assert len(ranks) == 2
        os.kill(ranks[1], signal.SIGKILL)
        began = time.monotonic()
        with pytest.raises(WorkerDied):
            while time.monotonic() - began < 60:
                trainer.step("job")
        assert time.monotonic() - began < 60
    finally:
        trainer.stop()
