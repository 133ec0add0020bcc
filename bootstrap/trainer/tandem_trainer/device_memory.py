"""What a worker's process takes of its device, and what it may take; the same for all backends."""

from __future__ import annotations

import resource
from pathlib import Path
from typing import Any

import torch

from .backend import AdapterConfig, BackendError, WorkerSettings
from .memory import Misfit, nearest_settings, say_misfit


class DeviceMemory:
    """On a GPU PyTorch holds the process to its fraction; on the CPU the kernel does, once the base model is there."""

    def __init__(self, device: torch.device, settings: WorkerSettings) -> None:
        self._device = device
        self._settings = settings
        self._is_cuda = device.type == "cuda"
        self._base_bytes = 0
        self._before_step = 0
        # The most that a step took for each token of its padded batch; 0 until one went well.
        self.bytes_per_token = 0
        if self._is_cuda and settings.memory_fraction:
            torch.cuda.set_per_process_memory_fraction(settings.memory_fraction, device)

    def base_is_resident(self) -> None:
        """Called once the base model is loaded."""
        self.release()
        self._base_bytes = self._allocated()
        if not self._is_cuda and self._settings.memory_bytes:
            limit = data_bytes() + self._settings.memory_bytes
            resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))

    def begin_step(self) -> None:
        self._before_step = self._allocated()
        if self._is_cuda:
            torch.cuda.reset_peak_memory_stats(self._device)

    def end_step(self, padded_tokens: int) -> None:
        """After a step that went well."""
        if self._is_cuda:
            used = torch.cuda.max_memory_allocated(self._device) - self._before_step
            self.bytes_per_token = max(self.bytes_per_token, used // padded_tokens)

    def release(self) -> None:
        """Gives what is cached back to the device."""
        if self._is_cuda:
            torch.cuda.empty_cache()

    def report(self) -> dict[str, Any]:
        """The answer of `Backend.memory`."""
        peak = torch.cuda.max_memory_allocated(self._device) if self._is_cuda else None
        return {
            "limitBytes": self._limit(),
            "allocatedBytes": self._allocated(),
            "peakBytes": peak,
            "baseBytes": self._base_bytes,
        }

    def misfit(
        self,
        config: AdapterConfig,
        adapter_bytes: int,
        others_bytes: int,
        batch_size: int,
        sequence_length: int,
        estimated_bytes_per_token: int,
    ) -> BackendError:
        """What to say of a job that did not fit: the numbers, and the nearest settings that do.

        `others_bytes` is what other jobs' adapters hold; the estimate counts where no step was measured.
        """
        limit = self._limit() or 0
        free = max(0, limit - self._base_bytes - others_bytes)
        # It did not fit, so it needs more than there is, whatever was estimated.
        at_least = int(1.3 * max(0, free - adapter_bytes) / (batch_size * sequence_length))
        misfit = Misfit(
            free_bytes=free,
            adapter_bytes=adapter_bytes,
            bytes_per_token=max(1, self.bytes_per_token or estimated_bytes_per_token, at_least),
            batch_size=batch_size,
            sequence_length=sequence_length,
            rank=config.rank,
        )
        details = {**vars(misfit), "limit_bytes": limit, "fits": nearest_settings(misfit)}
        return BackendError("out_of_memory", say_misfit(misfit, limit), details)

    def _limit(self) -> int | None:
        if self._is_cuda:
            total = torch.cuda.get_device_properties(self._device).total_memory
            return int(total * (self._settings.memory_fraction or 1))
        return self._base_bytes + self._settings.memory_bytes if self._settings.memory_bytes else None

    def _allocated(self) -> int:
        return torch.cuda.memory_allocated(self._device) if self._is_cuda else data_bytes()


def data_bytes() -> int:
    """Private writable memory of this process: what RLIMIT_DATA counts."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmData:"):
            return int(line.split()[1]) * 1024
    return 0
