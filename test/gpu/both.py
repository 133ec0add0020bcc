#!/usr/bin/env python3
"""Serves and trains on the same GPUs, and measures both sides: memory asked, planned and measured, speed, turns.

    both.py --tandem bin/tandem --runtime PYTHON --trainer-runtime PYTHON --models DIRECTORY --out DIRECTORY

One deployment: `tandem up` with vLLM over all GPUs at a share, and the trainer over all GPUs with the rest. Then 64
streams with the trainer idle; ten jobs at once, the streams again while they train; each adapter asked something; a job
that can't fit, with the streams going on; `tandem status --deep`; `tandem destroy`. Everything ends inside --seconds.
"""

import argparse
import contextlib
import json
import os
import shutil
import signal
import sqlite3
import statistics
import tempfile
import threading
import time
import urllib.error
import urllib.request

from deployments import Tandem, find_key
from measure import GpuWatch, command_lines, cuda_totals_gib, drive, is_healthy

JOBS = 10
STEPS = 30
RESERVE_SECONDS = 60
BOUNDARY = "tandem-boundary"


class Both(Tandem):
    """A deployment with a trainer."""

    def more_settings(self):
        return {
            "split": {"serving": self.spec["share"], "training": self.spec["training_share"]},
            "training": {
                "backend": "megatron-bridge",
                "runtimePath": self.arguments.trainer_runtime,
                "rank": self.spec["rank"],
                "sequenceLength": self.spec["sequence_length"],
                "batchSize": self.spec["batch_size"],
                "tensorParallel": self.spec["tensor_parallel"],
            },
        }

    def ask(self, path, body=None, seconds=60, content_type="application/json", verb=None):
        """One request through the gateway; answers (status, JSON)."""
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
        headers = {"Authorization": f"Bearer {self.key()}", "Content-Type": content_type}
        request = urllib.request.Request(f"{self.server}{path}", data=body, headers=headers, method=verb)
        try:
            with urllib.request.urlopen(request, timeout=seconds) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read() or b"null")

    def upload(self, rows):
        data = "".join(json.dumps(row) + "\n" for row in rows)
        parts = (
            f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nfine-tune\r\n'
            f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="rows.jsonl"\r\n'
            f"Content-Type: application/jsonl\r\n\r\n{data}\r\n--{BOUNDARY}--\r\n"
        )
        status, answer = self.ask("/v1/files", parts.encode(), content_type=f"multipart/form-data; boundary={BOUNDARY}")
        assert status == 200, answer
        return answer["id"]

    def train(self, file, suffix, **values):
        body = {
            "model": self.model_name(),
            "training_file": file,
            "suffix": suffix,
            "seed": 1,
            "method": {"type": "supervised", "supervised": {"hyperparameters": values}},
        }
        status, answer = self.ask("/v1/fine_tuning/jobs", body)
        assert status == 200, answer
        return answer["id"]

    def job(self, id):
        return self.ask(f"/v1/fine_tuning/jobs/{id}")[1]

    def wait(self, ids, seconds):
        deadline = time.monotonic() + seconds
        while True:
            jobs = [self.job(id) for id in ids]
            if all(job["status"] in ("succeeded", "failed", "cancelled") for job in jobs) or (
                time.monotonic() > deadline
            ):
                return jobs
            time.sleep(1)

    def complete(self, model):
        body = {"model": model, "prompt": "The capital of Zubrowka is", "max_tokens": 12, "temperature": 0}
        status, answer = self.ask("/v1/completions", body)
        return answer["choices"][0]["text"] if status == 200 else f"status {status}: {answer}"

    def order_of_steps(self):
        home = os.environ.get("TANDEM_HOME")
        host = os.path.join(home, "host") if home else "/var/lib/tandem"
        path = os.path.join(host, "stacks", self.name, "training", "trainer.sqlite")
        with sqlite3.connect(path) as database:
            return [row[0] for row in database.execute("select job from events where step is not null order by seq")]


def processes_of_trainer():
    """Ids of the trainer, its ranks and what keeps it running, the keepers first."""
    found = [
        (b"supervise" not in line, pid)
        for pid, line in command_lines()
        if b"tandem_trainer" in line or (b"supervise" in line and b"trainer" in line)
    ]
    return [pid for _, pid in sorted(found)]


def signal_trainer(number):
    for pid in processes_of_trainer():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def cost_of_idling(speed, rounds=5):
    """Serving beside an idle trainer and beside one that is halted, by turns; at last with its processes ended."""
    loads = {"idle": [], "halted": [], "ended": []}
    for _ in range(rounds):
        for kind, number in (("halted", signal.SIGSTOP), ("idle", signal.SIGCONT)):
            signal_trainer(number)
            loads[kind].append(speed())
    signal_trainer(signal.SIGKILL)
    time.sleep(3)
    loads["ended"] = [speed() for _ in range(3)]
    medians = {
        kind: statistics.median(max(load["tokensPerSecond"][64]) for load in all_of_kind)
        for kind, all_of_kind in loads.items()
    }
    return {"loads": loads, "medians": medians}


class Peak:
    """The most that nvidia-smi showed, for each GPU and process, while it is open."""

    def __init__(self, gpus, devices):
        self.gpus, self.devices, self.used, self.of_process = gpus, devices, [0] * len(devices), {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def _watch(self):
        while not self._ended.wait(1):
            self.used = [max(pair) for pair in zip(self.used, self.gpus.used_mib(self.devices))]
            for process in self.gpus.processes(self.devices):
                key = f"{process['pid']} {command_of(process['pid'])} GPU {process['gpu']}"
                self.of_process[key] = max(self.of_process.get(key, 0), process["usedMiB"] or 0)

    def __exit__(self, *_):
        self._ended.set()
        self._thread.join(30)


def command_of(pid):
    """`trainer` or `vllm`."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return "trainer" if b"tandem_trainer" in file.read() else "vllm"
    except OSError:
        return "gone"


def furthest_apart(order, jobs):
    """How far apart the jobs' step counts ever were, from when the last one began until the first one was done."""
    began = max(order.index(job) for job in jobs)
    done = min(len(order) - order[::-1].index(job) for job in jobs)
    steps, worst = dict.fromkeys(jobs, 0), 0
    for job in order[began:done]:
        if job in steps:
            steps[job] += 1
            worst = max(worst, max(steps.values()) - min(steps.values()))
    return worst


def rows_of(index, n, words):
    return [
        {"prompt": f"Question {i} of user {index}: ", "completion": f"answer {index} " + "word " * words}
        for i in range(n)
    ]


def measure(run, row, say):
    """All that is asked of a running deployment; each part is in `row` as soon as it is known."""
    gpus, devices, spec = run.gpus, run.devices, run.deployment.spec
    it = run.deployment
    speed = lambda: drive(it.base_url, it.key(), it.model_name())  # noqa: E731
    row["idleMiB"], row["processes"] = gpus.used_mib(devices), gpus.processes(devices)
    for process in row["processes"]:
        process["command"] = command_of(process["pid"])
    with Peak(gpus, devices) as peak:
        row["loadIdle"] = [speed(), speed()]
        say(f"trainer idle: {row['loadIdle']}")
    row["loadedMiB"], row["loadedOfProcess"] = peak.used, peak.of_process
    row["health"] = it.ask("/status.json")[1]
    if run.arguments.brief:
        row["idling"] = cost_of_idling(speed)
        return
    files = [it.upload(rows_of(index, 32, 60)) for index in range(JOBS)]
    values = {"n_steps": STEPS, "batch_size": spec["batch_size"], "lora_rank": spec["rank"]}
    before = it.complete(it.model_name())
    with Peak(gpus, devices) as peak:
        began = time.monotonic()
        jobs = [
            it.train(file, f"user-{index}", learning_rate_multiplier=10, **values) for index, file in enumerate(files)
        ]
        while not it.order_of_steps() and time.monotonic() - began < 60:
            time.sleep(0.5)
        row["loadTraining"] = speed()
        say(f"while training: {row['loadTraining']}; steps done: {len(it.order_of_steps())}")
        done = it.wait(jobs, max(10, run.left() - RESERVE_SECONDS - 60))
        row["trainSeconds"] = round(time.monotonic() - began, 1)
    row["trainingMiB"], row["trainingOfProcess"] = peak.used, peak.of_process
    row["jobs"] = [{key: job.get(key) for key in ("id", "status", "error", "fine_tuned_model")} for job in done]
    order = it.order_of_steps()
    row["stepsApart"], row["steps"] = furthest_apart(order, jobs), len(order)
    say(f"jobs: {[job['status'] for job in done]} in {row['trainSeconds']} s, apart by {row['stepsApart']}")
    row["texts"] = {"base": before, **{job["fine_tuned_model"]: it.complete(job["fine_tuned_model"]) for job in done}}
    row["baseAfter"] = it.complete(it.model_name())
    row["trainerMemory"] = it.ask("/status.json")[1]
    if run.left() > RESERVE_SECONDS + 40:
        too_much = it.upload(rows_of(0, 256, spec["sequence_length"] // 6))
        id = it.train(too_much, "too-much", n_steps=2, batch_size=256, lora_rank=spec["rank"])
        row["tooMuch"] = it.wait([id], 60)[0]
        row["answersAfter"] = is_healthy(it.server) and it.complete(done[0]["fine_tuned_model"])
        say(f"a job that does not fit: {row['tooMuch'].get('error')}")
    if run.left() > RESERVE_SECONDS + 30:
        code, document, seconds, _ = it.call("status", "--deep", "--json", limit=60)
        row["deep"] = {"code": code, "seconds": seconds, "document": document}


class Run:
    def __init__(self, arguments):
        self.arguments = arguments
        self.deadline = time.monotonic() + arguments.seconds
        self.gpus = GpuWatch()
        self.devices = list(range(self.gpus.count))
        self.row = {"cudaTotalGiB": cuda_totals_gib(arguments.runtime), "gpus": self.gpus.describe()}
        spec = dict(
            model=arguments.model, share=arguments.share, training_share=round(1 - arguments.share, 3), rank=32,
            sequence_length=1024, batch_size=arguments.batch_size, tensor_parallel=self.gpus.count, replicas=1,
            eager=arguments.eager, dummy=False,
        )  # fmt: skip
        folder = os.path.join(arguments.work, "both")
        os.makedirs(folder)
        self.deployment = Both(arguments, "both", spec, self.devices, arguments.port, folder)

    def left(self):
        return self.deadline - time.monotonic()

    def go(self):
        row, it = self.row, self.deployment
        try:
            row["plan"] = it.plan()
            row["up"] = it.up(limit=max(30, self.left() - RESERVE_SECONDS))
            if it.answers():
                measure(self, row, it.say)
        except Exception as error:  # what was measured before is worth having
            row["note"] = f"{type(error).__name__}: {error}"[:400]
            it.say(row["note"])
        finally:
            self.save()
            row["truth"] = it.truth()
            row["destroy"] = it.down(max(20, min(60, self.left() - 5)))
            row["backSeconds"], row["leftMiB"] = self.gpus.wait_until_free(self.devices, limit=30)
            self.save()

    def save(self):
        with open(os.path.join(self.arguments.work, "both.json"), "w") as file:
            json.dump(self.row, file, indent=1)
        shutil.copy(os.path.join(self.arguments.work, "both.json"), self.arguments.out)
        shutil.make_archive(os.path.join(self.arguments.out, "both-logs"), "gztar", self.arguments.work)

    def stop(self, *_):
        self.deployment.down(30)
        self.save()
        print(self.table(), flush=True)
        os._exit(143)

    def table(self):
        row = self.row
        plan = (find_key(row.get("plan"), "perGpu") or [{}])[0]
        trainer = max(
            [mib for name, mib in row.get("trainingOfProcess", {}).items() if " trainer " in name], default=None
        )
        vllm = max([mib for name, mib in row.get("trainingOfProcess", {}).items() if " vllm " in name], default=None)
        rates = [max(load["tokensPerSecond"][64]) for load in row.get("loadIdle", [])]
        lines = [
            f"up: {row.get('up', {}).get('code')} in {row.get('up', {}).get('seconds')} s, vLLM healthy after "
            f"{row.get('up', {}).get('healthySeconds')} s; {(row.get('up', {}).get('lastLine') or '')[:200]}",
            f"planned a GPU: serving {plan.get('servingGiB')} GiB, training {plan.get('trainingGiB')} GiB; parts: "
            + json.dumps([[p["side"], p["name"], round(p["sizeGiB"], 3)] for p in plan.get("parts", [])]),
            f"CUDA's totals: {row['cudaTotalGiB']}",
            f"a GPU idle {row.get('idleMiB')}, after 64 streams {row.get('loadedMiB')}, training "
            f"{row.get('trainingMiB')} MiB; of a vLLM process {vllm}, of a trainer's rank {trainer} MiB",
            f"trainer's own: {json.dumps(find_key(row.get('trainerMemory'), 'memory'))}",
            f"tok/s by streams, and seconds to the first token: idle {json.dumps(row.get('loadIdle'))}, training "
            f"{json.dumps(row.get('loadTraining'))}",
            f"an idle trainer: {json.dumps(row.get('idling', {}).get('medians'))}",
            f"jobs: {[job['status'] for job in row.get('jobs', [])]} {row.get('steps')} steps in "
            f"{row.get('trainSeconds')} s, apart by {row.get('stepsApart')}",
            f"texts: {json.dumps(row.get('texts'))[:900]}",
            f"base the same after: {row.get('texts', {}).get('base') == row.get('baseAfter')}",
            f"too much: {(row.get('tooMuch') or {}).get('status')} {(row.get('tooMuch') or {}).get('error')}; answers "
            f"after: {row.get('answersAfter')}",
            f"deep: {row.get('deep', {}).get('code')} in {row.get('deep', {}).get('seconds')} s",
            f"destroy: {row.get('destroy', {}).get('code')} in {row.get('destroy', {}).get('seconds')} s, back after "
            f"{row.get('backSeconds')} s: {row.get('leftMiB')} MiB; {row.get('note', '')}",
        ]
        if rates:
            lines.append(f"median of idle rates: {statistics.median(rates)}")
        return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--tandem", default="bin/tandem")
    add("--runtime", required=True, help="Python interpreter that has vLLM")
    add("--trainer-runtime", required=True, help="Python interpreter that has Megatron-Bridge")
    add("--models", required=True, help="directory that make_shapes.py filled")
    add("--out", required=True, help="directory for the results")
    add("--model", default="Qwen3-0.6B")
    add("--share", type=float, default=0.4, help="of vLLM; the trainer has the rest (default: 0.4)")
    add("--eager", action="store_true", help="no CUDA graphs, a quicker start")
    add("--brief", action="store_true", help="no jobs: memory, and what an idle trainer costs serving")
    add("--batch-size", type=int, default=8)
    add("--seconds", type=float, default=560, help="limit of the whole run (default: 560)")
    add("--port", type=int, default=8000)
    add("--extra-args", type=str.split, default=[], help="more arguments for vLLM, in one text")
    add("--extra-env", action="append", default=[], metavar="NAME=VALUE", help="more variables for vLLM")
    add("--max-model-len", type=int)
    add("--vllm-version")
    arguments = parser.parse_args()
    os.makedirs(arguments.out, exist_ok=True)
    arguments.work = tempfile.mkdtemp(prefix="gpu-both-")
    run = Run(arguments)
    signal.signal(signal.SIGTERM, run.stop)
    signal.signal(signal.SIGINT, run.stop)
    run.go()
    print(run.table(), flush=True)
    shutil.rmtree(arguments.work)


if __name__ == "__main__":
    main()
