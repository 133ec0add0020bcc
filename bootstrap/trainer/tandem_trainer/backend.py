"""What trains: the interface that every backend implements, and the protocol by which the API process speaks to it.

A backend lives in a *worker process* of its own. It loads the base model once and holds the adapters of many jobs; the
API process decides whose turn it is. One call does one thing and returns when it is done; calls never overlap.

**Protocol.** The worker connects to the Unix socket in its settings and sends JSON lines, UTF-8, one message a line.
First, once the base model is resident, `{"hello": Description}`, or `{"hello_error": {"kind", "message", "details"}}`.
Then for each request `{"id": n, "op": name, "args": {...}}` one answer `{"id": n, "result": {...}}` or
`{"id": n, "error": {"kind", "message", "details"}}`. Ops and their arguments are the methods of `Backend` below, and
`exit`. End of file on the socket ends the worker. Standard output and error are its log. Under torchrun only rank 0
connects: `worker.py` calls `serve` where `is_leader` says so and `follow` on the other ranks.

**What all backends have in common**, so that the same data and seed give the same losses as far as arithmetic allows:
tokens, masks, order and batches come from the API process (`tokens.py`, `batches.py`), the learning rate with each step
(`schedule.py`); the first weights of every LoRA A from `lora_init.py`, B is zero; no dropout; `OPTIMIZER` for all.

**Loss.** The mean over all tokens of the batch whose mask is 1 of the negative log-likelihood in nats of that token
given all before it: position 0 of a sequence is never predicted. Sequences are padded on the right by the backend.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Protocol

# AdamW after gradients are clipped to a global norm of 1.0 (over all ranks).
OPTIMIZER = {"betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.0, "max_grad_norm": 1.0}

# Modules that get an adapter when a job names none; names as in Hugging Face's Llama family and as PEFT writes them.
ALL_TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")

ErrorKind = Literal["out_of_memory", "invalid", "disk_full", "not_finite", "failed"]


class BackendError(Exception):
    """What a backend says when it can't do a call. The job fails with `message`; the worker goes on, unless `fatal`.

    `fatal`: the worker's own state can no longer be trusted (a collective was cut, the device is lost). The worker ends
    after it has answered, is started again, and the other jobs resume from their last checkpoint.
    """

    def __init__(
        self, kind: ErrorKind, message: str, details: dict[str, Any] | None = None, *, fatal: bool = False
    ) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message
        self.details = details or {}
        self.fatal = fatal


@dataclass(frozen=True)
class AdapterConfig:
    """Shape of one job's adapter. `seed` fixes its first weights."""

    rank: int
    alpha: float
    targets: tuple[str, ...] = ALL_TARGETS
    seed: int = 0

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "targets": list(self.targets)}

    @staticmethod
    def from_json(value: dict[str, Any]) -> AdapterConfig:
        return AdapterConfig(value["rank"], value["alpha"], tuple(value["targets"]), value["seed"])


@dataclass(frozen=True)
class Batch:
    """`tokens[i]` are the token ids of sequence i, `mask[i]` as many 0 and 1: 1 where the token counts in the loss."""

    tokens: list[list[int]]
    mask: list[list[int]]

    @property
    def sequence_length(self) -> int:
        return max(len(sequence) for sequence in self.tokens)

    def to_json(self) -> dict[str, Any]:
        return {"tokens": self.tokens, "mask": self.mask}

    @staticmethod
    def from_json(value: dict[str, Any]) -> Batch:
        return Batch(value["tokens"], value["mask"])


@dataclass(frozen=True)
class WorkerSettings:
    """How a worker is started; JSON in the environment variable TANDEM_WORKER."""

    backend: str
    model: str
    """Directory of the base model in Hugging Face's format."""
    socket: str
    device: str = "auto"
    dtype: str = "auto"
    max_rank: int = 64
    memory_fraction: float | None = None
    """Share of each GPU's total memory that this process may use."""
    memory_bytes: int | None = None
    """On the CPU: what the process may allocate beyond the base model."""
    tensor_parallel: int = 1
    threads: int | None = None
    extra: dict[str, Any] = field(default_factory=dict)


class Backend(Protocol):
    """Every method runs on the worker's only thread. `job` is the job's id ([a-z0-9-], no dots).

    A method raises `BackendError`; whatever else it raises fails the job as kind `failed` with its text.
    """

    is_leader: bool
    """Whether this process is the one that speaks to the API process (rank 0)."""

    def describe(self) -> dict[str, Any]:
        """{"backend", "device", "dtype", "tensorParallel", "parameters", "versions": {...}} of the resident model."""

    def create(self, job: str, config: AdapterConfig) -> dict[str, Any]:
        """A new adapter with fresh optimizer state. Answers {"parameters": trainable}. Replaces one of that name."""

    def step(self, job: str, batch: Batch, learning_rate: float) -> dict[str, Any]:
        """One forward, backward and optimizer step of one job. Answers {"loss": before it, "tokens": that counted}.

        After an error the job's weights may be anything; the API process drops or restores it. Raises `not_finite` when
        the loss is, and changes nothing then; `out_of_memory` with details as `memory.py` wants them.
        """

    def save(self, job: str, path: str, with_state: bool) -> dict[str, Any]:
        """Writes a PEFT directory (adapter_config.json, adapter_model.safetensors) to `path`, which is there and empty.

        `with_state` adds the optimizer's state in a form of the backend's own, for `restore`. The API process gives the
        directory its name once this has returned. Raises `disk_full`.
        """

    def restore(self, job: str, config: AdapterConfig, path: str) -> dict[str, Any]:
        """Makes the adapter as it was when `save(..., with_state=True)` wrote `path`. Answers as `create`."""

    def drop(self, job: str) -> dict[str, Any]:
        """Forgets the job and frees its memory; succeeds when there is none of that name."""

    def memory(self) -> dict[str, Any]:
        """{"limitBytes", "allocatedBytes", "peakBytes", "baseBytes"} of the worst rank; null where not known."""

    def follow(self) -> None:
        """On ranks that don't lead: does what the leader is asked, until it exits."""
