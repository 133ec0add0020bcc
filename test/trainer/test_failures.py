"""What breaks: the worker, the trainer, vLLM, the disk, memory."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
from fake_vllm import FakeVllm
from service import Service, chats, until

ARGUMENTS = ("--checkpoint-steps", "20", "--handover-seconds", "20")
HYPER = {"n_steps": 90, "seed": 3, "learning_rate_multiplier": 9, "lora_rank": 4}


@pytest.fixture(scope="module")
def undisturbed(service: Service) -> list[float]:
    """Losses of a job that nothing happens to."""
    return service.losses(service.succeeded(service.create(service.upload(chats(4)), **HYPER).id).id)


def slow_job(service: Service, steps_before: int = 25) -> str:
    """A job in the middle of its training."""
    job = service.create(service.upload(chats(4)), **HYPER).id
    until("it trains", lambda: len(service.losses(job)) >= steps_before)
    return job


def test_a_killed_worker_is_started_again_and_the_jobs_end_as_if_nothing_had_been(
    service: Service, undisturbed: list[float]
) -> None:
    jobs = [service.create(service.upload(chats(4)), **HYPER).id for _ in range(2)]
    until("they train", lambda: all(len(service.losses(job)) >= 25 for job in jobs))
    freeze_off_checkpoints(service, jobs)
    service.kill_worker()
    for job in jobs:
        service.succeeded(job, 300)
        assert service.losses(job) == pytest.approx(undisturbed, abs=1e-5)
    told = [message for job in jobs for message in service.messages(job) if "goes on from step" in message]
    assert any("SIGKILL" in message for message in told) and len(told) == 2
    assert sorted(crashes(service, job) for job in jobs) == [0, 1]


def freeze_off_checkpoints(service: Service, jobs: list[str]) -> None:
    """Holds the worker where each job has a step to lose."""
    while True:
        service.freeze_worker()
        steps = [service.client.fine_tuning.jobs.retrieve(job).tandem["step"] for job in jobs]
        assert max(steps) < HYPER["n_steps"]
        if all(step % 20 for step in steps):
            return
        service.thaw_worker()
        time.sleep(0.01)


def test_a_job_that_kills_the_worker_again_and_again_fails_and_the_next_one_is_trained(service: Service) -> None:
    job = service.create(service.upload(chats(4)), n_steps=100_000).id
    for crash in range(1, 4):
        until("it trains", lambda: service.http.get("/health").status_code == 200 and has_advanced(service, job), 300)
        service.kill_worker()
        # That the worker is away lasts some seconds only.
        until("the death is seen", lambda crash=crash: crashes(service, job) == crash)
    now = service.over(job, 60)
    assert (now.status, now.error.code) == ("failed", "worker_died")
    assert "SIGKILL" in now.error.message and "3 of 3" in now.error.message
    service.succeeded(service.create(service.upload(chats(4)), n_steps=2).id, 300)


def has_advanced(service: Service, job: str) -> bool:
    first = service.client.fine_tuning.jobs.retrieve(job).tandem["step"]
    time.sleep(0.2)
    return service.client.fine_tuning.jobs.retrieve(job).tandem["step"] > first


def crashes(service: Service, job: str) -> int:
    return service.client.fine_tuning.jobs.retrieve(job).tandem["crashes"]


def test_a_killed_trainer_goes_on_with_its_jobs_and_serves_its_models_again(
    service: Service, vllm: FakeVllm, undisturbed: list[float]
) -> None:
    served = set(vllm.adapters)
    assert served
    job = slow_job(service)
    waiting = service.create(service.upload(chats(4)), n_steps=2).id
    service.kill()
    # As after the host was started again: memory and vLLM are empty.
    shutil.rmtree(service.adapters)
    vllm.adapters.clear()
    service.start()
    service.succeeded(job, 120)
    service.succeeded(waiting, 120)
    assert service.losses(job) == pytest.approx(undisturbed, abs=1e-5)
    assert served <= set(vllm.adapters)


def test_a_stopped_trainer_checkpoints_and_leaves_no_process(service: Service, undisturbed: list[float]) -> None:
    job = slow_job(service, 5)
    worker = service.worker_pid
    service.stop()
    assert not Path(f"/proc/{worker}").exists()
    with contextlib.closing(sqlite3.connect(service.state / "trainer.sqlite")) as database:
        (last,) = database.execute("select max(step) from events where job = ?", (job,)).fetchone()
    assert [folder.name for folder in (service.state / "jobs" / job).glob("resume-*")] == [f"resume-{last}"]
    service.start()
    service.succeeded(job, 120)
    assert service.losses(job) == pytest.approx(undisturbed, abs=1e-5)


def test_a_vllm_killed_while_it_loads_gets_the_adapter_when_it_is_back(service: Service, vllm: FakeVllm) -> None:
    vllm.may_load.clear()
    vllm.requests.clear()
    job = service.create(service.upload(chats(2)), n_steps=1).id
    until("it loads", lambda: "POST /v1/load_lora_adapter" in vllm.requests)
    vllm.kill()
    vllm.may_load.set()
    time.sleep(1.5)
    assert service.client.fine_tuning.jobs.retrieve(job).status == "running"
    vllm.start()
    model = service.succeeded(job).fine_tuned_model
    assert model in vllm.adapters
    # The other jobs' models come back as well.
    until("all are back", lambda: {row["up"] for row in service.http.get("/health/status").json()["vllm"]} == {True})


def test_a_restarted_vllm_gets_all_adapters_again(service: Service, vllm: FakeVllm) -> None:
    service.succeeded(service.create(service.upload(chats(2)), n_steps=1).id)
    with contextlib.closing(sqlite3.connect(service.state / "trainer.sqlite")) as database:
        known = {row[0] for row in database.execute("select model from adapters")}
    assert len(known) > 1
    until("all are there", lambda: set(vllm.adapters) == known)
    vllm.kill()
    vllm.start()
    until("they are there again", lambda: set(vllm.adapters) == known)


def test_adapters_whose_files_are_lost_from_memory_are_put_there_again(service: Service, vllm: FakeVllm) -> None:
    job = service.succeeded(service.create(service.upload(chats(2)), n_steps=1).id)
    path = Path(vllm.adapters[job.fine_tuned_model])
    shutil.rmtree(path)
    until("it is there again", (path / "adapter_model.safetensors").is_file)


def test_an_adapter_that_vllm_refuses_fails_the_job_with_vllms_reason(service: Service, vllm: FakeVllm) -> None:
    vllm.refusal = "LoRA rank 32 is greater than max_lora_rank 16."
    try:
        job = service.over(service.create(service.upload(chats(2)), n_steps=1).id)
    finally:
        vllm.refusal = None
    assert (job.status, job.error.code, job.fine_tuned_model) == ("failed", "adapter_not_served", None)
    assert "LoRA rank 32 is greater than max_lora_rank 16." in job.error.message
    assert not list(service.state.glob(f"adapters/{job.id}*")) and not list(service.adapters.glob(f"{job.id}*"))


def test_a_vllm_that_stays_away_fails_the_job_and_a_deleted_model_does_not_come_back(
    service: Service, vllm: FakeVllm
) -> None:
    model = service.succeeded(service.create(service.upload(chats(2)), n_steps=1).id).fine_tuned_model
    vllm.kill()
    try:
        job = service.create(service.upload(chats(2)), n_steps=1).id
        assert service.client.models.delete(model).deleted
        now = service.over(job, 60)
    finally:
        vllm.start()
    assert now.status == "failed" and "not loaded in time" in now.error.message
    until("the others are back", lambda: vllm.adapters)
    time.sleep(0.5)
    assert model not in vllm.adapters and not [path for path in vllm.adapters.values() if job in path]


def can_mount() -> bool:
    return subprocess.run(["unshare", "-rm", "mount", "-t", "tmpfs", "x", "/mnt"], capture_output=True).returncode == 0


S3_SECRET = "a-secret-that-is-nowhere-else"


@pytest.fixture(scope="module")
def s3():
    """An S3 of the tests' own, see test_copies.py, with a bucket for what the trainer keeps."""
    client = boto3.client("s3")
    client.create_bucket(Bucket="kept")
    return client


@pytest.fixture(scope="module")
def narrow(
    tmp_path_factory: pytest.TempPathFactory, tiny_model: Path, vllm: FakeVllm, s3
) -> Iterator[tuple[Service, FakeVllm]]:
    """A trainer with two vLLMs, little memory, a small disk for adapters, which only it sees, and copies in S3."""
    if not can_mount():
        pytest.skip("no mount namespaces here, so no small disk")
    second = FakeVllm(key=vllm.key)
    folder = tmp_path_factory.mktemp("narrow")
    more = ("--copy-to", "s3://kept/jobs", "--memory-mib", "192")
    service = Service(folder, tiny_model, [vllm.url, second.url], *more)
    (service.state / "adapters").mkdir(parents=True)
    script = 'mount -t tmpfs -o size=96k tmpfs "$0" && exec "$@"'
    credential = f"AWS_SECRET_ACCESS_KEY={S3_SECRET}"
    service.start(prefix=("env", credential, "unshare", "-rm", "sh", "-c", script, str(service.state / "adapters")))
    yield service, second
    service.stop()
    second.kill()


def test_a_full_disk_fails_the_job_and_nothing_else(narrow: tuple[Service, FakeVllm]) -> None:
    service, _ = narrow
    file = service.upload(chats(2))
    job = service.over(service.create(file, n_steps=1, lora_rank=16).id)
    assert (job.status, job.error.code) == ("failed", "disk_full"), job.error
    assert "no space left on the disk" in job.error.message
    # A smaller one fits, so nothing of the first was left there.
    small = service.succeeded(service.create(file, n_steps=1, lora_rank=1).id)
    assert service.client.models.delete(small.fine_tuned_model).deleted


def test_a_job_that_does_not_fit_fails_with_numbers_and_settings_that_do(narrow: tuple[Service, FakeVllm]) -> None:
    service, _ = narrow
    pid = service.worker_pid
    file = service.upload(chats(128, "hello world " * 90))
    job = service.over(service.create(file, n_steps=1, lora_rank=1, batch_size=128).id)
    assert (job.status, job.error.code) == ("failed", "out_of_memory"), job.error
    assert "got batch_size 128 of " in job.error.message and "GiB free of a share of" in job.error.message
    fits = job.error.details["fits"][0]
    assert list(fits) == ["batch_size"] and 0 < fits["batch_size"] < 128
    small = service.succeeded(service.create(file, n_steps=1, lora_rank=1, **fits).id)
    assert service.worker_pid == pid and os.path.exists(f"/proc/{pid}")
    assert service.client.models.delete(small.fine_tuned_model).deleted


def test_every_replica_has_the_adapter_before_the_job_is_a_success_and_a_copy_is_kept(
    narrow: tuple[Service, FakeVllm], vllm: FakeVllm, s3
) -> None:
    service, second = narrow
    second.may_load.clear()
    try:
        job = service.create(service.upload(chats(2)), suffix="all", n_steps=1, lora_rank=1).id
        until("the first has it", lambda: [name for name in list(vllm.adapters) if ":all:" in name])
        assert service.client.fine_tuning.jobs.retrieve(job).status == "running"
    finally:
        second.may_load.set()
    model = service.succeeded(job).fine_tuned_model
    assert model in vllm.adapters and model in second.adapters
    folder = f"jobs/{model.replace(':', '_')}/"
    assert f"The adapter was copied to s3://kept/{folder}" in service.messages(job)
    kept = [row["Key"] for row in s3.list_objects_v2(Bucket="kept", Prefix=folder)["Contents"]]
    served = {f"{folder}{file.name}": file.read_bytes() for file in Path(vllm.adapters[model]).iterdir()}
    assert {key: s3.get_object(Bucket="kept", Key=key)["Body"].read() for key in kept} == served
    assert S3_SECRET not in service.log.read_text()
    files = [file for file in service.state.rglob("*") if file.is_file()]
    assert files and not [file for file in files if S3_SECRET.encode() in file.read_bytes()]
    # Chats go to whoever is there.
    second.kill()
    for _ in range(4):
        messages = [{"role": "user", "content": "x"}]
        assert service.client.chat.completions.create(model=model, messages=messages).choices[0].message.content


def test_a_copy_that_can_not_be_made_is_said_and_the_model_is_served(
    narrow: tuple[Service, FakeVllm], vllm: FakeVllm, s3
) -> None:
    service, second = narrow
    second.start()
    for row in s3.list_objects_v2(Bucket="kept").get("Contents", []):
        s3.delete_object(Bucket="kept", Key=row["Key"])
    s3.delete_bucket(Bucket="kept")
    job = service.succeeded(service.create(service.upload(chats(2)), n_steps=1, lora_rank=1).id)
    assert job.fine_tuned_model in vllm.adapters
    assert any("can't be copied to s3://kept/" in message for message in service.messages(job.id))


def test_two_trainers_do_not_share_a_state_folder(service: Service) -> None:
    environment = {**os.environ, "VLLM_API_KEY": "x", "PYTHONPATH": service.package}
    done = subprocess.run(service.argv, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2 and "is in use by another trainer" in done.stderr


def test_another_hosts_vllm_gets_every_adapter_through_its_own_trainer(
    tmp_path: Path, service: Service, tiny_model: Path, vllm: FakeVllm
) -> None:
    far = FakeVllm(key=vllm.key)
    receiver = Service(tmp_path / "far", tiny_model, [far.url], "--backend", "none")
    sender = Service(tmp_path / "near", tiny_model, [vllm.url], "--peer", receiver.url)
    for folder in (receiver.root, sender.root):
        folder.mkdir()
    try:
        receiver.start()
        sender.start()
        job = sender.succeeded(sender.create(sender.upload(chats(2)), suffix="far", n_steps=1).id)
        model = job.fine_tuned_model
        assert far.adapters[model].startswith(str(receiver.adapters)) and model in vllm.adapters
        assert receiver.http.get("/v1/fine_tuning/jobs").status_code == 404
        # It is loaded again there when that vLLM, or the trainer itself, was started again.
        far.kill()
        receiver.kill()
        far.start()
        receiver.start()
        until("it is there again", lambda: model in far.adapters)
        # And sent again to a host that lost all.
        receiver.kill()
        shutil.rmtree(receiver.state)
        far.adapters.clear()
        receiver.start()
        until("it was sent again", lambda: model in far.adapters)
        assert sender.client.models.delete(model).deleted
        until("it is gone there", lambda: model not in far.adapters)
        until("so are its files", lambda: not list((receiver.state / "adapters").iterdir()))
        answer = receiver.http.put("/adapters/x/..%2f..%2fy?model=m", content=b"junk")
        assert answer.status_code in (400, 404)
        assert receiver.http.put("/adapters/x/y?model=m", content=b"junk").status_code == 400
        assert not list((receiver.state / "adapters").iterdir())
    finally:
        sender.stop()
        receiver.stop()
        far.kill()
