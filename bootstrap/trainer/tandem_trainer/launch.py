"""The command line of a backend's worker process."""

from __future__ import annotations

import sys


def worker_command(backend: str, tensor_parallel: int, python: str | None = None) -> list[str]:
    """Argv of the worker. `python` is the interpreter of the backend's own environment, by default this one."""
    python = python or sys.executable
    if backend == "huggingface":
        return [python, "-m", "tandem_trainer.worker"]
    # One node, a free port of torchrun's own choice; every rank inherits the environment.
    launcher = [python, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={tensor_parallel}"]
    return [*launcher, "-m", "tandem_trainer.worker"]
