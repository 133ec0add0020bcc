"""Lets Megatron run on the CPU, for tests: stands in for what it asks of a GPU. Only ranks that torchrun starts get it.

Megatron puts buffers on "the current CUDA device", and changes between random states of CUDA devices where it draws
first weights and for dropout. Weights are replaced by the model's own and by `lora_init.py`, and dropout is off.
"""

import os

if "RANK" in os.environ:
    import contextlib

    import torch

    CPU = torch.device("cpu")
    torch.cuda.current_device = lambda: CPU

    import megatron.core.tensor_parallel.random as megatron_random

    megatron_random.CudaRNGStatesTracker.fork = lambda self, name="": contextlib.nullcontext()
