"""Backend `megatron-bridge`: Megatron-Bridge under torchrun, one rank a GPU, the base model split over all of them."""

from __future__ import annotations

import importlib.metadata as metadata
import os
from pathlib import Path
from typing import Any

import torch
import transformers

from .backend import AdapterConfig, BackendError, Batch, WorkerSettings
from .device_memory import DeviceMemory
from .huggingface import choose_dtype, is_disk_full, is_out_of_memory
from .megatron_layers import build_model, has_transformer_engine, prepare_imports
from .megatron_ranks import Ranks
from .memory import BYTES_PER_PARAMETER

# Sequences are padded to a multiple of this, and of the tensor parallel size, by which Megatron-Bridge divides them.
ROUND_TO = 8


def make_backend(settings: WorkerSettings) -> MegatronBackend:
    return MegatronBackend(settings)


def choose_device(asked: str) -> torch.device:
    if torch.cuda.is_available() and asked != "cpu":
        return torch.device("cuda", int(os.environ["LOCAL_RANK"]))
    if asked == "cpu":
        return torch.device("cpu")
    raise BackendError(
        "invalid", f"device — got {asked} on a host without a GPU — fix: --backend huggingface, or a host with GPUs"
    )


def check_splits(model: str, tensor_parallel: int) -> None:
    config = transformers.AutoConfig.from_pretrained(model)
    heads, kv_heads = config.num_attention_heads, config.num_key_value_heads
    if heads % tensor_parallel or kv_heads % tensor_parallel:
        raise BackendError(
            "invalid",
            f"tensor parallel size — got {tensor_parallel} — allowed: what divides the {heads} attention heads and the "
            f"{kv_heads} key-value heads of the model",
        )


class MegatronBackend:
    def __init__(self, settings: WorkerSettings) -> None:
        self._settings = settings
        self._device = choose_device(settings.device)
        self._dtype = choose_dtype(settings.dtype, self._device)
        if settings.threads:
            torch.set_num_threads(settings.threads)
        self._ranks = Ranks(self._device, self._run)
        self.is_leader = self._ranks.rank == 0
        if self._ranks.size != settings.tensor_parallel:
            raise BackendError(
                "invalid", f"ranks — got {self._ranks.size} — allowed: {settings.tensor_parallel}, as torchrun is told"
            )
        check_splits(settings.model, settings.tensor_parallel)
        self._device_memory = DeviceMemory(self._device, settings)
        prepare_imports()
        self._bridge, self._chunks = build_model(settings.model, settings.tensor_parallel, self._device, self._dtype)
        from megatron.core import parallel_state
        from megatron.core.utils import unwrap_model

        self._group = parallel_state.get_tensor_model_parallel_group()
        self._layers = unwrap_model(self._chunks)[0].decoder.layers
        self._parameters = self._count_parameters()
        self._adapters: dict[str, Any] = {}
        self._in_place: Any = None
        self._device_memory.base_is_resident()

    def _count_parameters(self) -> int:
        total = 0
        for parameter in self._chunks[0].parameters():
            split = getattr(parameter, "tensor_model_parallel", False)
            total += parameter.numel() * (self._ranks.size if split else 1)
        return total

    def describe(self) -> dict[str, Any]:
        names = ("torch", "transformers", "megatron-bridge", "megatron-core")
        versions = {name: metadata.version(name) for name in names}
        if has_transformer_engine():
            versions["transformer-engine"] = metadata.version("transformer-engine")
        return {
            "backend": "megatron-bridge",
            "device": self._device.type,
            "dtype": str(self._dtype).removeprefix("torch."),
            "tensorParallel": self._ranks.size,
            "parameters": self._parameters,
            "versions": versions,
        }

    def create(self, job: str, config: AdapterConfig) -> dict[str, Any]:
        return self._ranks.lead("create", job=job, config=config)[0]

    def step(self, job: str, batch: Batch, learning_rate: float) -> dict[str, Any]:
        return self._ranks.lead("step", job=job, batch=batch, learning_rate=learning_rate)[0]

    def save(self, job: str, path: str, with_state: bool) -> dict[str, Any]:
        self._ranks.lead("save", job=job, path=path, with_state=with_state)
        return {"bytes": sum(file.stat().st_size for file in Path(path).iterdir())}

    def restore(self, job: str, config: AdapterConfig, path: str) -> dict[str, Any]:
        return self._ranks.lead("restore", job=job, config=config, path=path)[0]

    def drop(self, job: str) -> dict[str, Any]:
        return self._ranks.lead("drop", job=job)[0]

    def memory(self) -> dict[str, Any]:
        everyone = self._ranks.lead("memory")
        worst = max(everyone, key=lambda each: each["peakBytes"] or 0)
        return {**worst, "allocatedBytes": max(each["allocatedBytes"] for each in everyone)}

    def follow(self) -> None:
        self._ranks.follow()

    def _run(self, op: str, args: dict[str, Any]) -> dict[str, Any]:
        """What one rank does; the others do the same at the same time."""
        return getattr(self, f"_{op}")(**args)

    def _create(self, job: str, config: AdapterConfig) -> dict[str, Any]:
        from .megatron_adapters import Adapter

        self._drop(job)
        # Otherwise the new adapter would be put around another job's instead of the base model.
        self._deactivate()
        try:
            adapter = Adapter(self._layers, config, self._ranks.size, self._ranks.rank)
        except RuntimeError as error:
            if is_out_of_memory(error):
                raise self._misfit(config, 1, 1) from error
            raise
        self._adapters[job] = adapter
        return {"parameters": adapter.trainable}

    def _activate(self, job: str) -> Any:
        adapter = self._adapters[job]
        if self._in_place is not adapter:
            self._deactivate()
            adapter.put_in_place()
            self._in_place = adapter
        return adapter

    def _deactivate(self) -> None:
        if self._in_place:
            self._in_place.take_away()
            self._in_place = None

    def _step(self, job: str, batch: Batch, learning_rate: float) -> dict[str, Any]:
        adapter = self._activate(job)
        self._device_memory.begin_step()
        try:
            loss, tokens = self._loss(batch)
            # The same number on all ranks, so all of them stop here or none.
            value = float(loss.detach())
            if value != value or value in (float("inf"), float("-inf")):
                raise BackendError("not_finite", f"the loss is not a number any more — got {value}")
            loss.backward()
            adapter.update(learning_rate, self._group)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            raise self._misfit(adapter.config, len(batch.tokens), batch.sequence_length) from error
        finally:
            loss = None
            adapter.forget_gradients()
        self._device_memory.end_step(len(batch.tokens) * batch.sequence_length)
        return {"loss": value, "tokens": tokens}

    def _loss(self, batch: Batch) -> tuple[torch.Tensor, int]:
        """Mean negative log-likelihood over masked tokens, and their number."""
        multiple = max(ROUND_TO, self._ranks.size)
        length = -(-batch.sequence_length // multiple) * multiple
        tokens = torch.zeros(len(batch.tokens), length, dtype=torch.long)
        mask = torch.zeros_like(tokens)
        for row, (sequence, counted) in enumerate(zip(batch.tokens, batch.mask, strict=True)):
            tokens[row, : len(sequence)] = torch.tensor(sequence)
            mask[row, : len(sequence)] = torch.tensor(counted)
        # Position t tells token t + 1.
        labels, counts = tokens.roll(-1, 1), mask.roll(-1, 1)
        counts[:, -1] = 0
        positions = torch.arange(length).expand_as(tokens)
        tokens, labels, positions, counts = (
            each.contiguous().to(self._device) for each in (tokens, labels, positions, counts)
        )
        losses = self._chunks[0](input_ids=tokens, position_ids=positions, attention_mask=None, labels=labels)
        counted = int(counts.sum())
        return (losses.float() * counts).sum() / max(1, counted), counted

    def _misfit(self, config: AdapterConfig, batch_size: int, sequence_length: int) -> BackendError:
        others = [adapter.config for adapter in self._adapters.values() if adapter.config is not config]
        others_bytes = sum(self._adapter_bytes(other) for other in others)
        own = self._adapter_bytes(config)
        return self._device_memory.misfit(config, own, others_bytes, batch_size, sequence_length, 0)

    def _adapter_bytes(self, config: AdapterConfig) -> int:
        """On one rank."""
        model = self._layers[0].config
        head = model.kv_channels
        queries, keys = model.num_attention_heads * head, model.num_query_groups * head
        hidden, inner = model.hidden_size, model.ffn_hidden_size
        widths = {
            "q_proj": hidden + queries,
            "k_proj": hidden + keys,
            "v_proj": hidden + keys,
            "o_proj": queries + hidden,
            "gate_proj": hidden + inner,
            "up_proj": hidden + inner,
            "down_proj": inner + hidden,
        }
        values = config.rank * len(self._layers) * sum(widths[target] for target in config.targets)
        return values * BYTES_PER_PARAMETER // self._ranks.size

    def _save(self, job: str, path: str, with_state: bool) -> dict[str, Any]:
        adapter = self._activate(job)
        folder = Path(path)
        name = self._settings.extra.get("model_name", self._settings.model)
        try:
            adapter.export(self._bridge, self._chunks, folder, name)
            if with_state:
                adapter.save_state(folder)
        except Exception as error:
            if is_disk_full(error):
                raise BackendError("disk_full", f"no space left on the disk while saving to {path}") from error
            raise
        return {}

    def _restore(self, job: str, config: AdapterConfig, path: str) -> dict[str, Any]:
        answer = self._create(job, config)
        self._adapters[job].load_state(Path(path), self._device)
        return answer

    def _drop(self, job: str) -> dict[str, Any]:
        adapter = self._adapters.pop(job, None)
        if adapter and adapter is self._in_place:
            self._deactivate()
        adapter = None
        self._device_memory.release()
        return {}

    def _memory(self) -> dict[str, Any]:
        return self._device_memory.report()
