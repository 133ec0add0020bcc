#!/usr/bin/env python3
"""Measures real deployments on the GPUs of this machine, one case after the other, and prints one table.

    cases.py --tandem bin/tandem --runtime PYTHON --models DIRECTORY --out DIRECTORY [--direct] [CASE ...]

For each case: `tandem up`, memory of every GPU and process, one stream and 64 streams, `tandem status`, a second `up`,
`tandem destroy`, and the wait until the GPUs hold what they held before. What a failed `up` left running is measured
all the same. `--direct` starts vLLM by hand instead, with vLLM's own fraction, which makes vLLM print the parts of its
memory; `A+B` then runs two cases side by side on different GPUs.
Everything ends inside --seconds: a case that can't end in time is left out and named. The interpreter needs aiohttp.
"""

import argparse
import json
import os
import shutil
import signal
import statistics
import tempfile
import threading
import time

from deployments import Direct, Tandem
from measure import GpuWatch, cuda_totals_gib, drive, format_table

# A case starts only with this much time left: vLLM alone took 120 to 190 s to its first answer on 2 x H100.
CASE_SECONDS = 150
# Seconds kept back for taking a case down and packing the results.
RESERVE_SECONDS = 35


def case(model, share, tensor_parallel=1, replicas=1, eager=False, dummy=False):
    return dict(model=model, share=share, tensor_parallel=tensor_parallel, replicas=replicas, eager=eager, dummy=dummy)


def known_cases(gpus):
    """Every case by name, for the number of GPUs there are; the first ones of `default_cases` matter most."""
    cases = {
        "qwen-tp1": case("Qwen3-0.6B", 0.4),
        "smol-tp1": case("SmolLM2-135M", 0.4),
        "llama1b-tp1-70": case("Llama-3.2-1B", 0.7),
        "llama1b-tp1": case("Llama-3.2-1B", 0.4),
        "llama8b-tp1-70": case("Llama-3.1-8B", 0.7, dummy=True),
        "llama8b-tp1-eager": case("Llama-3.1-8B", 0.4, eager=True, dummy=True),
        "qwen-tp1-25": case("Qwen3-0.6B", 0.25),
        "smol-eager": case("SmolLM2-135M", 0.2, eager=True),
    }
    if gpus > 1:
        cases |= {
            f"qwen-tp{gpus}": case("Qwen3-0.6B", 0.4, tensor_parallel=gpus),
            f"qwen-{gpus}x1": case("Qwen3-0.6B", 0.4, replicas=gpus),
            f"smol-{gpus}x1": case("SmolLM2-135M", 0.4, replicas=gpus),
            f"llama8b-tp{gpus}-eager": case("Llama-3.1-8B", 0.4, tensor_parallel=gpus, eager=True, dummy=True),
            f"llama8b-tp{gpus}": case("Llama-3.1-8B", 0.4, tensor_parallel=gpus, dummy=True),
            f"llama1b-tp{gpus}": case("Llama-3.2-1B", 0.4, tensor_parallel=gpus),
        }
    if gpus > 3:
        half = gpus // 2
        for name, model, dummy in (
            ("qwen", "Qwen3-0.6B", False),
            ("llama1b", "Llama-3.2-1B", False),
            ("llama8b", "Llama-3.1-8B", True),
        ):
            cases[f"{name}-{half}x2"] = case(model, 0.4, tensor_parallel=2, replicas=half, dummy=dummy)
            cases[f"{name}-{gpus}x1"] = case(model, 0.4, replicas=gpus, dummy=dummy)
    return cases


def default_cases(gpus):
    """What tells most, first: a run ends when its time does, and another one names the rest."""
    if gpus > 3:
        shapes = [f"{gpus}x1", f"tp{gpus}", f"{gpus // 2}x2"]
        return [f"smol-{gpus}x1", *[f"{name}-{shape}" for name in ("qwen", "llama8b", "llama1b") for shape in shapes]]
    if gpus > 1:
        side_by_side = "smol-tp1+llama1b-tp1-70"
        return [f"qwen-tp{gpus}", f"qwen-{gpus}x1", side_by_side, f"llama8b-tp{gpus}-eager", f"smol-{gpus}x1"]
    return ["qwen-tp1", "smol-tp1", "llama8b-tp1-eager", "llama1b-tp1-70"]


class Run:
    def __init__(self, arguments):
        self.arguments = arguments
        self.deadline = time.monotonic() + arguments.seconds
        self.gpus = GpuWatch()
        self.cuda_totals = cuda_totals_gib(arguments.runtime) if self.gpus.count else []
        self.rows = []
        self.current = []

    def left(self):
        return self.deadline - time.monotonic()

    def group(self, text):
        """Runs one case, or with `+` several side by side, each on its own GPUs."""
        specs = known_cases(self.gpus.count or 1)
        threads, first = [], 0
        for offset, name in enumerate(text.split("+")):
            row = {"case": name, **specs[name]}
            self.rows.append(row)
            needed = row["tensor_parallel"] * row["replicas"]
            devices = list(range(first, first + needed)) if self.gpus.count else []
            threads.append(threading.Thread(target=self.one, args=(row, devices, self.arguments.port + offset)))
            first += needed
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def one(self, row, devices, port):
        if self.left() < self.arguments.case_seconds:
            row["note"] = f"left out: {max(0, self.left()):.0f} s left"
            return
        kind = Direct if self.arguments.direct else Tandem
        self.deploy(kind, row, devices, port)
        if kind is Tandem and "loadedMiB" not in row and self.left() > self.arguments.case_seconds:
            by_hand = {**{key: row[key] for key in known_cases(1)["qwen-tp1"]}, "case": f"{row['case']}-by-hand"}
            self.rows.append(by_hand)
            self.deploy(Direct, by_hand, devices, port)

    def deploy(self, kind, row, devices, port):
        folder = os.path.join(self.arguments.work, row["case"])
        os.makedirs(folder, exist_ok=True)
        deployment = kind(self.arguments, row["case"], row, devices, port, folder)
        self.current.append(deployment)
        try:
            self.steps(row, deployment, devices)
        except Exception as error:  # a case that breaks must not cost the other cases their time
            row["note"] = f"{type(error).__name__}: {error}"[:160]
            deployment.say(row["note"])
        finally:
            row["destroy"] = deployment.down(max(20, min(90, self.left() - 5)))
            row["backSeconds"], row["leftMiB"] = self.gpus.wait_until_free(devices, limit=30)
            self.current.remove(deployment)

    def steps(self, row, deployment, devices):
        row["plan"] = deployment.plan()
        row["up"] = deployment.up(limit=max(30, self.left() - RESERVE_SECONDS - 25))
        if not deployment.answers():
            row["note"] = f"no answer: {row['up'].get('lastLine', '')}"
            return
        row["idleMiB"] = self.gpus.used_mib(devices)
        row["load"] = drive(deployment.base_url, deployment.key(), deployment.model_name(), self.arguments.streams)
        row["loadedMiB"] = self.gpus.used_mib(devices)
        row["processes"] = self.gpus.processes(devices)
        if self.arguments.gateway_rounds and isinstance(deployment, Tandem):
            row["gateway"] = self.beside_gateway(deployment)
            deployment.say(f"through the gateway and directly: {json.dumps(row['gateway'])}")
        row["environment"] = deployment.shared_host_variables()
        self.save()
        if self.left() > RESERVE_SECONDS + 30:
            row["again"] = deployment.again(limit=self.left() - RESERVE_SECONDS - 15)
        row["truth"] = deployment.truth()

    def beside_gateway(self, deployment):
        """The last number of streams through the gateway and past it, in turns: tokens a second, and first tokens."""
        ways = {
            "gateway": (deployment.base_url, deployment.key()),
            "direct": (f"{deployment.vllm}/v1", deployment.engine_key()),
        }
        counts = sorted({1, self.arguments.streams[-1]})
        loads = {way: [] for way in ways}
        for _ in range(self.arguments.gateway_rounds):
            for way, (base_url, key) in ways.items():
                loads[way].append(drive(base_url, key, deployment.model_name(), counts))

        def of_all(way, what, pick):
            return {n: statistics.median(pick(load[what][n]) for load in loads[way]) for n in counts}

        return {
            way: {
                "tokensPerSecond": of_all(way, "tokensPerSecond", max),
                "firstTokenSeconds": of_all(way, "firstTokenSeconds", lambda of_round: of_round[0]),
                "loads": loads[way],
            }
            for way in ways
        }

    def save(self):
        """After every case: a run that is cut off has shown what it has."""
        result = {"gpus": self.gpus.describe(), "cudaTotalGiB": self.cuda_totals, "rows": self.rows}
        with open(os.path.join(self.arguments.work, "results.json"), "w") as file:
            json.dump(result, file, indent=1)
        table = format_table(self.rows, self.gpus, self.cuda_totals)
        with open(os.path.join(self.arguments.work, "table.txt"), "w") as file:
            file.write(table + "\n")
        for name in ("results.json", "table.txt"):
            shutil.copy(os.path.join(self.arguments.work, name), self.arguments.out)
        shutil.make_archive(os.path.join(self.arguments.out, "case-logs"), "gztar", self.arguments.work)
        return table

    def stop(self, *_):
        for deployment in self.current:
            deployment.down(30)
        print(self.save(), flush=True)
        shutil.rmtree(self.arguments.work)
        # The threads of the cases would go on; nothing of theirs runs any more.
        os._exit(143)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", metavar="CASE")
    parser.add_argument("--tandem", default="bin/tandem")
    parser.add_argument("--runtime", required=True, help="Python interpreter that has vLLM")
    parser.add_argument("--models", required=True, help="directory that make_shapes.py filled")
    parser.add_argument("--out", required=True, help="directory for the results: three files")
    parser.add_argument("--seconds", type=float, default=540, help="limit of the whole run (default: 540)")
    parser.add_argument(
        "--case-seconds", type=float, default=CASE_SECONDS, help="a case starts only with this much time left"
    )
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument(
        "--streams", type=lambda text: [int(count) for count in text.split(",")], default=[1, 8, 64, 256],
        help="how many requests at once, with commas (default: 1,8,64,256)",
    )  # fmt: skip
    parser.add_argument(
        "--gateway-rounds", type=int, default=0, help="so many loads through the gateway and past it, in turns"
    )
    parser.add_argument("--extra-args", type=str.split, default=[], help="more arguments for vLLM, in one text")
    parser.add_argument(
        "--extra-env", action="append", default=[], metavar="NAME=VALUE", help="more variables for vLLM"
    )
    parser.add_argument("--max-model-len", type=int)
    parser.add_argument("--vllm-version")
    parser.add_argument("--direct", action="store_true", help="start vLLM by hand instead of by tandem")
    arguments = parser.parse_args()
    os.makedirs(arguments.out, exist_ok=True)
    # Few files in the end, whatever happens: everything else is made elsewhere and packed after every case.
    arguments.work = tempfile.mkdtemp(prefix="gpu-cases-")
    run = Run(arguments)
    signal.signal(signal.SIGTERM, run.stop)
    signal.signal(signal.SIGINT, run.stop)
    for text in arguments.cases or default_cases(run.gpus.count):
        run.group(text)
        print(run.save(), flush=True)
    shutil.rmtree(arguments.work)


if __name__ == "__main__":
    main()
