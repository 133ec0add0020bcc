"""First weights of a LoRA A matrix, the same for every backend, tensor parallel size and machine."""

from __future__ import annotations

import hashlib
import math

import numpy


def initial_lora_a(seed: int, module: str, rank: int, in_features: int) -> numpy.ndarray:
    """Float32 array [rank, in_features], uniform in ±sqrt(1 / in_features): what PEFT draws (Kaiming, a = sqrt 5).

    `module` is the module's name in Hugging Face's model, e.g. `model.layers.0.self_attn.q_proj`. A backend that splits
    the matrix over ranks takes its slice of the whole.
    """
    digest = hashlib.sha256(f"{seed}:{module}:{rank}:{in_features}".encode()).digest()
    generator = numpy.random.Generator(numpy.random.Philox(int.from_bytes(digest[:16], "little")))
    bound = math.sqrt(1.0 / in_features)
    return generator.uniform(-bound, bound, size=(rank, in_features)).astype(numpy.float32)
