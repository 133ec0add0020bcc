"""Adapters that Megatron-Bridge trained, served by vLLM on the CPU; TANDEM_TEST_VLLM is a Python that has it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import httpx
from test_megatron import HERE, Trainer

sys.path.insert(0, str(HERE.parent))

from service import free_port, until
from tiny_model import make_tiny_model

from tandem_trainer.backend import AdapterConfig, Batch

PYTHON = os.environ.get("TANDEM_TEST_VLLM", "")
PROMPTS = [[3 + 7 * i, 11 + 5 * i, 40 + 3 * i, 300 - 9 * i] for i in range(20)]
LENGTH = 12
ANSWERS = [(i * 37 + 100) % 500 + 6 for i in range(LENGTH)]


def train(model: Path, tensor_parallel: int, folder: Path) -> None:
    trainer = Trainer("megatron-bridge", tensor_parallel, model)
    try:
        trainer.create("job", AdapterConfig(8, 16.0, seed=1))
        rows = [prompt + ANSWERS for prompt in PROMPTS]
        batch = Batch(rows, [[0] * 4 + [1] * LENGTH for _ in rows])
        for _ in range(40):
            trainer.step("job", batch)
        trainer("save", job="job", path=str(folder), with_state=False)
    finally:
        trainer.stop()


def texts_of_peft(model: Path, adapter: Path | None) -> list[list[int]]:
    import peft
    import torch
    import transformers

    loaded = transformers.AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    if adapter:
        loaded = peft.PeftModel.from_pretrained(loaded, str(adapter))
    answers = []
    for prompt in PROMPTS:
        tokens = list(prompt)
        for _ in range(LENGTH):
            with torch.no_grad():
                tokens.append(int(loaded(torch.tensor([tokens])).logits[0, -1].argmax()))
        answers.append(tokens[len(prompt) :])
    return answers


def texts_of_vllm(url: str, name: str) -> list[list[int]]:
    answers = []
    for prompt in PROMPTS:
        body = {"model": name, "prompt": prompt, "max_tokens": LENGTH, "temperature": 0, "ignore_eos": True}
        answer = httpx.post(f"{url}/v1/completions", json=body | {"return_token_ids": True}, timeout=60)
        answers.append(answer.json()["choices"][0]["token_ids"])
    return answers


def test_vllm_says_with_the_adapter_what_peft_says(tmp_path: Path) -> None:
    assert PYTHON, "TANDEM_TEST_VLLM is not set"
    os.environ["PYTHONPATH"] = str(HERE)
    model = make_tiny_model(tmp_path / "model")
    adapters = {f"tp{size}": tmp_path / f"tp{size}" for size in (1, 2)}
    for name, folder in adapters.items():
        folder.mkdir()
        train(model, int(name[2:]), folder)
    url = f"http://127.0.0.1:{(port := free_port())}"
    argv = [PYTHON, "-m", "vllm.entrypoints.openai.api_server", "--model", str(model), "--served-model-name", "base"]
    argv += ["--host", "127.0.0.1", "--port", str(port), "--enforce-eager", "--enable-lora", "--max-lora-rank", "8"]
    argv += ["--dtype", "float32", "--max-model-len", "256", "--max-loras", "2", "--kv-cache-memory-bytes", "64M"]
    environment = {**os.environ, "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True", "VLLM_NO_USAGE_STATS": "1"}
    del environment["PYTHONPATH"]
    log = tmp_path / "vllm.log"
    with open(log, "wb") as out:
        vllm = subprocess.Popen(argv, env=environment, stdout=out, stderr=out, start_new_session=True)
    try:

        def is_ready() -> bool:
            assert vllm.poll() is None, log.read_text()[-3000:]
            try:
                return httpx.get(f"{url}/health").status_code == 200
            except httpx.HTTPError:
                return False

        until("vLLM is ready", is_ready, 280)
        base = texts_of_vllm(url, "base")
        assert base == texts_of_peft(model, None)
        for name, folder in adapters.items():
            body = {"lora_name": name, "lora_path": str(folder)}
            assert httpx.post(f"{url}/v1/load_lora_adapter", json=body, timeout=60).status_code == 200
            taught = texts_of_vllm(url, name)
            assert taught == texts_of_peft(model, folder)
            assert all(one != other for one, other in zip(taught, base, strict=True))
    finally:
        os.killpg(vllm.pid, signal.SIGTERM)
        vllm.wait(30)
