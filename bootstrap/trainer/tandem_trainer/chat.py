"""The model's tokenizer and chat template, without transformers: that imports PyTorch, which takes half a minute and a
gigabyte in a process that computes nothing. `test_data.py` compares it with transformers.
"""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

from jinja2 import nodes
from jinja2.exceptions import TemplateError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import Tokenizer as FastTokenizer

SPECIAL = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")


class Generation(Extension):
    """`{% generation %}…{% endgeneration %}` marks what the assistant says; here its contents are all that counts."""

    tags = {"generation"}  # noqa: RUF012 — jinja2 reads it from the class

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def refuse(message: str) -> None:
    raise TemplateError(message)


def environment() -> ImmutableSandboxedEnvironment:
    """What chat templates may use: as in transformers, which set the custom."""
    made = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols])
    made.filters["tojson"] = lambda value, **more: json.dumps(value, ensure_ascii=False, **more)
    made.globals["raise_exception"] = refuse
    made.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
    return made


class ModelTokenizer:
    def __init__(self, folder: Path) -> None:
        """Raises `ValueError` when the model's directory has no fast tokenizer."""
        try:
            self._fast = FastTokenizer.from_file(str(folder / "tokenizer.json"))
        except Exception as error:
            raise ValueError(f"--model — {folder}: tokenizer.json can't be read: {error}") from error
        self._fast.no_truncation()
        self._fast.no_padding()
        settings = folder / "tokenizer_config.json"
        config = json.loads(settings.read_text()) if settings.is_file() else {}
        self._special = {name: text_of(config[name]) for name in SPECIAL if config.get(name)}
        end = self._special.get("eos_token")
        self.eos_token_id = self._fast.token_to_id(end) if end else None
        self.chat_template = find_template(folder, config)
        self._template = environment().from_string(self.chat_template) if self.chat_template else None

    def encode(self, text: str, *, special: bool) -> tuple[list[int], list[tuple[int, int]]]:
        """Token ids, and the first and last character of each; `special` adds what the model wants around a text."""
        encoded = self._fast.encode(text, add_special_tokens=special)
        return encoded.ids, encoded.offsets

    def decode(self, tokens: list[int]) -> str:
        return self._fast.decode(tokens, skip_special_tokens=False)

    def render(self, messages: list[dict[str, Any]], *, prompt: bool) -> str:
        """The conversation as text; `prompt` adds what stands before the assistant's next words."""
        assert self._template
        return self._template.render(
            messages=messages, tools=None, documents=None, add_generation_prompt=prompt, **self._special
        )


def text_of(token: Any) -> str:
    return token["content"] if isinstance(token, dict) else token


def find_template(folder: Path, config: dict[str, Any]) -> str | None:
    if (folder / "chat_template.jinja").is_file():
        return (folder / "chat_template.jinja").read_text()
    found = config.get("chat_template")
    if isinstance(found, list):
        return next((entry["template"] for entry in found if entry["name"] == "default"), None)
    return found
