"""Backend `huggingface`: transformers and PEFT, on the CPU or one CUDA device. One resident model, an adapter a job."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import peft
import torch
import transformers
from safetensors.torch import load_file, save_file

from .backend import OPTIMIZER, AdapterConfig, BackendError, Batch, WorkerSettings
from .device_memory import DeviceMemory
from .lora_init import initial_lora_a
from .memory import BYTES_PER_PARAMETER

# Keeps the PEFT wrapper in place when no job is there; PEFT can't be without an adapter.
RESIDENT = "resident"


def make_backend(settings: WorkerSettings) -> HuggingFaceBackend:
    return HuggingFaceBackend(settings)


def choose_device(asked: str) -> torch.device:
    if asked == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(asked)


def choose_dtype(asked: str, device: torch.device) -> torch.dtype:
    # Most CPUs compute bfloat16 more slowly than float32.
    if asked == "auto":
        return torch.bfloat16 if device.type == "cuda" else torch.float32
    return getattr(torch, asked)


def is_out_of_memory(error: BaseException) -> bool:
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    # PyTorch's CPU allocator raises a plain RuntimeError.
    return "can't allocate memory" in str(error) or "not enough memory" in str(error)


def is_disk_full(error: BaseException) -> bool:
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    return "No space left on device" in str(error) or "file write failed" in str(error)


class HuggingFaceBackend:
    is_leader = True

    def __init__(self, settings: WorkerSettings) -> None:
        self._settings = settings
        self._device = choose_device(settings.device)
        self._dtype = choose_dtype(settings.dtype, self._device)
        if settings.threads:
            torch.set_num_threads(settings.threads)
        self._memory = DeviceMemory(self._device, settings)
        base = transformers.AutoModelForCausalLM.from_pretrained(settings.model, dtype=self._dtype).to(self._device)
        base.requires_grad_(False)
        base.config.use_cache = False
        self._parameters = sum(parameter.numel() for parameter in base.parameters())
        resident = peft.LoraConfig(r=1, target_modules=["q_proj"], task_type="CAUSAL_LM")
        self._model = peft.get_peft_model(base, resident, adapter_name=RESIDENT)
        self._model.eval()
        self._optimizers: dict[str, torch.optim.AdamW] = {}
        self._configs: dict[str, AdapterConfig] = {}
        self._memory.base_is_resident()

    def describe(self) -> dict[str, Any]:
        versions = {"torch": torch.__version__, "transformers": transformers.__version__, "peft": peft.__version__}
        return {
            "backend": "huggingface",
            "device": str(self._device),
            "dtype": str(self._dtype).removeprefix("torch."),
            "tensorParallel": 1,
            "parameters": self._parameters,
            "versions": versions,
        }

    def create(self, job: str, config: AdapterConfig) -> dict[str, Any]:
        self.drop(job)
        lora = peft.LoraConfig(
            r=config.rank,
            lora_alpha=config.alpha,
            target_modules=list(config.targets),
            lora_dropout=0.0,
            bias="none",
            task_type="CAUSAL_LM",
        )
        try:
            self._model.add_adapter(job, lora)
            self._model.set_adapter(job)
            parameters = self._trainable(job)
            self._set_initial(job, config)
        except Exception as error:
            self.drop(job)
            if is_out_of_memory(error):
                raise self._misfit(config, 1, 1) from error
            raise BackendError("invalid", f"adapter: {error}") from error
        self._configs[job] = config
        self._optimizers[job] = torch.optim.AdamW(
            parameters,
            betas=OPTIMIZER["betas"],
            eps=OPTIMIZER["eps"],
            weight_decay=OPTIMIZER["weight_decay"],
        )
        return {"parameters": sum(parameter.numel() for parameter in parameters)}

    def _set_initial(self, job: str, config: AdapterConfig) -> None:
        for name, layer in self._model.base_model.model.named_modules():
            if job not in getattr(layer, "lora_A", {}):
                continue
            a, b = layer.lora_A[job].weight, layer.lora_B[job].weight
            with torch.no_grad():
                a.copy_(torch.from_numpy(initial_lora_a(config.seed, name, config.rank, a.shape[1])))
                b.zero_()

    def _trainable(self, job: str) -> list[torch.nn.Parameter]:
        return [parameter for name, parameter in self._model.named_parameters() if f".{job}." in name]

    def step(self, job: str, batch: Batch, learning_rate: float) -> dict[str, Any]:
        optimizer = self._optimizers[job]
        self._model.set_adapter(job)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate
        self._memory.begin_step()
        try:
            loss, tokens = self._loss(batch)
            value = float(loss.detach())
            if not torch.isfinite(loss):
                raise BackendError("not_finite", f"the loss is not a number any more — got {value}")
            loss.backward()
            parameters = optimizer.param_groups[0]["params"]
            torch.nn.utils.clip_grad_norm_(parameters, OPTIMIZER["max_grad_norm"])
            optimizer.step()
        except (RuntimeError, MemoryError) as error:
            loss = None
            optimizer.zero_grad(set_to_none=True)
            if not is_out_of_memory(error):
                raise
            self._memory.release()
            raise self._misfit(self._configs[job], len(batch.tokens), batch.sequence_length) from error
        optimizer.zero_grad(set_to_none=True)
        self._memory.end_step(len(batch.tokens) * batch.sequence_length)
        return {"loss": value, "tokens": tokens}

    def _loss(self, batch: Batch) -> tuple[torch.Tensor, int]:
        """Mean negative log-likelihood over masked tokens, and their number."""
        length = batch.sequence_length
        tokens = torch.zeros(len(batch.tokens), length, dtype=torch.long)
        mask = torch.zeros_like(tokens)
        attention = torch.zeros_like(tokens)
        for row, (sequence, counted) in enumerate(zip(batch.tokens, batch.mask, strict=True)):
            tokens[row, : len(sequence)] = torch.tensor(sequence)
            mask[row, : len(sequence)] = torch.tensor(counted)
            attention[row, : len(sequence)] = 1
        labels = tokens.masked_fill(mask == 0, -100)[:, 1:].to(self._device)
        counted = int((labels != -100).sum())
        logits = self._model(input_ids=tokens.to(self._device), attention_mask=attention.to(self._device)).logits
        total = torch.nn.functional.cross_entropy(
            logits[:, :-1].flatten(0, 1).float(), labels.flatten(), ignore_index=-100, reduction="sum"
        )
        return total / max(1, counted), counted

    def _estimated_bytes_per_token(self, sequence_length: int) -> int:
        """Without a measurement: logits five times in float32; in each layer about 34 values as wide as the hidden
        state, and on the CPU, whose attention is not fused, three times the attention scores.
        """
        config = self._model.config
        width = torch.finfo(self._dtype).bits // 8
        layer = 34 * width * config.hidden_size
        if self._device.type == "cpu":
            layer += 3 * 4 * config.num_attention_heads * sequence_length
        return 20 * config.vocab_size + layer * config.num_hidden_layers

    def _misfit(self, config: AdapterConfig, batch_size: int, sequence_length: int) -> BackendError:
        others = sum(self._adapter_bytes(other) for other in self._configs.values() if other is not config)
        estimate = self._estimated_bytes_per_token(sequence_length)
        own = self._adapter_bytes(config)
        return self._memory.misfit(config, own, others, batch_size, sequence_length, estimate)

    def _adapter_bytes(self, config: AdapterConfig) -> int:
        values = 0
        for name, layer in self._model.base_model.model.named_modules():
            if hasattr(layer, "lora_A") and name.rsplit(".", 1)[-1] in config.targets:
                values += config.rank * (layer.in_features + layer.out_features)
        return values * BYTES_PER_PARAMETER

    def save(self, job: str, path: str, with_state: bool) -> dict[str, Any]:
        folder = Path(path)
        state = peft.get_peft_model_state_dict(self._model, adapter_name=job, save_embedding_layers=False)
        config = self._model.peft_config[job]
        config.base_model_name_or_path = self._settings.extra.get("model_name", self._settings.model)
        inference, config.inference_mode = config.inference_mode, True
        try:
            weights = {name: value.detach().cpu().contiguous() for name, value in state.items()}
            save_file(weights, folder / "adapter_model.safetensors", metadata={"format": "pt"})
            config.save_pretrained(str(folder))
            if with_state:
                torch.save(self._optimizers[job].state_dict(), folder / "optimizer.pt")
        except Exception as error:
            if is_disk_full(error):
                raise BackendError("disk_full", f"no space left on the disk while saving to {path}") from error
            raise
        finally:
            config.inference_mode = inference
        return {"bytes": sum(file.stat().st_size for file in folder.iterdir())}

    def restore(self, job: str, config: AdapterConfig, path: str) -> dict[str, Any]:
        answer = self.create(job, config)
        folder = Path(path)
        peft.set_peft_model_state_dict(self._model, load_file(folder / "adapter_model.safetensors"), adapter_name=job)
        state = torch.load(folder / "optimizer.pt", map_location=self._device, weights_only=True)
        self._optimizers[job].load_state_dict(state)
        return answer

    def drop(self, job: str) -> dict[str, Any]:
        self._optimizers.pop(job, None)
        self._configs.pop(job, None)
        if job in self._model.peft_config:
            self._model.set_adapter(RESIDENT)
            self._model.delete_adapter(job)
        self._memory.release()
        return {}

    def memory(self) -> dict[str, Any]:
        return self._memory.report()

    def follow(self) -> None:
        raise NotImplementedError(f"backend huggingface has one process; this one, {os.getpid()}, leads")
