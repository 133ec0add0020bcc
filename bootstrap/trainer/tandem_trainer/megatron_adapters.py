"""Adapters of many jobs on one resident Megatron model: made, put in place, optimized, saved, restored.

Megatron keeps q, k and v in one matrix, and gate and up. Megatron-Bridge's "canonical" LoRA has an adapter for each of
them as Hugging Face's PEFT has, which gives the same adapters and losses as the other backend. Of such a matrix it
needs all parts, so parts that a job does not ask for get an adapter of zeros that is not trained and not saved. A rank
that the tensor parallel size does not divide is filled up with zeros, which have no gradient and are not saved either.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from megatron.bridge.peft.canonical_lora import CanonicalLoRA
from megatron.bridge.peft.utils import ParallelLinearAdapter
from safetensors.torch import load_file, save_file
from torch import nn

from .backend import OPTIMIZER, AdapterConfig, BackendError
from .lora_init import initial_lora_a


@dataclass(frozen=True)
class Place:
    """A matrix of a layer that can have adapters: where Megatron and Hugging Face have it."""

    parent: str
    name: str
    hf_parent: str
    parts: dict[str, tuple[str, str]]
    """By Hugging Face's name: Megatron-Bridge's name of it, and the part's key in the wrapper, if it has any."""


PLACES = (
    Place(
        "self_attention",
        "linear_qkv",
        "self_attn",
        {
            "q_proj": ("linear_q", "adapter_q"),
            "k_proj": ("linear_k", "adapter_k"),
            "v_proj": ("linear_v", "adapter_v"),
        },
    ),
    Place("self_attention", "linear_proj", "self_attn", {"o_proj": ("linear_proj", "")}),
    Place(
        "mlp",
        "linear_fc1",
        "mlp",
        {"gate_proj": ("linear_fc1_gate", "adapter_gate"), "up_proj": ("linear_fc1_up", "adapter_up")},
    ),
    Place("mlp", "linear_fc2", "mlp", {"down_proj": ("linear_fc2", "")}),
)
TARGETS = frozenset(target for place in PLACES for target in place.parts)


class Adapter:
    """One job's adapter on this rank: the wrappers around base matrices, 32-bit weights, and the optimizer."""

    def __init__(self, layers: Any, config: AdapterConfig, tensor_parallel: int, rank: int) -> None:
        if unknown := set(config.targets) - TARGETS:
            raise BackendError("invalid", f"targets — got {', '.join(sorted(unknown))} — allowed: {', '.join(TARGETS)}")
        self.config = config
        self._shard = (rank, tensor_parallel)
        self._padded_rank = -(-config.rank // tensor_parallel) * tensor_parallel
        places = [place for place in PLACES if set(place.parts) & set(config.targets)]
        self.lora = CanonicalLoRA(
            target_modules=[megatron for place in places for megatron, _ in place.parts.values()],
            dim=self._padded_rank,
            # Its scale is alpha / dim, and dim may be more than the rank.
            alpha=config.alpha * self._padded_rank / config.rank,
            dropout=0.0,
        )
        self._parameters: list[nn.Parameter] = []
        self.wrappers = list(self._wrap(layers, places))
        # Where the model computes in 16 bits the optimizer still counts in 32.
        self._masters = [
            parameter if parameter.dtype == torch.float32 else parameter.detach().float().requires_grad_()
            for parameter in self._parameters
        ]
        self._optimizer = torch.optim.AdamW(
            self._masters,
            betas=OPTIMIZER["betas"],
            eps=OPTIMIZER["eps"],
            weight_decay=OPTIMIZER["weight_decay"],
        )

    def _wrap(self, layers: Any, places: list[Place]) -> Iterator[tuple[nn.Module, str, nn.Module, nn.Module]]:
        """(owner, attribute, base matrix, wrapper) of every matrix that gets an adapter."""
        for index, layer in enumerate(layers):
            for place in places:
                owner = getattr(layer, place.parent)
                base = getattr(owner, place.name, None)
                if base is None:
                    named = ", ".join(sorted(set(place.parts) & set(self.config.targets)))
                    raise BackendError("invalid", f"targets — got {named} — layer {index} has experts instead")
                assert not hasattr(base, "to_wrap"), "an adapter is in place"
                wrapper = self.lora.transform(base, place.name, f"decoder.layers.{index}.{place.parent}")
                for target, (_, key) in place.parts.items():
                    part = getattr(wrapper.adapter, key) if key else wrapper.adapter
                    self._set_initial(part, target, f"model.layers.{index}.{place.hf_parent}.{target}")
                yield owner, place.name, base, wrapper

    @torch.no_grad()
    def _set_initial(self, part: ParallelLinearAdapter, target: str, module: str) -> None:
        a, b = part.linear_in.weight, part.linear_out.weight
        b.zero_()
        if target not in self.config.targets:
            a.zero_()
            a.requires_grad_(False)
            b.requires_grad_(False)
            return
        rank, tensor_parallel = self._shard
        in_features = a.shape[1] * (tensor_parallel if part.input_is_parallel else 1)
        whole = torch.zeros(self._padded_rank, in_features)
        whole[: self.config.rank] = torch.from_numpy(
            initial_lora_a(self.config.seed, module, self.config.rank, in_features)
        )
        # Split by inputs where the base matrix is, otherwise by rank.
        a.copy_(whole.chunk(tensor_parallel, dim=1 if part.input_is_parallel else 0)[rank])
        self._parameters += [a, b]

    @property
    def trainable(self) -> int:
        """Trainable values of all ranks together, without what fills the rank up."""
        values = sum(parameter.numel() for parameter in self._parameters) * self._shard[1]
        return values * self.config.rank // self._padded_rank

    def put_in_place(self) -> None:
        for owner, name, _, wrapper in self.wrappers:
            setattr(owner, name, wrapper)

    def take_away(self) -> None:
        for owner, name, base, _ in self.wrappers:
            setattr(owner, name, base)

    def update(self, learning_rate: float, group: Any) -> None:
        """One step of the optimizer on the gradients there are, clipped to their global norm over all ranks."""
        for parameter, master in zip(self._parameters, self._masters, strict=True):
            if master is not parameter:
                master.grad = parameter.grad.float()
                parameter.grad = None
        gradients = [master.grad for master in self._masters]
        # Every parameter is split over the ranks, none is there twice.
        squares = torch.stack([gradient.square().sum() for gradient in gradients]).sum()
        dist.all_reduce(squares, group=group)
        scale = (OPTIMIZER["max_grad_norm"] / (squares.sqrt() + 1e-6)).clamp(max=1.0)
        torch._foreach_mul_(gradients, scale)
        for each in self._optimizer.param_groups:
            each["lr"] = learning_rate
        self._optimizer.step()
        self._publish()

    @torch.no_grad()
    def _publish(self) -> None:
        for parameter, master in zip(self._parameters, self._masters, strict=True):
            if master is not parameter:
                parameter.copy_(master)

    def forget_gradients(self) -> None:
        self._optimizer.zero_grad(set_to_none=True)
        for parameter in self._parameters:
            parameter.grad = None

    def state_file(self, folder: Path) -> Path:
        rank, tensor_parallel = self._shard
        return folder / f"megatron-{rank}-of-{tensor_parallel}.pt"

    def save_state(self, folder: Path) -> None:
        masters = [master.detach() for master in self._masters]
        torch.save({"masters": masters, "optimizer": self._optimizer.state_dict()}, self.state_file(folder))

    def load_state(self, folder: Path, device: torch.device) -> None:
        file = self.state_file(folder)
        if not file.exists():
            there = ", ".join(sorted(path.name for path in folder.glob("megatron-*.pt"))) or "nothing"
            raise BackendError(
                "invalid",
                f"checkpoint — got {there} — allowed: {file.name} — fix: train with the tensor parallel size that the "
                "job was started with, or start the job anew",
            )
        state = torch.load(file, map_location=device, weights_only=True)
        with torch.no_grad():
            for master, saved in zip(self._masters, state["masters"], strict=True):
                master.copy_(saved)
        self._optimizer.load_state_dict(state["optimizer"])
        self._publish()

    def export(self, bridge: Any, chunks: list[Any], path: Path, model_name: str) -> None:
        """Writes the PEFT directory. Collective: every rank calls it, and only then may one of them fail."""
        memory = Path("/dev/shm")
        with tempfile.TemporaryDirectory(prefix="tandem-", dir=memory if memory.is_dir() else None) as draft:
            bridge.save_hf_adapter(
                chunks, draft, peft_config=self.lora, base_model_name_or_path=model_name, show_progress=False
            )
            if self._shard[0] == 0:
                self._finish(Path(draft), path)

    def _finish(self, draft: Path, path: Path) -> None:
        """Takes what only Megatron needed out of the adapter that the bridge wrote."""
        rank = self.config.rank
        weights = {}
        for name, value in load_file(draft / "adapter_model.safetensors").items():
            module, _, half = name.removesuffix(".weight").rpartition(".")
            if module.rpartition(".")[2] in self.config.targets:
                weights[name] = (value[:rank] if half == "lora_A" else value[:, :rank]).contiguous()
        described = json.loads((draft / "adapter_config.json").read_text())
        alpha = self.config.alpha
        described["r"] = rank
        described["lora_alpha"] = int(alpha) if float(alpha).is_integer() else alpha
        described["target_modules"] = sorted(self.config.targets)
        save_file(weights, path / "adapter_model.safetensors", metadata={"format": "pt"})
        (path / "adapter_config.json").write_text(json.dumps(described, indent=2) + "\n")
