"""OpenAI's API, spoken with OpenAI's client: files, jobs, models, errors, the key."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import time
from pathlib import Path

import httpx
import openai
import pytest
from fake_vllm import FakeVllm
from service import KEY, Service, chats, until

ARGUMENTS = ("--max-file-mib", "1", "--max-sequence-length", "64")


def error_of(caught: pytest.ExceptionInfo[openai.APIStatusError]) -> tuple[int, str, str | None]:
    body = caught.value.body
    assert isinstance(body, dict) and set(body) == {"message", "type", "param", "code"}
    return caught.value.status_code, body["message"], body["param"]


def test_trains_and_serves_a_model_from_upload_to_deletion(service: Service, vllm: FakeVllm) -> None:
    file = service.upload(chats())
    job = service.create(file, suffix="mine", n_steps=20, lora_rank=4, seed=1, learning_rate_multiplier=20)
    assert job.object == "fine_tuning.job" and job.fine_tuned_model is None
    job = service.succeeded(job.id)
    assert job.fine_tuned_model.startswith("ft:base:tandem:mine:")
    assert (job.hyperparameters.batch_size, job.hyperparameters.n_epochs, job.seed) == (1, 3, 1)
    assert job.trained_tokens > 100
    losses = service.losses(job.id)
    assert len(losses) == 20 and losses[-1] < 0.8 * losses[0]

    assert job.fine_tuned_model in [model.id for model in service.client.models.list()]
    assert service.client.models.retrieve(job.fine_tuned_model).id == job.fine_tuned_model
    messages = [{"role": "user", "content": "hello"}]
    answer = service.client.chat.completions.create(model=job.fine_tuned_model, messages=messages)
    assert answer.choices[0].message.content == f"from {job.fine_tuned_model}"

    checkpoints = list(service.client.fine_tuning.jobs.checkpoints.list(job.id))
    assert [checkpoint.step_number for checkpoint in checkpoints] == [20, 16, 8]
    for checkpoint in checkpoints:
        assert checkpoint.fine_tuned_model_checkpoint in vllm.adapters
    results = service.client.files.content(job.result_files[0]).text.splitlines()
    assert results[0] == "step,train_loss,learning_rate" and len(results) == 21

    assert service.client.models.delete(job.fine_tuned_model).deleted
    assert not [name for name in vllm.adapters if ":mine:" in name]
    until(
        "the files are gone",
        lambda: not [*service.adapters.glob(f"{job.id}*"), *service.state.glob(f"adapters/{job.id}*")],
    )
    with pytest.raises(openai.NotFoundError):
        service.client.models.delete(job.fine_tuned_model)


def test_lists_and_deletes_files(service: Service) -> None:
    ids = [service.upload(chats(2), name=f"{index}.jsonl") for index in range(3)]
    listed = [file.id for file in service.client.files.list(limit=2)]
    assert listed[:3] == ids[::-1]
    page = service.client.files.list(after=ids[2], limit=1)
    assert [file.id for file in page.data] == [ids[1]] and page.has_more
    file = service.client.files.retrieve(ids[0])
    assert (file.filename, file.purpose, file.status) == ("0.jsonl", "fine-tune", "processed")
    assert len(service.client.files.content(ids[0]).content) == file.bytes
    assert service.client.files.delete(ids[0]).deleted
    with pytest.raises(openai.NotFoundError):
        service.client.files.retrieve(ids[0])
    assert not (service.state / "files" / ids[0]).exists()


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", "the file holds no example"),
        (b'{"messages": [}\n', "line 1, column 15: this is not JSON"),
        (json.dumps(chats(1)[0]).encode() + b'\n{"prompt": 3}\n', "line 2: neither 'messages' nor 'prompt'"),
    ],
)
def test_refuses_a_file_that_is_no_training_file(service: Service, data: bytes, text: str) -> None:
    before = sorted((service.state / "files").iterdir())
    with pytest.raises(openai.BadRequestError) as caught:
        service.upload(data)
    status, message, param = error_of(caught)
    assert (status, param) == (400, "file") and text in message
    assert sorted((service.state / "files").iterdir()) == before


def test_refuses_a_file_that_is_too_large_before_it_is_all_there(service: Service) -> None:
    with pytest.raises(openai.APIStatusError) as caught:
        service.upload(b" " * (2 << 20))
    assert error_of(caught) == (413, "the file is too large — allowed: 1 MiB", "file")

    def endless():
        yield b'--b\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\n'
        for _ in range(64):
            yield b" " * (1 << 20)

    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    # Refused so early that the rest may find nobody.
    with contextlib.suppress(httpx.WriteError):
        assert service.http.post("/v1/files", content=endless(), headers=headers).status_code == 413
    assert not list((service.state / "files").glob("*.part"))


def test_keeps_nothing_of_an_upload_that_is_cut_off(service: Service) -> None:
    before = {file.id for file in service.client.files.list()}, sorted((service.state / "files").iterdir())
    head = f"POST /v1/files HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\nContent-Length: 100000\r\n"
    head += 'Content-Type: multipart/form-data; boundary=b\r\n\r\n--b\r\nContent-Disposition: form-data; name="file"; '
    with socket.create_connection(("127.0.0.1", service.port)) as link:
        link.sendall(f'{head}filename="x.jsonl"\r\n\r\n{json.dumps(chats(1)[0])}\n'.encode())
        time.sleep(0.3)
    time.sleep(0.3)
    assert ({file.id for file in service.client.files.list()}, sorted((service.state / "files").iterdir())) == before


def test_paths_in_names_stay_names(service: Service, vllm: FakeVllm) -> None:
    file = service.upload(chats(2), name="../../../../tmp/evil.jsonl")
    assert service.client.files.retrieve(file).filename == "evil.jsonl"
    assert sorted(path.name for path in (service.state / "files").iterdir() if path.name.startswith(file)) == [file]
    for suffix in ("../x", "a/b", "a b", "ä", "-x", "x" * 65, ".."):
        with pytest.raises(openai.BadRequestError) as caught:
            service.create(file, suffix=suffix)
        assert error_of(caught)[2] == "suffix"
    (service.root / "secret").write_text("treasure")
    for path in ("/v1/files/..%2f..%2fsecret/content", "/v1/files/%2e%2e/content", f"/v1/files/{file}%00/content"):
        answer = service.http.get(path)
        assert answer.status_code == 404 and "treasure" not in answer.text
    for name in ("../../state", "..%2f..%2fstate", "base"):
        assert service.http.delete(f"/v1/models/{name}").status_code == 404
    assert service.state.is_dir() and "base" in [model.id for model in service.client.models.list()]


@pytest.mark.parametrize(
    ("values", "param", "text"),
    [
        ({"model": "gpt-4"}, "model", "model — got 'gpt-4' — allowed: base"),
        ({"training_file": "file-x"}, "training_file", "no such file — got 'file-x'"),
        ({"method": {"type": "dpo"}}, "method.type", "got 'dpo' — allowed: supervised"),
        ({"validation_file": "file-x"}, "validation_file", "not supported"),
        (
            {"hyperparameters": {"lora_rank": 99}},
            "hyperparameters.lora_rank",
            "got 99 — allowed: a whole number from 1 to 16",
        ),
        ({"hyperparameters": {"n_epoch": 1}}, "hyperparameters.n_epoch", "did you mean n_epochs?"),
        ({"metadata": {"tandem.lora_targets": "x"}}, "metadata.tandem.lora_targets", "allowed: down_proj"),
        ({"seeds": 1}, "seeds", "Extra inputs are not permitted"),
    ],
)
def test_refuses_a_job_that_can_not_be_and_names_the_parameter(
    service: Service, values: dict, param: str, text: str
) -> None:
    body = {"model": "base", "training_file": service.upload(chats(2)), **values}
    with pytest.raises(openai.BadRequestError) as caught:
        service.client.post("/fine_tuning/jobs", body=body, cast_to=object)
    assert error_of(caught)[2] == param
    assert text in error_of(caught)[1]


def test_a_job_with_too_long_an_example_fails_with_line_and_length(service: Service) -> None:
    rows = [*chats(2), {"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "fox " * 99}]}]
    job = service.over(service.create(service.upload(rows)).id)
    assert job.status == "failed" and job.error.code == "invalid_training_file"
    assert job.error.param == "training_file"
    assert "line 3: the example is too long — got " in job.error.message and "allowed: 64" in job.error.message


def test_the_same_suffix_twice_gives_two_models(service: Service, vllm: FakeVllm) -> None:
    file = service.upload(chats(2))
    jobs = [service.create(file, suffix="twin", n_steps=1).id for _ in range(2)]
    names = {service.succeeded(job).fine_tuned_model for job in jobs}
    assert len(names) == 2 and names <= set(vllm.adapters)


def test_lists_jobs_and_events_by_pages_newest_first(service: Service) -> None:
    file = service.upload(chats(2))
    ids = [service.create(file, n_steps=3).id for _ in range(3)]
    for id in ids:
        service.succeeded(id)
    page = service.client.fine_tuning.jobs.list(limit=2)
    assert [job.id for job in page.data] == [ids[2], ids[1]] and page.has_more
    listed = [job.id for job in service.client.fine_tuning.jobs.list(limit=1)]
    assert listed[:3] == ids[::-1]
    events = list(service.client.fine_tuning.jobs.list_events(ids[0], limit=2))
    assert events[-1].message == f"Created fine-tuning job: {ids[0]}"
    steps = [event.data for event in events if event.type == "metrics"]
    assert [row["step"] for row in steps] == [3, 2, 1]
    assert all(row["train_loss"] > 0 for row in steps)
    with service.http.stream("GET", f"/v1/fine_tuning/jobs/{ids[0]}/events?stream=true") as answer:
        lines = [line for line in answer.iter_lines() if line]
    assert lines[-1] == "data: [DONE]" and len(lines) == len(events) + 1
    assert service.http.get("/v1/fine_tuning/jobs?limit=0").status_code == 400
    assert service.http.get("/v1/fine_tuning/jobs?limit=x").json()["error"]["param"] == "limit"
    assert service.http.get("/v1/fine_tuning/jobs?after=ftjob-x").json()["error"]["param"] == "after"
    with pytest.raises(openai.NotFoundError):
        service.client.fine_tuning.jobs.retrieve("ftjob-x")


def test_asks_the_key_for_everything_but_health(service: Service) -> None:
    assert httpx.get(f"{service.url}/health").json() == {"status": "ok"}
    paths = (
        "/v1/files",
        "/v1/fine_tuning/jobs",
        "/v1/models",
        "/health/deep",
        "/health/status",
        "/v1/chat/completions",
        "/",
    )
    for path in paths:
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": KEY}):
            answer = httpx.get(f"{service.url}{path}", headers=headers)
            assert answer.status_code == 401 and answer.json()["error"]["code"] == "invalid_api_key"


def test_the_key_is_in_no_command_line_and_not_in_the_worker(service: Service) -> None:
    assert KEY.encode() not in Path(f"/proc/{service.worker_pid}/environ").read_bytes()
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            assert KEY.encode() not in entry.read_bytes()
        except (FileNotFoundError, ProcessLookupError):
            continue


def test_listens_on_loopback_only(service: Service) -> None:
    rows = Path("/proc/net/tcp").read_text().splitlines() + Path("/proc/net/tcp6").read_text().splitlines()
    listening = [row.split()[1] for row in rows if f":{service.port:04X} " in row and row.split()[3] == "0A"]
    assert listening == [f"0100007F:{service.port:04X}"]


def test_passes_all_else_through_as_it_comes_and_keeps_vllms_adapter_routes_closed(
    service: Service, vllm: FakeVllm
) -> None:
    messages = [{"role": "user", "content": "hello"}]
    vllm.may_go_on.clear()
    pieces = []
    try:
        for chunk in service.client.chat.completions.create(model="base", messages=messages, stream=True):
            pieces.append(chunk.choices[0].delta.content)
            # The second is made when the first is here, and not without that.
            vllm.may_go_on.set()
    finally:
        vllm.may_go_on.set()
    assert pieces == ["one ", "two"]
    answer = service.http.post("/v1/completions", json={"model": "nobody"})
    assert answer.status_code == 404 and "does not exist" in answer.json()["error"]["message"]
    for path in (
        "load_lora_adapter",
        "unload_lora_adapter",
        "load_lora_adapter/",
        "./load_lora_adapter",
        "x/../load_lora_adapter",
    ):
        body = {"lora_name": "x", "lora_path": "/etc"}
        assert service.http.post(f"/v1/{path}", json=body).status_code in (404, 405)
        assert service.http.post(f"/v1/{path.replace('/', '%2f')}", json=body).status_code in (404, 405)


def test_says_that_no_vllm_can_be_reached(service: Service, vllm: FakeVllm) -> None:
    served = set(vllm.adapters)
    vllm.kill()
    try:
        answer = service.http.get("/v1/models")
        assert answer.status_code == 503 and answer.json()["error"]["code"] == "model_unavailable"
    finally:
        vllm.start()
    assert service.http.get("/v1/models").status_code == 200
    until("it has all adapters again", lambda: set(vllm.adapters) == served)


def test_deep_health_takes_one_job_all_the_way_and_leaves_nothing(service: Service, vllm: FakeVllm) -> None:
    def traces() -> list:
        jobs = [job.id for job in service.client.fine_tuning.jobs.list()]
        folders = [
            sorted(path.name for path in folder.glob("*")) for folder in (service.adapters, service.state / "adapters")
        ]
        return [jobs, *folders, dict(vllm.adapters), sorted((service.state / "jobs").iterdir())]

    before = traces()
    answer = service.http.get("/health/deep")
    assert answer.status_code == 200 and answer.json()["status"] == "healthy"
    assert [check["name"] for check in answer.json()["checks"]] == ["train", "load", "sample"]
    assert traces() == before
    vllm.may_load.clear()
    try:
        late = service.http.get("/health/deep?deadline=10")
    finally:
        vllm.may_load.set()
    assert late.status_code == 503 and late.json()["detail"] == "not done after 10 s; done: train"
    until("nothing is left", lambda: traces() == before, 30)
    vllm.refusal = "no more room"
    try:
        answer = service.http.get("/health/deep")
    finally:
        vllm.refusal = None
    assert answer.status_code == 503 and "no more room" in answer.json()["detail"]
    assert [check["name"] for check in answer.json()["checks"]] == ["train"]
    assert traces() == before


def test_openais_client_for_typescript_trains_and_chats(service: Service) -> None:
    root = Path(__file__).resolve().parents[2]
    argv = [root / "bin" / "node22", "--import", "tsx", root / "test" / "trainer" / "fixtures" / "openai-client.ts"]
    done = subprocess.run(
        [*argv, f"{service.url}/v1", KEY], cwd=root, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    model = seen.pop("model")
    assert model.startswith("ft:base:tandem:typescript:")
    assert seen == {
        "status": "succeeded",
        "rank": 2,
        "steps": [5, 4, 3, 2, 1],
        "checkpoints": 3,
        "content": f"from {model}",
        "streamed": "one two",
        "deleted": True,
        "refusal": "model",
    }
