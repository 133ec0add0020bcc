"""Turns a job's training file into examples, once, and keeps them beside the job."""

from __future__ import annotations

import json
from pathlib import Path

from .chat import ModelTokenizer
from .data import read_records
from .tokens import Example, make_example


def tokenize_file(tokenizer: ModelTokenizer, source: Path, target: Path, max_length: int) -> int:
    """Writes one JSON line an example; answers their number. Raises `DataError`. Runs on a thread of its own."""
    count = 0
    part = target.with_suffix(".part")
    with open(part, "w") as file:
        for record in read_records(source):
            example = make_example(tokenizer, record, max_length)
            file.write(json.dumps([example.line, example.tokens, example.mask], separators=(",", ":")) + "\n")
            count += 1
    part.replace(target)
    return count


def read_examples(path: Path) -> list[Example]:
    with open(path) as file:
        return [Example(*json.loads(line)) for line in file]
