"""The command line."""

from __future__ import annotations

import argparse
import os
from dataclasses import dataclass
from pathlib import Path

MIB = 1 << 20

BACKEND_HELP = "none: train nothing here, only serve what other hosts' trainers send (--peer there)"


@dataclass(frozen=True)
class Settings:
    """What the trainer is started with; `api_key` is no part of the command line."""

    state: Path
    adapters: Path
    model: Path
    model_name: str
    vllm: tuple[str, ...]
    peer: tuple[str, ...]
    api_key: str | None
    port: int = 8001
    backend: str = "huggingface"
    device: str = "auto"
    dtype: str = "auto"
    max_rank: int = 64
    max_sequence_length: int | None = None
    max_active: int = 16
    max_file_bytes: int = 512 * MIB
    checkpoint_steps: int = 50
    memory_fraction: float | None = None
    memory_bytes: int | None = None
    adapters_bytes: int | None = None
    tensor_parallel: int = 1
    worker_python: str | None = None
    threads: int | None = None
    nice: int = 10
    copy_to: str | None = None
    organization: str = "tandem"
    handover_seconds: float = 900.0
    watch_seconds: float = 5.0
    linger_seconds: float = 60.0
    worker_start_seconds: float = 900.0


def read_settings(argv: list[str]) -> Settings:
    """Reads the command line, and the key from the environment, which it then leaves: no worker needs it."""
    given = vars(make_parser().parse_args(argv))
    no_key = given.pop("no_key")
    keys = [os.environ.pop(name, "") for name in ("TANDEM_API_KEY", "VLLM_API_KEY")]
    key = next(filter(None, keys), None)
    if not key and not no_key:
        raise SystemExit(
            "VLLM_API_KEY is not set — fix: put vLLM's key there, or pass --no-key to be open to all on this host"
        )
    for name in ("max_file", "memory", "adapters_limit"):
        value = given.pop(f"{name}_mib")
        target = {"max_file": "max_file_bytes", "memory": "memory_bytes", "adapters_limit": "adapters_bytes"}[name]
        given[target] = value * MIB if value is not None else None
    given["max_file_bytes"] = given["max_file_bytes"] or Settings.max_file_bytes
    given["vllm"], given["peer"] = tuple(given["vllm"]), tuple(given["peer"])
    return Settings(api_key=None if no_key else key, **given)


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="tandem_trainer", description="Trains LoRA adapters beside a serving vLLM.")
    add = parser.add_argument
    add("--state", type=Path, required=True, help="folder for files, jobs and finished adapters; survives restarts")
    add(
        "--adapters",
        type=Path,
        default=Path("/dev/shm/tandem-adapters"),
        help="memory file system that vLLM reads from",
    )
    add("--model", type=Path, required=True, help="directory of the base model")
    add("--model-name", required=True, help="name under which vLLM serves it")
    add("--vllm", action="append", required=True, metavar="URL", help="address of a vLLM; once for each")
    add("--peer", action="append", default=[], metavar="URL", help="trainer of another host, for the vLLMs there")
    add("--port", type=int, default=8001, help="on 127.0.0.1 (%(default)s)")
    add("--backend", choices=("huggingface", "megatron-bridge", "none"), default="huggingface", help=BACKEND_HELP)
    add("--worker-python", help="interpreter of the backend's environment (this one)")
    add("--tensor-parallel", type=int, default=1, help="ranks of megatron-bridge (%(default)s)")
    add("--device", default="auto", help="auto, cpu, cuda, cuda:1")
    add("--dtype", default="auto", help="of the base model: auto is float32 on the CPU, bfloat16 on a GPU")
    add("--max-rank", type=int, default=64, help="vLLM's --max-lora-rank (%(default)s)")
    add("--max-sequence-length", type=int, help="tokens of an example (the model's own limit, at most 8192)")
    add("--max-active", type=int, default=16, help="jobs that take turns; others wait (%(default)s)")
    add("--max-file-mib", type=int, help="size of an uploaded file (512)")
    add("--checkpoint-steps", type=int, default=50, help="what a crash can cost (%(default)s)")
    add("--memory-fraction", type=float, help="share of each GPU's memory that the worker may use")
    add("--memory-mib", type=int, help="on the CPU: what the worker may use beyond the base model")
    add("--adapters-limit-mib", type=int, help="of the memory file system; older adapters are then read from disk")
    add("--threads", type=int, help="of the worker on the CPU")
    add("--nice", type=int, default=10, help="of the worker, so that serving comes first (%(default)s)")
    add("--copy-to", help="a directory or s3:// address that gets a copy of every finished adapter")
    add("--organization", default="tandem", help="in ft:<model>:<organization>:<suffix>:<id>")
    add(
        "--handover-seconds", type=float, default=900.0, help="how long a vLLM that is away is waited for (%(default)s)"
    )
    add("--watch-seconds", type=float, default=5.0, help="between two looks at vLLM's adapters (%(default)s)")
    add("--linger-seconds", type=float, default=60.0, help="that a deleted model's files outlive it (%(default)s)")
    add("--worker-start-seconds", type=float, default=900.0)
    add("--no-key", action="store_true", help="ask no key of anyone on this host")
    return parser
