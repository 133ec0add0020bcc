"""Order and batches of a job's examples: a function of seed and step alone, so that a resumed job goes on exactly."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

from .backend import Batch
from .tokens import Example


@dataclass(frozen=True)
class Batches:
    """Examples in an order that is new in each epoch. The last batch of an epoch may be smaller."""

    examples: list[Example]
    batch_size: int
    seed: int

    @property
    def steps_per_epoch(self) -> int:
        return math.ceil(len(self.examples) / self.batch_size)

    def at(self, step: int) -> Batch:
        """Batch of step 0, 1, …; epochs follow one another without end."""
        epoch, position = divmod(step, self.steps_per_epoch)
        order = list(range(len(self.examples)))
        random.Random(f"{self.seed}:{epoch}").shuffle(order)
        chosen = order[position * self.batch_size : (position + 1) * self.batch_size]
        picked = [self.examples[index] for index in chosen]
        return Batch([example.tokens for example in picked], [example.mask for example in picked])
