"""Learning rate of a step."""

from __future__ import annotations

# With a multiplier of 1. LoRA takes about ten times what full fine-tuning does.
BASE_LEARNING_RATE = 2e-4

WARMUP_SHARE = 0.05
FINAL_SHARE = 0.1


def learning_rate(step: int, n_steps: int, multiplier: float) -> float:
    """Of step 0 … n_steps - 1: rises over the first 5 %, then falls in a straight line to a tenth."""
    peak = BASE_LEARNING_RATE * multiplier
    warmup = int(n_steps * WARMUP_SHARE)
    if step < warmup:
        return peak * (step + 1) / (warmup + 1)
    done = (step - warmup) / max(1, n_steps - warmup)
    return peak * (1 - (1 - FINAL_SHARE) * done)
