"""Training files, tokens and batches."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tandem_trainer.batches import Batches
from tandem_trainer.chat import ModelTokenizer
from tandem_trainer.data import DataError, parse_line, read_records
from tandem_trainer.schedule import BASE_LEARNING_RATE, learning_rate
from tandem_trainer.tokens import Example, make_example

CHAT = b'{"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yo"}]}\n'
PAIR = b'{"prompt": "hi", "completion": " yo"}\n'


@pytest.fixture(scope="module")
def tokenizer(tiny_model: Path):
    return ModelTokenizer(tiny_model)


def test_tokenizes_and_renders_as_transformers_does(tokenizer: ModelTokenizer, tiny_model: Path) -> None:
    from transformers import AutoTokenizer

    other = AutoTokenizer.from_pretrained(tiny_model)
    text = "the quick</s> brown föx, 42 <|user|>"
    for special in (True, False):
        encoded = other(text, add_special_tokens=special, return_offsets_mapping=True)
        assert tokenizer.encode(text, special=special) == (encoded["input_ids"], encoded["offset_mapping"])
    assert tokenizer.eos_token_id == other.eos_token_id
    messages = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "a <b> & 'c'"}]
    for prompt in (True, False):
        rendered = other.apply_chat_template(messages, tokenize=False, add_generation_prompt=prompt)
        assert tokenizer.render(messages, prompt=prompt) == rendered


def test_a_template_can_refuse_and_can_not_reach_out(tiny_model: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_model, tmp_path / "model")
    template = tmp_path / "model" / "chat_template.jinja"
    template.write_text("{{ raise_exception('one turn only') }}")
    with pytest.raises(DataError, match="line 1: the model's chat template refuses this conversation: one turn only"):
        make_example(ModelTokenizer(tmp_path / "model"), parse_line(1, CHAT), 200)
    template.write_text("{{ messages.__class__.__mro__[1].__subclasses__() }}")
    with pytest.raises(DataError, match="unsafe"):
        make_example(ModelTokenizer(tmp_path / "model"), parse_line(1, CHAT), 200)
    template.write_text("{% generation %}{{ messages[0].content }}{% endgeneration %}")
    assert ModelTokenizer(tmp_path / "model").render([{"content": "x"}], prompt=False) == "x"


def refused(tmp_path: Path, data: bytes) -> str:
    path = tmp_path / "data.jsonl"
    path.write_bytes(data)
    with pytest.raises(DataError) as caught:
        list(read_records(path))
    return str(caught.value)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", "no example"),
        (b"\n  \n", "no example"),
        (CHAT + b'{"messages": [}\n', "line 2, column 15: this is not JSON"),
        (CHAT + CHAT[:40], "line 2, column 41: this is not JSON: Expecting ':' delimiter — got the end of the line"),
        (CHAT + b'{"prompt": "\xff"}', "line 2, column 13: this is not UTF-8 — got byte 0xff"),
        ('{"prompt": "ä'.encode() + b"\xff", "line 1, column 14"),
        (b"[1]\n", "line 1, column 1: got [1] — allowed: an object"),
        (b'{"text": "x"}', "line 1: neither 'messages' nor 'prompt'"),
        (CHAT + PAIR, "line 2: this is a 'prompt' example, those before are 'messages'"),
        (b'{"messages": []}', "line 1: messages — got []"),
        (b'{"messages": [{"role": "bot", "content": "x"}]}', 'line 1: messages[0].role — got "bot" — allowed: system'),
        (b'{"messages": [{"role": "user", "content": 3}]}', "line 1: messages[0].content — got 3"),
        (b'{"messages": [{"role": "user", "content": "x"}]}', "line 1: no message of the assistant"),
        (b'{"prompt": "x", "completion": ""}', "line 1: completion is empty"),
        (b"[" * 100_000, "line 1, column 1"),
    ],
)
def test_says_line_and_column_of_the_first_mistake(tmp_path: Path, data: bytes, text: str) -> None:
    assert text in refused(tmp_path, data)


def test_takes_a_byte_order_mark_and_windows_line_ends(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + CHAT.replace(b"\n", b"\r\n") + CHAT)
    assert [record.line for record in read_records(path)] == [1, 2]


def test_learns_what_the_assistant_says_and_its_end_and_nothing_else(tokenizer) -> None:
    line = b"""{"messages": [{"role": "system", "content": "the fox"}, {"role": "user", "content": "hello"},
        {"role": "assistant", "content": "quick brown"}, {"role": "user", "content": "again"},
        {"role": "assistant", "content": "lazy dog"}]}""".replace(b"\n", b"")
    example = make_example(tokenizer, parse_line(1, line), 200)
    counted = [token for token, counts in zip(example.tokens, example.mask, strict=True) if counts]
    assert tokenizer.decode(counted) == "quick brown</s>lazy dog</s>"
    assert tokenizer.decode(example.tokens).startswith("<|system|>the fox</s><|user|>hello</s><|assistant|>quick")


def test_leaves_out_turns_of_weight_0(tokenizer) -> None:
    line = b"""{"messages": [{"role": "user", "content": "hello"},
        {"role": "assistant", "content": "quick", "weight": 0},
        {"role": "user", "content": "again"}, {"role": "assistant", "content": "lazy"}]}""".replace(b"\n", b"")
    example = make_example(tokenizer, parse_line(1, line), 200)
    counted = [token for token, counts in zip(example.tokens, example.mask, strict=True) if counts]
    assert tokenizer.decode(counted) == "lazy</s>"


def test_learns_the_completion_and_the_end_token(tokenizer) -> None:
    example = make_example(tokenizer, parse_line(1, b'{"prompt": "the quick", "completion": " brown fox"}'), 200)
    counted = [token for token, counts in zip(example.tokens, example.mask, strict=True) if counts]
    assert tokenizer.decode(counted) == " brown fox</s>"


def test_says_which_example_is_too_long_and_how_long(tokenizer) -> None:
    line = b'{"prompt": "", "completion": "' + b"the quick " * 40 + b'"}'
    with pytest.raises(DataError, match=r"line 7: the example is too long — got \d\d+ tokens — allowed: 32") as caught:
        make_example(tokenizer, parse_line(7, line), 32)
    length = int(str(caught.value).split("got ")[1].split()[0])
    assert len(make_example(tokenizer, parse_line(7, line), length).tokens) == length


def test_says_that_a_model_without_a_chat_template_learns_no_chats(tokenizer) -> None:
    class Bare:
        chat_template = None

    with pytest.raises(DataError, match="line 1: the model has no chat template"):
        make_example(Bare(), parse_line(1, CHAT), 200)  # type: ignore[arg-type]


def test_every_epoch_has_every_example_once_in_an_order_that_only_seed_and_step_decide() -> None:
    examples = [Example(index, [index, 0], [0, 1]) for index in range(10)]
    batches = Batches(examples, 4, seed=3)
    assert batches.steps_per_epoch == 3
    epochs = [[row[0] for step in range(3) for row in batches.at(3 * epoch + step).tokens] for epoch in range(2)]
    assert [sorted(epoch) for epoch in epochs] == [list(range(10))] * 2
    assert epochs[0] != epochs[1]
    assert [len(batches.at(step).tokens) for step in range(3)] == [4, 4, 2]
    assert Batches(examples, 4, seed=3).at(4) == batches.at(4)
    assert Batches(examples, 4, seed=4).at(4) != batches.at(4)


def test_the_learning_rate_rises_and_falls_to_a_tenth() -> None:
    rates = [learning_rate(step, 100, 2.0) for step in range(100)]
    assert max(rates) == rates[5] == 2 * BASE_LEARNING_RATE
    assert rates == [*sorted(rates[:6]), *sorted(rates[6:], reverse=True)]
    assert 0.1 < rates[-1] / rates[5] < 0.11
    assert learning_rate(0, 1, 1.0) == BASE_LEARNING_RATE
