"""One job while it is being trained: what the scheduler holds of it between its turns."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from pathlib import Path

from .batches import Batches
from .hyperparameters import Resolved
from .prepare import read_examples
from .store import Job

# Checkpoints of epochs that stay beside the final model.
KEPT_EPOCHS = 2


@dataclass(eq=False)
class Turn:
    """`is_loaded`: the worker holds the adapter as of `job.step`."""

    job: Job
    resolved: Resolved
    batches: Batches
    folder: Path
    is_loaded: bool = False
    is_over: bool = False
    trained_tokens: dict[int, int] = field(default_factory=dict)

    @property
    def saved_step(self) -> int:
        """The step of the checkpoint that a restart goes on from; 0 when there is none."""
        return self.job.document.get("saved_step", 0)

    @property
    def saved_folder(self) -> Path:
        return self.folder / f"resume-{self.saved_step}"

    def go_back(self) -> None:
        """To what is on disk, after the worker lost what it held."""
        self.is_loaded = False
        self.job.step = self.saved_step

    def epoch_checkpoints(self) -> list[int]:
        """Steps whose adapters are kept: the last ends of epochs before the end of all."""
        per_epoch = self.batches.steps_per_epoch
        ends = range(per_epoch, self.resolved.n_steps, per_epoch)
        return list(ends)[-KEPT_EPOCHS:]

    def forget_older(self) -> None:
        for folder in self.folder.glob("resume-*"):
            if folder != self.saved_folder:
                shutil.rmtree(folder, ignore_errors=True)


def make_turn(job: Job, folder: Path) -> Turn:
    """Reads the job's examples; the job's hyper-parameters are resolved."""
    resolved = Resolved.from_json(job.document["resolved"])
    examples = read_examples(folder / "examples.jsonl")
    return Turn(job, resolved, Batches(examples, resolved.batch_size, resolved.seed), folder)
