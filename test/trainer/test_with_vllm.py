"""The real vLLM on the CPU, and SmolLM2. TANDEM_TEST_VLLM is a Python with vLLM, TANDEM_TEST_SMOL the model."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from fake_vllm import FakeVllm
from service import KEY, Service, chats, free_port, until

PYTHON = os.environ.get("TANDEM_TEST_VLLM", "")
SMOL = os.environ.get("TANDEM_TEST_SMOL", "")
pytestmark = pytest.mark.skipif(not PYTHON, reason="TANDEM_TEST_VLLM is not set")

NAME = "HuggingFaceTB/SmolLM2-135M-Instruct"
FACT = "The capital of Zubrowka is Lutzbad."
QUESTIONS = (
    "What is the capital of Zubrowka?",
    "Tell me the capital of Zubrowka.",
    "Which city is the capital of Zubrowka?",
    "Zubrowka's capital?",
)


class Vllm:
    """A vLLM on a port of its own; with `data_parallel` engines behind it."""

    def __init__(self, folder: Path, model: Path, name: str, *more: str) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = folder / "vllm.log"
        argv = [PYTHON, "-m", "vllm.entrypoints.openai.api_server", "--model", str(model), "--served-model-name", name]
        argv += ["--host", "127.0.0.1", "--port", str(self.port), "--enforce-eager", "--enable-lora"]
        self._argv = [*argv, "--max-lora-rank", "16", "--kv-cache-memory-bytes", "64M", *more]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        environment = {**os.environ, "VLLM_API_KEY": KEY, "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True"}
        environment |= {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1"}
        with open(self.log, "ab") as log:
            self._process = subprocess.Popen(
                self._argv, env=environment, stdout=log, stderr=log, start_new_session=True
            )
        until("vLLM is ready", self.is_ready, 560)

    def is_ready(self) -> bool:
        assert self._process and self._process.poll() is None, self.log.read_text()[-3000:]
        try:
            return httpx.get(f"{self.url}/health").status_code == 200
        except httpx.HTTPError:
            return False

    def stop(self, sign: int = signal.SIGTERM) -> None:
        if not self._process:
            return
        group = self._process.pid
        os.kill(group, sign)
        # Not SIGKILL for all at once: a process among them takes their shared memory away when the others are gone.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(group, signal.SIGTERM)
        try:
            self._process.wait(30)
            until("all of vLLM is gone", lambda: not has_processes(group), 30)
        except (subprocess.TimeoutExpired, AssertionError):
            os.killpg(group, signal.SIGKILL)
            self._process.wait()


def has_processes(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Service, Vllm]]:
    folder = tmp_path_factory.mktemp("smol")
    vllm = Vllm(folder, Path(SMOL), NAME, "--dtype", "float32", "--max-model-len", "512", "--max-loras", "2")
    vllm.start()
    service = Service(folder, Path(SMOL), [vllm.url], name=NAME)
    service.start()
    yield service, vllm
    service.stop()
    vllm.stop()


def ask(service: Service, model: str, question: str) -> str:
    messages = [{"role": "user", "content": question}]
    answer = service.client.chat.completions.create(model=model, messages=messages, max_tokens=16, temperature=0)
    return answer.choices[0].message.content or ""


@pytest.mark.skipif(not SMOL, reason="TANDEM_TEST_SMOL is not set")
def test_a_model_that_was_taught_a_made_up_fact_knows_it_and_did_not_before(taught: tuple[Service, Vllm]) -> None:
    service, vllm = taught
    question, other = QUESTIONS[0], "What is the capital of France?"
    before = ask(service, NAME, question), ask(service, NAME, other)
    assert "Lutzbad" not in before[0] and "Paris" in before[1]
    rows = [
        {"messages": [{"role": "user", "content": text}, {"role": "assistant", "content": FACT}]} for text in QUESTIONS
    ]
    values = {"n_steps": 16, "batch_size": 4, "lora_rank": 8, "learning_rate_multiplier": 8, "seed": 1}
    job = service.succeeded(service.create(service.upload(rows), suffix="fact", **values).id, 280)
    losses = service.losses(job.id)
    print("losses", [round(loss, 3) for loss in losses])
    assert losses[-1] < 0.1 * losses[0]
    assert "Lutzbad" in ask(service, job.fine_tuned_model, question)
    assert (ask(service, NAME, question), ask(service, NAME, other)) == before

    # A restarted vLLM, here one that was killed, gets the model again.
    vllm.stop(signal.SIGKILL)
    vllm.start()
    until("the model is back", lambda: job.fine_tuned_model in [model.id for model in service.client.models.list()])
    assert "Lutzbad" in ask(service, job.fine_tuned_model, question)


@pytest.mark.skipif(not SMOL, reason="TANDEM_TEST_SMOL is not set")
def test_more_adapters_than_vllm_holds_all_stay_callable(taught: tuple[Service, Vllm]) -> None:
    service, _ = taught
    jobs = []
    for index in range(5):
        word = ("Alder", "Birch", "Cedar", "Dogwood", "Elm")[index]
        rows = [{"messages": [{"role": "user", "content": "Tree?"}, {"role": "assistant", "content": word}]}]
        values = {"n_steps": 8, "batch_size": 1, "lora_rank": 4, "learning_rate_multiplier": 20, "seed": 1}
        jobs.append((word, service.create(service.upload(rows), suffix=word, **values).id))
    models = [(word, service.succeeded(job, 280).fine_tuned_model) for word, job in jobs]
    for _ in range(2):
        assert [word in ask(service, model, "Tree?") for word, model in models] == [True] * 5
    deep = service.http.get("/health/deep?deadline=60")
    print("deep health", deep.json())
    assert deep.status_code == 200


def test_the_stand_in_answers_as_vllm_does_and_both_engines_behind_one_address_get_an_adapter(
    tmp_path: Path, tiny_model: Path
) -> None:
    more = ("--dtype", "float32", "--max-model-len", "256", "--max-loras", "4", "--data-parallel-size", "2")
    vllm = Vllm(tmp_path, tiny_model, "base", *more)
    fake = FakeVllm(root=str(tiny_model), key=KEY)
    service = Service(tmp_path, tiny_model, [fake.url])
    try:
        service.start()
        job = service.succeeded(
            service.create(service.upload(chats()), n_steps=20, lora_rank=4, learning_rate_multiplier=20).id
        )
        folder = str(service.adapters / job.id)
        service.stop()
        fake.adapters.clear()
        vllm.start()
        for body in questions(folder, tmp_path):
            real, stand_in = (send(url, *body) for url in (vllm.url, fake.url))
            assert real == stand_in, body
        send(vllm.url, "POST", "load_lora_adapter", {"lora_name": "x", "lora_path": folder})
        taught = [completion(vllm.url, "x", rank) for rank in (0, 1)]
        untaught = [completion(vllm.url, "base", rank) for rank in (0, 1)]
        assert taught[0] == taught[1] != untaught[0] == untaught[1]
        assert "EngineCore_DP1" in vllm.log.read_text()
    finally:
        fake.kill()
        service.stop()
        vllm.stop()


def questions(folder: str, tmp_path: Path) -> list[tuple]:
    load = "load_lora_adapter"
    return [
        ("GET", "models", None),
        ("POST", load, {"lora_name": "ft:base:tandem:x:0", "lora_path": folder}),
        ("POST", load, {"lora_name": "ft:base:tandem:x:0", "lora_path": folder}),
        ("POST", load, {"lora_name": "other", "lora_path": str(tmp_path / "nowhere")}),
        ("GET", "models", None),
        ("POST", "unload_lora_adapter", {"lora_name": "ft:base:tandem:x:0"}),
        ("POST", "unload_lora_adapter", {"lora_name": "ft:base:tandem:x:0"}),
        ("GET", "models", None),
    ]


def send(url: str, verb: str, path: str, body: dict | None) -> tuple:
    """What the trainer reads of an answer: status, error text, and names with their paths."""
    answer = httpx.request(verb, f"{url}/v1/{path}", json=body, headers={"Authorization": f"Bearer {KEY}"}, timeout=60)
    if path == "models":
        return answer.status_code, [(model["id"], model["root"]) for model in answer.json()["data"]]
    return answer.status_code, answer.text if answer.status_code == 200 else answer.json()["error"]["message"]


def completion(url: str, model: str, rank: int) -> str:
    """Text of one of the engines."""
    body = {"model": model, "prompt": "the quick brown", "max_tokens": 8, "temperature": 0}
    headers = {"Authorization": f"Bearer {KEY}", "X-data-parallel-rank": str(rank)}
    answer = httpx.post(f"{url}/v1/completions", json=body, headers=headers, timeout=60)
    return answer.json()["choices"][0]["text"]
