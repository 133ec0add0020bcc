"""Hyper-parameters of a job: OpenAI's own and those of LoRA, read from where a client can put them."""

from __future__ import annotations

import difflib
import math
from dataclasses import asdict, dataclass
from typing import Any

from .backend import ALL_TARGETS, AdapterConfig
from .errors import ApiError

OPENAI = ("n_epochs", "batch_size", "learning_rate_multiplier")
OURS = ("n_steps", "lora_rank", "lora_alpha", "lora_targets", "seed")
NAMES = OPENAI + OURS

# Clients that can't send what OpenAI's API does not know put it into the job's metadata: {"tandem.lora_rank": "8"}.
METADATA_PREFIX = "tandem."

MAX_STEPS = 100_000
MAX_BATCH = 256
AUTO_EPOCHS = 3
AUTO_RANK = 16


@dataclass(frozen=True)
class Asked:
    """What was asked for; None stands for "auto"."""

    n_epochs: int | None = None
    batch_size: int | None = None
    learning_rate_multiplier: float | None = None
    n_steps: int | None = None
    lora_rank: int | None = None
    lora_alpha: float | None = None
    lora_targets: tuple[str, ...] | None = None
    seed: int | None = None

    def resolve(self, n_examples: int, max_rank: int, default_seed: int) -> Resolved:
        """Fills in what was left to "auto", once the number of examples is known."""
        batch_size = self.batch_size or max(1, min(8, n_examples // 8))
        n_epochs = self.n_epochs or AUTO_EPOCHS
        n_steps = self.n_steps or math.ceil(n_examples / batch_size) * n_epochs
        rank = self.lora_rank or min(AUTO_RANK, max_rank)
        return Resolved(
            n_epochs=math.ceil(n_steps * batch_size / n_examples) if self.n_steps else n_epochs,
            batch_size=batch_size,
            learning_rate_multiplier=self.learning_rate_multiplier or 1.0,
            n_steps=n_steps,
            lora_rank=rank,
            lora_alpha=self.lora_alpha or 2.0 * rank,
            lora_targets=self.lora_targets or ALL_TARGETS,
            seed=default_seed if self.seed is None else self.seed,
        )

    def to_json(self) -> dict[str, Any]:
        return {name: "auto" if value is None else value for name, value in asdict(self).items() if name != "seed"}


@dataclass(frozen=True)
class Resolved:
    n_epochs: int
    batch_size: int
    learning_rate_multiplier: float
    n_steps: int
    lora_rank: int
    lora_alpha: float
    lora_targets: tuple[str, ...]
    seed: int

    @property
    def adapter(self) -> AdapterConfig:
        return AdapterConfig(self.lora_rank, self.lora_alpha, self.lora_targets, self.seed)

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "lora_targets": list(self.lora_targets)}

    @staticmethod
    def from_json(value: dict[str, Any]) -> Resolved:
        return Resolved(**{**value, "lora_targets": tuple(value["lora_targets"])})


def read_hyperparameters(
    values: dict[str, Any], place: str, metadata: dict[str, str], seed: int | None, max_rank: int, targets: set[str]
) -> Asked:
    """Checks all that was given. `targets` are the modules that the base model has.

    Raises `ApiError` with the parameter's full name.
    """
    given = {f"{place}.{name}": (name, value) for name, value in values.items()}
    for name, value in metadata.items():
        if name.startswith(METADATA_PREFIX):
            given[f"metadata.{name}"] = (name.removeprefix(METADATA_PREFIX), value)
    found: dict[str, Any] = {"seed": seed}
    for param, (name, value) in given.items():
        if name not in NAMES:
            raise unknown(param, name)
        if value is None or value == "auto":
            continue
        found[name] = read_one(param, name, value, max_rank, targets)
    if found.get("n_steps") and found.get("n_epochs"):
        raise ApiError(400, "n_steps and n_epochs — both given — allowed: one of them", f"{place}.n_steps")
    return Asked(**found)


def unknown(param: str, name: str) -> ApiError:
    near = difflib.get_close_matches(name, NAMES, 1)
    hint = f" — did you mean {near[0]}?" if near else ""
    return ApiError(400, f"unknown hyper-parameter — got '{name}' — allowed: {', '.join(NAMES)}{hint}", param)


def read_one(param: str, name: str, value: Any, max_rank: int, targets: set[str]) -> Any:
    if name == "lora_targets":
        return read_targets(param, value, targets)
    if name in ("learning_rate_multiplier", "lora_alpha"):
        return read_number(param, name, value)
    limits = {
        "n_epochs": (1, 1000, ""),
        "n_steps": (1, MAX_STEPS, ""),
        "batch_size": (1, MAX_BATCH, ""),
        "seed": (0, 2**31 - 1, ""),
        "lora_rank": (1, max_rank, " — fix: ask for less, or raise lora.maxRank, which holds for vLLM and the trainer"),
    }
    low, high, fix = limits[name]
    number = as_number(value)
    if number is None or number != int(number) or not low <= number <= high:
        raise ApiError(400, f"{name} — got {value!r} — allowed: a whole number from {low} to {high}{fix}", param)
    return int(number)


def read_number(param: str, name: str, value: Any) -> float:
    number = as_number(value)
    if number is None or not 0 < number <= 1000:
        raise ApiError(400, f"{name} — got {value!r} — allowed: a number above 0, at most 1000", param)
    return number


def as_number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def read_targets(param: str, value: Any, targets: set[str]) -> tuple[str, ...]:
    names = value.split(",") if isinstance(value, str) else value
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise ApiError(400, f"lora_targets — got {value!r} — allowed: a list of {', '.join(sorted(targets))}", param)
    names = [name.strip() for name in names]
    wrong = [name for name in names if name not in targets]
    if wrong:
        raise ApiError(400, f"lora_targets — got '{wrong[0]}' — allowed: {', '.join(sorted(targets))}", param)
    return tuple(name for name in ALL_TARGETS if name in names)
