"""Checks a PEFT adapter against the base model before vLLM sees it, by reading the headers of both."""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy

PREFIX = "base_model.model."

# A header of a safetensors file is a few hundred kilobytes for the largest models.
MAX_HEADER_BYTES = 100 << 20

NUMPY_TYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2"}


class AdapterError(Exception):
    """Why an adapter is not handed to vLLM."""


@dataclass(frozen=True)
class BaseModel:
    """What is known of the base model from its directory."""

    path: Path
    shapes: dict[str, tuple[int, ...]]
    """Shape [out, in] of each linear module by its name, e.g. `model.layers.0.self_attn.q_proj`."""
    max_length: int

    def targets(self, names: tuple[str, ...]) -> set[str]:
        """Which of these modules the model has."""
        return {name for name in names if any(module.endswith(f".{name}") for module in self.shapes)}


def read_base_model(path: Path) -> BaseModel:
    """Raises `AdapterError` when the directory holds no model in Hugging Face's format."""
    files = sorted(path.glob("*.safetensors"))
    if not files or not (path / "config.json").is_file():
        raise AdapterError(f"--model — got {path} — allowed: a directory with config.json and *.safetensors")
    shapes = {}
    for file in files:
        for name, entry in read_header(file)[0].items():
            if name.endswith(".weight") and len(entry["shape"]) == 2:
                shapes[name.removesuffix(".weight")] = tuple(entry["shape"])
    config = json.loads((path / "config.json").read_text())
    text = config.get("text_config", config)
    return BaseModel(path, shapes, text.get("max_position_embeddings", 2048))


def read_header(path: Path) -> tuple[dict[str, Any], int]:
    """Entries of a safetensors file, and where its data begins."""
    with open(path, "rb") as file:
        start = file.read(8)
        if len(start) < 8:
            raise AdapterError(f"{path.name} is cut off")
        (length,) = struct.unpack("<Q", start)
        if length > MAX_HEADER_BYTES:
            raise AdapterError(f"{path.name} is not a safetensors file")
        try:
            header = json.loads(file.read(length))
        except ValueError:
            raise AdapterError(f"{path.name} is not a safetensors file") from None
    header.pop("__metadata__", None)
    return header, 8 + length


def check_adapter(folder: Path, base: BaseModel, max_rank: int) -> int:
    """Checks configuration, shapes, sizes and that all values are finite; answers the rank. Raises `AdapterError`."""
    try:
        config = json.loads((folder / "adapter_config.json").read_text())
        weights = folder / "adapter_model.safetensors"
        header, begin = read_header(weights)
    except (OSError, ValueError) as error:
        raise AdapterError(f"the adapter can't be read: {error}") from None
    rank = config.get("r")
    if not isinstance(rank, int) or not 1 <= rank <= max_rank:
        raise AdapterError(f"rank of the adapter — got {rank} — allowed: 1 to {max_rank} (lora.maxRank)")
    if not header:
        raise AdapterError("the adapter holds no weights")
    for name, entry in header.items():
        check_shape(name, tuple(entry["shape"]), rank, base)
    needed = begin + max(entry["data_offsets"][1] for entry in header.values())
    if weights.stat().st_size != needed:
        raise AdapterError(f"{weights.name} — got {weights.stat().st_size} bytes — allowed: {needed}")
    check_finite(weights, header, begin)
    return rank


def check_shape(name: str, shape: tuple[int, ...], rank: int, base: BaseModel) -> None:
    module, _, part = name.removeprefix(PREFIX).removesuffix(".weight").rpartition(".")
    if not name.startswith(PREFIX) or part not in ("lora_A", "lora_B"):
        raise AdapterError(f"weight '{name}' — allowed: {PREFIX}<module>.lora_A.weight and .lora_B.weight")
    whole = base.shapes.get(module)
    if whole is None:
        raise AdapterError(f"weight '{name}' — the base model has no module '{module}'")
    wanted = (rank, whole[1]) if part == "lora_A" else (whole[0], rank)
    if shape != wanted:
        raise AdapterError(f"weight '{name}' — got shape {list(shape)} — allowed: {list(wanted)}")


def check_finite(path: Path, header: dict[str, Any], begin: int) -> None:
    data = numpy.memmap(path, dtype=numpy.uint8, mode="r", offset=begin)
    for name, entry in header.items():
        first, last = entry["data_offsets"]
        raw = data[first:last]
        if entry["dtype"] == "BF16":
            # An exponent of all ones is an infinity or no number.
            bad = bool(((raw.view("<u2") & 0x7F80) == 0x7F80).any())
        elif entry["dtype"] in NUMPY_TYPES:
            bad = not bool(numpy.isfinite(raw.view(NUMPY_TYPES[entry["dtype"]])).all())
        else:
            raise AdapterError(f"weight '{name}' — got type {entry['dtype']} — allowed: BF16, F16, F32, F64")
        if bad:
            raise AdapterError(f"weight '{name}' holds values that are not numbers")
