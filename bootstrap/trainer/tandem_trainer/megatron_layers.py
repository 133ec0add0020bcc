"""Builds Megatron's model from a directory in Hugging Face's format, with Transformer Engine or without.

Without it Megatron's own "local" layers are used, with PyTorch's fused attention in place of Megatron's, which keeps
whole attention matrices. Megatron-Bridge imports some of Transformer Engine's names although it then uses none of
them, so empty classes stand there. Megatron-Bridge can only be imported once `prepare_imports` was called.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import sys
import types
from typing import Any

import torch
from torch import nn

PLACEHOLDERS = {
    "transformer_engine": (),
    "transformer_engine.pytorch": ("Linear", "LayerNormLinear", "GroupedLinear", "TransformerLayer"),
    "transformer_engine.pytorch.ops": (
        *("Sequential", "LayerNorm", "RMSNorm", "Linear", "Quantize", "MakeExtraOutput"),
        *("Dropout", "ConstantScale", "AddExtraInput"),
    ),
}

# What Megatron can't do without Transformer Engine or Apex, or what does not pay for a frozen base model.
FUSIONS = (
    *("gradient_accumulation_fusion", "masked_softmax_fusion", "bias_activation_fusion", "apply_rope_fusion"),
    *("persist_layer_norm", "bias_dropout_fusion", "cross_entropy_loss_fusion"),
)


def has_transformer_engine() -> bool:
    found = importlib.util.find_spec("transformer_engine")
    return found is not None and found.origin is not None


def prepare_imports() -> None:
    """Makes Megatron-Bridge importable where Transformer Engine is missing."""
    if has_transformer_engine():
        return
    # Megatron decides at its import whether Transformer Engine is there; it must do so before the placeholders are.
    import megatron.core.extensions.transformer_engine  # noqa: F401

    for name, classes in PLACEHOLDERS.items():
        module = types.ModuleType(name)
        module.__path__ = []
        module.__spec__ = importlib.machinery.ModuleSpec(name, None)
        for each in classes:
            setattr(module, each, type(each, (nn.Module,), {}))
        sys.modules[name] = module
        parent, _, child = name.rpartition(".")
        if parent:
            setattr(sys.modules[parent], child, module)
    sys.modules["transformer_engine"].__version__ = "0.0.0"

    import megatron.bridge.peft.utils as utils

    utils.HAVE_TE, utils.TECL, utils.TERL = False, (), ()


class FusedAttention(nn.Module):
    """Causal attention of right-padded sequences by PyTorch; takes the place of Megatron's `DotProductAttention`."""

    def __init__(self, config: Any, softmax_scale: float | None = None, **_: Any) -> None:
        super().__init__()
        self._scale = softmax_scale
        self._dropout = config.attention_dropout

    def forward(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, attention_mask: Any = None, **_: Any
    ) -> torch.Tensor:
        """Each [sequence, batch, heads, head size], keys and values maybe of fewer; the result is as wide."""
        assert not self._dropout, "attention dropout is not supported"
        q, k, v = (each.permute(1, 2, 0, 3) for each in (query, key, value))
        grouped = q.shape[1] != k.shape[1]
        context = nn.functional.scaled_dot_product_attention(
            q, k, v, is_causal=True, scale=self._scale, enable_gqa=grouped
        )
        return context.permute(2, 0, 1, 3).flatten(2).contiguous()


def local_layers(config: Any) -> Any:
    from megatron.core.models.gpt.gpt_layer_specs import get_gpt_layer_local_spec

    spec = get_gpt_layer_local_spec(
        num_experts=None,
        moe_grouped_gemm=False,
        qk_layernorm=getattr(config, "qk_layernorm", False),
        normalization=config.normalization,
    )
    spec.submodules.self_attention.submodules.core_attention = FusedAttention
    return spec


def build_model(model: str, tensor_parallel: int, device: torch.device, dtype: torch.dtype) -> tuple[Any, list[Any]]:
    """Answers the bridge and the model, frozen, with its weights; every rank of the process group calls it."""
    from megatron.bridge import AutoBridge
    from megatron.core import parallel_state
    from megatron.core.tensor_parallel.random import model_parallel_cuda_manual_seed

    bridge = AutoBridge.from_hf_pretrained(model, torch_dtype=dtype)
    provider = bridge.to_megatron_provider(load_weights=True)
    provider.tensor_model_parallel_size = tensor_parallel
    provider.pipeline_model_parallel_size = 1
    provider.sequence_parallel = False
    provider.params_dtype = provider.pipeline_dtype = dtype
    provider.bf16, provider.fp16 = dtype == torch.bfloat16, False
    provider.hidden_dropout = provider.attention_dropout = 0.0
    on_cpu = device.type == "cpu"
    provider.use_cpu_initialization = on_cpu
    if not has_transformer_engine():
        for fusion in FUSIONS:
            setattr(provider, fusion, False)
        provider.transformer_layer_spec = local_layers
    provider.finalize()
    parallel_state.initialize_model_parallel(tensor_model_parallel_size=tensor_parallel)
    if not on_cpu:
        model_parallel_cuda_manual_seed(1)
    chunks = provider.provide_distributed_model(wrap_with_ddp=False, use_cpu_initialization=on_cpu)
    for chunk in chunks:
        chunk.requires_grad_(False)
    return bridge, chunks
