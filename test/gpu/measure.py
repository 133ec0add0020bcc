"""Looks at GPUs and processes, drives a server with requests, and puts the results into a table."""

import asyncio
import json
import os
import random
import shutil
import statistics
import subprocess
import time
import urllib.error
import urllib.request

# How long one nvidia-smi call may take; on a machine with many GPUs and no persistence daemon it takes seconds.
NVIDIA_SMI_SECONDS = 20
TOKENS_OF_ONE_STREAM = 256
TOKENS_OF_EACH_STREAM = 128
TOKENS_OF_A_PROMPT = 512


class GpuWatch:
    """What nvidia-smi says; a machine without it has no GPUs."""

    def __init__(self):
        self.has_tool = shutil.which("nvidia-smi") is not None
        rows = self.query("gpu", "index,name,memory.total,memory.used,uuid,driver_version") if self.has_tool else []
        self.gpus = [
            dict(
                index=int(row[0]),
                name=row[1],
                totalMiB=int(row[2]),
                usedAtStartMiB=int(row[3]),
                uuid=row[4],
                driver=row[5],
            )
            for row in rows
        ]
        self.count = len(self.gpus)

    @staticmethod
    def query(kind, fields):
        option = "--query-gpu" if kind == "gpu" else "--query-compute-apps"
        command = ["nvidia-smi", f"{option}={fields}", "--format=csv,noheader,nounits"]
        output = subprocess.run(command, capture_output=True, text=True, timeout=NVIDIA_SMI_SECONDS, check=True).stdout
        return [[field.strip() for field in line.split(",")] for line in output.splitlines() if line.strip()]

    def describe(self):
        return self.gpus

    def used_mib(self, devices):
        if not self.has_tool:
            return []
        used = {int(row[0]): int(row[1]) for row in self.query("gpu", "index,memory.used")}
        return [used[index] for index in devices]

    def processes(self, devices):
        """Memory of each process on these GPUs, in MiB."""
        if not self.has_tool:
            return []
        index_of = {gpu["uuid"]: gpu["index"] for gpu in self.gpus}
        rows = self.query("apps", "pid,gpu_uuid,used_memory,process_name")
        return [
            dict(
                pid=int(row[0]),
                gpu=index_of.get(row[1]),
                usedMiB=int(row[2]) if row[2].isdigit() else None,
                name=row[3],
            )
            for row in rows
            if index_of.get(row[1]) in devices
        ]

    def wait_until_free(self, devices, limit):
        """@returns seconds until these GPUs held no more than at the start, and what they hold now (MiB)"""
        started = time.monotonic()
        before = {gpu["index"]: gpu["usedAtStartMiB"] for gpu in self.gpus}
        while True:
            used = self.used_mib(devices)
            if all(mib <= before[index] + 8 for index, mib in zip(devices, used)) or time.monotonic() - started > limit:
                return round(time.monotonic() - started, 1), used
            time.sleep(0.5)


def cuda_totals_gib(python):
    """What CUDA counts as each GPU's memory, in GiB: less than nvidia-smi's total, and what vLLM's fraction is of."""
    totals = "[torch.cuda.mem_get_info(i)[1] / 2**30 for i in range(torch.cuda.device_count())]"
    code = f"import json, torch; print(json.dumps({totals}))"
    try:
        answer = subprocess.run([python, "-c", code], capture_output=True, text=True, timeout=120, check=True)
        return json.loads(answer.stdout.splitlines()[-1])
    except (subprocess.SubprocessError, ValueError, IndexError) as error:
        print(f"CUDA's own totals are not known: {error}", flush=True)
        return []


def is_healthy(server, seconds=2):
    try:
        with urllib.request.urlopen(f"{server}/health", timeout=seconds) as answer:
            return answer.status == 200
    except (urllib.error.URLError, OSError):
        return False


def drive(base_url, key, model, counts=(1, 64)):
    """Speed with each of these numbers of requests at once, twice each: the first round compiles and fills caches.

    @returns for each number the tokens a second of both rounds, and the seconds until the first token (median, most)
    """
    return asyncio.run(_drive(base_url, key, model, counts))


async def _drive(base_url, key, model, counts):
    import aiohttp

    headers = {"Authorization": f"Bearer {key}"} if key else {}
    timeout = aiohttp.ClientTimeout(total=120)
    async with aiohttp.ClientSession(
        headers=headers, timeout=timeout, connector=aiohttp.TCPConnector(limit=0)
    ) as session:

        async def at_once(count, **values):
            async def one():
                started = time.monotonic()
                request = dict(model=model, ignore_eos=True, temperature=0, **values)
                if "prompt" not in request:
                    request["prompt"] = [random.randrange(1000, 9000) for _ in range(TOKENS_OF_A_PROMPT)]
                tokens = await _complete(session, f"{base_url}/completions", request)
                return tokens, time.monotonic() - started

            started = time.monotonic()
            answers = await asyncio.gather(*[one() for _ in range(count)])
            rate = sum(tokens for tokens, _ in answers) / (time.monotonic() - started)
            return round(rate, 1), sorted(seconds for _, seconds in answers)

        result = {"tokensPerSecond": {}, "firstTokenSeconds": {}}
        for count in counts:
            tokens = TOKENS_OF_ONE_STREAM if count == 1 else TOKENS_OF_EACH_STREAM
            rounds = [await at_once(count, prompt="The capital of France is", max_tokens=tokens) for _ in range(2)]
            result["tokensPerSecond"][count] = [rate for rate, _ in rounds]
        for count in counts:
            # An answer of one token to a prompt that nobody sent before takes as long as the first one of many.
            await at_once(count, max_tokens=1)
            _, first = await at_once(count, max_tokens=1)
            result["firstTokenSeconds"][count] = [round(statistics.median(first), 3), round(first[-1], 3)]
    return result


async def _complete(session, url, request):
    async with session.post(url, json=request) as answer:
        if answer.status != 200:
            raise RuntimeError(f"{url} answered {answer.status}: {(await answer.text())[:200]}")
        return (await answer.json())["usage"]["completion_tokens"]


def variables_of(process_id):
    """Environment of a process; empty when it is gone or not ours to read."""
    try:
        with open(f"/proc/{process_id}/environ", "rb") as file:
            pairs = file.read().decode(errors="replace").split("\0")
    except OSError:
        return {}
    return dict(pair.split("=", 1) for pair in pairs if "=" in pair)


def session_of(process_id):
    """Session of a process, None when it is gone."""
    try:
        return os.getsid(process_id)
    except ProcessLookupError:
        return None


def command_lines():
    """Ids and command lines (bytes, words by spaces) of all processes but this one."""
    for entry in os.listdir("/proc"):
        if not entry.isdigit() or int(entry) == os.getpid():
            continue
        try:
            with open(f"/proc/{entry}/cmdline", "rb") as file:
                yield int(entry), file.read().replace(b"\0", b" ")
        except OSError:
            continue


def vllm_processes():
    """Ids of all processes that belong to a vLLM: by their command line or the title that they gave themselves."""
    return [pid for pid, line in command_lines() if line.startswith(b"VLLM::") or b"vllm.entrypoints" in line]


COLUMNS = (
    "case",
    "asked",
    "planned GiB",
    "idle MiB",
    "loaded MiB",
    "of smi",
    "of CUDA",
    "ready s",
    "up s",
    "tok/s",
    "first token ms",
    "again",
    "down s",
    "note",
)


def format_table(rows, gpus, cuda_totals):
    lines = [COLUMNS, *[_cells(row, gpus, cuda_totals) for row in rows]]
    widths = [max(len(line[column]) for line in lines) for column in range(len(COLUMNS))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in lines)


def _cells(row, gpus, cuda_totals):
    used = row.get("loadedMiB") or row.get("idleMiB") or []
    load, up, again, down = (row.get(name) or {} for name in ("load", "up", "again", "destroy"))
    total = gpus.gpus[0]["totalMiB"] if gpus.gpus else None
    of_smi = f"{max(used) / total:.1%}" if used and total else "-"
    of_cuda = f"{max(used) / 1024 / cuda_totals[0]:.1%}" if used and cuda_totals else "-"
    return (
        row["case"],
        f"{row['share']}",
        _number((row.get("plan") or {}).get("servingGiB"), 2),
        ",".join(map(str, row.get("idleMiB") or ["-"])),
        ",".join(map(str, row.get("loadedMiB") or ["-"])),
        of_smi,
        of_cuda,
        _number(up.get("healthySeconds"), 0),
        _number(up.get("seconds"), 0) + ("" if up.get("code", 0) == 0 else f" (exit {up['code']})"),
        " ".join(f"{count}:{max(rates):.0f}" for count, rates in load.get("tokensPerSecond", {}).items()) or "-",
        " ".join(f"{count}:{first[0] * 1000:.0f}" for count, first in load.get("firstTokenSeconds", {}).items()) or "-",
        "-" if not again else f"{again['seconds']:.1f} s {again['changes']}",
        _number(down.get("seconds"), 1) + ("" if down.get("code", 0) == 0 else f" (exit {down['code']})"),
        " ".join(row.get("note", "").split())[:160],
    )


def _number(value, digits):
    return "-" if value is None else f"{value:.{digits}f}"
