"""What to tell a user whose job did not fit: the numbers, and the nearest settings that do."""

from __future__ import annotations

from dataclasses import dataclass

GIB = 1 << 30

# Bytes of device memory that one trainable parameter takes: weight, gradient and two AdamW moments, each float32.
BYTES_PER_PARAMETER = 16

# Of what is free, what is promised: allocators lose some to fragments.
USABLE = 0.9


@dataclass(frozen=True)
class Misfit:
    """What a step needed and what there was, in bytes of one device."""

    free_bytes: int
    """What this job may use for its adapter and its step: the limit less the base model and other jobs' adapters."""
    adapter_bytes: int
    """Weights, gradients and optimizer state of the job's adapter."""
    bytes_per_token: int
    """Activations and logits a padded token of the batch, measured or estimated."""
    batch_size: int
    sequence_length: int
    rank: int


def nearest_settings(misfit: Misfit) -> list[dict[str, int]]:
    """Settings that fit, each with as few changes as can be, the least change first. Empty when none fits.

    The batch is made smaller first, since that costs nothing but time; then the sequence length at batch size 1; then
    the rank, if the adapter itself is what does not fit.
    """
    found = []
    room = USABLE * misfit.free_bytes - misfit.adapter_bytes
    tokens = int(room // misfit.bytes_per_token) if room > 0 else 0
    batch = min(tokens // misfit.sequence_length, misfit.batch_size - 1)
    if batch > 0:
        found.append({"batch_size": batch})
    # A multiple of 16 is easier to hold to.
    length = min(tokens, misfit.sequence_length - 1) // 16 * 16
    if not found and length > 0:
        found.append({"batch_size": 1, "sequence_length": length})
    bytes_per_rank = misfit.adapter_bytes / misfit.rank
    needed = misfit.bytes_per_token * misfit.sequence_length
    rank = int((USABLE * misfit.free_bytes - needed) // bytes_per_rank) if bytes_per_rank else 0
    if not found and 0 < rank < misfit.rank:
        found.append({"batch_size": 1, "lora_rank": rank})
    return found


def say_misfit(misfit: Misfit, limit_bytes: int) -> str:
    """One sentence for the job's error."""
    needed = misfit.adapter_bytes + misfit.bytes_per_token * misfit.batch_size * misfit.sequence_length
    text = (
        f"the trainer's share of memory is too small for this job — got batch_size {misfit.batch_size} of "
        f"{misfit.sequence_length} tokens at lora_rank {misfit.rank}, about {needed / GIB:.2f} GiB — allowed: "
        f"{misfit.free_bytes / GIB:.2f} GiB free of a share of {limit_bytes / GIB:.2f} GiB"
    )
    options = nearest_settings(misfit)
    fixes = [" and ".join(f"{name} {value}" for name, value in option.items()) for option in options]
    return f"{text} — fix: {', or '.join(fixes) if fixes else 'give training a larger share'}"
