"""From records to token ids and the mask that says which of them count in the loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .chat import ModelTokenizer
from .data import DataError, Record


@dataclass(frozen=True)
class Example:
    """`mask[i]` is 1 where `tokens[i]` counts in the loss."""

    line: int
    tokens: list[int]
    mask: list[int]


def make_example(tokenizer: ModelTokenizer, record: Record, max_length: int) -> Example:
    """Tokens of one record. Raises `DataError` when it is too long or the template can't be followed."""
    if record.messages is not None:
        tokens, mask = chat_tokens(tokenizer, record)
    else:
        tokens, mask = pair_tokens(tokenizer, record)
    if len(tokens) > max_length:
        raise DataError(
            f"line {record.line}: the example is too long — got {len(tokens)} tokens — allowed: {max_length} — "
            "fix: shorten or split it"
        )
    # The first token has nothing before it to be predicted from.
    if not any(mask[1:]):
        raise DataError(f"line {record.line}: no token is left to learn from")
    return Example(record.line, tokens, mask)


def pair_tokens(tokenizer: ModelTokenizer, record: Record) -> tuple[list[int], list[int]]:
    """Prompt and completion as one text, and the end token, which is learned too."""
    start = len(record.prompt or "")
    tokens, offsets = tokenizer.encode(f"{record.prompt}{record.completion}", special=True)
    mask = [int(end > start and end > begin) for begin, end in offsets]
    end_token = tokenizer.eos_token_id
    if end_token is not None:
        if tokens[-1] != end_token:
            tokens.append(end_token)
            mask.append(1)
        mask[-1] = 1
    return tokens, mask


def chat_tokens(tokenizer: ModelTokenizer, record: Record) -> tuple[list[int], list[int]]:
    """The whole conversation by the model's chat template; what the assistant says counts, with its end mark."""
    messages = [{key: value for key, value in message.items() if key != "weight"} for message in record.messages or []]
    text = render(tokenizer, record.line, messages, prompt=False)
    spans = []
    for index, message in enumerate(record.messages or []):
        if message["role"] != "assistant" or not message.get("weight", 1):
            continue
        before = render(tokenizer, record.line, messages[:index], prompt=True) if index else ""
        until = render(tokenizer, record.line, messages[: index + 1], prompt=False)
        if not text.startswith(before) or not text.startswith(until):
            raise DataError(
                f"line {record.line}: the model's chat template writes a turn another way when others follow, "
                f"so messages[{index}] can't be told apart — fix: end the conversation there, or set its weight 0"
            )
        spans.append((len(before), len(until)))
    tokens, offsets = tokenizer.encode(text, special=False)
    mask = [int(any(start <= begin and end <= stop for start, stop in spans) and end > begin) for begin, end in offsets]
    return tokens, mask


def render(tokenizer: ModelTokenizer, line: int, messages: list[dict[str, Any]], *, prompt: bool) -> str:
    if not tokenizer.chat_template:
        raise DataError(
            f"line {line}: the model has no chat template, so it can't be taught chats — fix: use prompt and completion"
        )
    try:
        return tokenizer.render(messages, prompt=prompt)
    except Exception as error:
        # Templates are programs of the model's makers; they refuse, for example, two turns of the user in a row.
        raise DataError(f"line {line}: the model's chat template refuses this conversation: {error}") from error
