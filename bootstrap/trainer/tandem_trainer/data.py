"""Training files: JSON lines, each a conversation or a prompt with its completion."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROLES = ("system", "developer", "user", "assistant", "tool", "function")


class DataError(Exception):
    """What is wrong with a training file; the text names line and column, both counted from 1."""


@dataclass(frozen=True)
class Record:
    """One line: `messages` of a chat, or `prompt` and `completion`."""

    line: int
    messages: list[dict[str, Any]] | None
    prompt: str | None = None
    completion: str | None = None


def read_records(path: Path) -> Iterator[Record]:
    """Reads and checks a file line by line. Raises `DataError` at the first mistake, also when there is no example."""
    kind, found = None, False
    with open(path, "rb") as file:
        for number, raw in enumerate(file, 1):
            if not raw.strip():
                continue
            record = parse_line(number, raw)
            this = "messages" if record.messages is not None else "prompt"
            if kind not in (None, this):
                raise DataError(
                    f"line {number}: this is a '{this}' example, those before are '{kind}' — fix: use one kind"
                )
            kind, found = this, True
            yield record
    if not found:
        raise DataError("the file holds no example — allowed: JSON lines, at least one")


def parse_line(number: int, raw: bytes) -> Record:
    try:
        text = raw.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
    except UnicodeDecodeError as error:
        column = len(raw[: error.start].decode("utf-8")) + 1
        raise DataError(
            f"line {number}, column {column}: this is not UTF-8 — got byte 0x{raw[error.start]:02x}"
        ) from None
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        got = shorten(text[error.pos :]) or "the end of the line"
        raise DataError(
            f"line {number}, column {error.colno}: this is not JSON: {error.msg} — got {got} — "
            'allowed: one object a line, {"messages": [...]} or {"prompt": ..., "completion": ...}'
        ) from None
    except RecursionError:
        raise DataError(f"line {number}, column 1: this is nested too deeply") from None
    if not isinstance(value, dict):
        raise DataError(f"line {number}, column 1: got {shorten(text)} — allowed: an object")
    if "messages" in value:
        return Record(number, check_messages(number, value["messages"]))
    if "prompt" in value and "completion" in value:
        return check_pair(number, value["prompt"], value["completion"])
    raise DataError(
        f"line {number}: neither 'messages' nor 'prompt' with 'completion' — got keys {shorten(str(list(value)))}"
    )


def check_messages(line: int, messages: Any) -> list[dict[str, Any]]:
    if not isinstance(messages, list) or not messages:
        raise DataError(f"line {line}: messages — got {shorten(json.dumps(messages))} — allowed: a list of messages")
    for index, message in enumerate(messages):
        where = f"line {line}: messages[{index}]"
        if not isinstance(message, dict):
            raise DataError(f"{where} — got {shorten(json.dumps(message))} — allowed: an object with role and content")
        if message.get("role") not in ROLES:
            raise DataError(f"{where}.role — got {json.dumps(message.get('role'))} — allowed: {', '.join(ROLES)}")
        if not isinstance(message.get("content"), str):
            raise DataError(f"{where}.content — got {shorten(json.dumps(message.get('content')))} — allowed: a string")
        if message.get("weight", 1) not in (0, 1):
            raise DataError(f"{where}.weight — got {json.dumps(message['weight'])} — allowed: 0, 1")
    if not any(message["role"] == "assistant" and message.get("weight", 1) for message in messages):
        raise DataError(
            f"line {line}: no message of the assistant to learn from — fix: add one, or set its weight to 1"
        )
    return messages


def check_pair(line: int, prompt: Any, completion: Any) -> Record:
    for name, value in (("prompt", prompt), ("completion", completion)):
        if not isinstance(value, str):
            raise DataError(f"line {line}: {name} — got {shorten(json.dumps(value))} — allowed: a string")
    if not completion:
        raise DataError(f"line {line}: completion is empty — there is nothing to learn from")
    return Record(line, None, prompt, completion)


def shorten(text: str, length: int = 40) -> str:
    return text if len(text) <= length else f"{text[:length]}…"
