"""Counts vLLM's engines and workers among running processes, and measures their memory on GPUs.

vLLM names its processes itself (setproctitle): `VLLM::EngineCore` or `VLLM::EngineCore_DP1` for the engine of a
replica, `VLLM::Worker`, `VLLM::Worker_TP0`, `VLLM::Worker_DP1_TP0` for its workers. On one GPU an engine has no
workers and does the work itself. Seen with 0.26 and 0.32. Where the titles could not be set (seen with 0.26 on a GPU
host), the names that these processes write before their log lines, `(Worker_TP0 pid=2323)`, say which is which; what is
counted are the living processes all the same. Standard library only, Python 3.9 or newer.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

ENGINE = re.compile(r"^\S+::EngineCore(?:_DP(?P<replica>\d+))?\b")
WORKER = re.compile(r"^\S+::Worker(?P<ranks>(?:_[A-Z]+\d+)*)\b")
LOG_NAME = re.compile(r"^\((\w+) pid=(\d+)\)", re.MULTILINE)
# A context that the driver frees with a delay; less than any model takes.
NOISE_MIB = 64


def processes_below(*roots: int) -> dict[int, tuple[int, str]]:
    """
    Process id → (parent, title) of all living processes below `roots`: the supervisor, and the first process of a
    container, since docker's are no children of ours.
    """
    parents: dict[int, int] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if fields[0] not in "ZX":
            parents[int(stat.parent.name)] = int(fields[1])
    below: dict[int, tuple[int, str]] = {}
    added = set(roots)
    while added:
        added = {pid for pid, parent in parents.items() if parent in added and pid not in below}
        below.update({pid: (parents[pid], _title(pid)) for pid in added})
    return below


def _title(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return ""


def with_logged_names(
    processes: dict[int, tuple[int, str]], log: Path, contained: bool = False
) -> dict[int, tuple[int, str]]:
    """
    The processes with the names of the log in place of titles that are not vLLM's. A worker logs under a shorter name
    before it knows its rank, so the longest counts. In a container (`contained`) it logs the id that it has in there.
    """
    if any(ENGINE.match(title) for _, title in processes.values()):
        return processes
    names: dict[int, str] = {}
    for file in (log.with_name(f"{log.name}.1"), log):
        try:
            text = file.read_text(errors="replace")
        except OSError:
            continue
        for name, pid in LOG_NAME.findall(text):
            names[int(pid)] = max(names.get(int(pid), ""), name, key=len)
    named = processes.copy()
    own_ids = ids_as_they_log(processes) if contained else {pid: pid for pid in processes}
    for logged in names.keys() & own_ids.keys():
        pid = own_ids[logged]
        named[pid] = (processes[pid][0], f"VLLM::{names[logged]}")
    return named


def ids_as_they_log(processes: dict[int, tuple[int, str]]) -> dict[int, int]:
    """
    The process id that each process knows itself by → its id here. They differ in a container with process ids of its
    own; of two that are called alike the one in the container counts.
    """
    found: dict[int, int] = {}
    inside: dict[int, int] = {}
    for pid in processes:
        ids = _namespaced_ids(pid)
        (inside if len(ids) > 1 else found)[ids[-1]] = pid
    return {**found, **inside}


def _namespaced_ids(pid: int) -> list[int]:
    """Ids of a process from here to its innermost namespace."""
    try:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("NSpid:"):
                return [int(number) for number in line.split()[1:]]
    except OSError:
        pass
    return [pid]


def _rank(ranks: str, kind: str) -> int | None:
    match = re.search(rf"_{kind}(\d+)", ranks)
    return int(match.group(1)) if match else None


def count_workers(processes: dict[int, tuple[int, str]]) -> dict[str, Any]:
    """
    tensorParallel, replicas and the workers, from the processes alone. The two counts are None, not guessed, when no
    process carries vLLM's names, and when replicas are not alike.
    """
    engines = sorted(pid for pid, (_, title) in processes.items() if ENGINE.match(title))
    workers: list[dict[str, Any]] = []
    sizes = set()
    for engine in engines:
        own = []
        for pid, (_, title) in processes.items():
            match = WORKER.match(title)
            if match and engine in _ancestors(pid, processes):
                own.append((_rank(match["ranks"], "PP") or 0, _rank(match["ranks"], "TP") or 0, pid))
        sizes.add(len({tensor for _, tensor, _ in own}) or 1)
        # On one GPU the engine is the worker.
        for _, _, pid in sorted(own) or [(0, 0, engine)]:
            workers.append({"pid": pid, "rank": len(workers)})
    return {
        "tensorParallel": sizes.pop() if len(sizes) == 1 else None,
        "replicas": len(engines) or None,
        "workers": workers,
    }


def _ancestors(pid: int, processes: dict[int, tuple[int, str]]) -> set[int]:
    found: set[int] = set()
    while pid in processes:
        pid = processes[pid][0]
        found.add(pid)
    return found


def _smi(*query: str) -> list[list[str]]:
    """Rows of nvidia-smi's answer; none where it is missing or hangs."""
    try:
        command = ["nvidia-smi", *query, "--format=csv,noheader,nounits"]
        answer = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    return [[cell.strip() for cell in line.split(",")] for line in answer.splitlines() if line.strip()]


def measure_gpus(
    processes: dict[int, tuple[int, str]], workers: list[dict[str, Any]], before: Path
) -> list[dict[str, Any]]:
    """
    Memory of the service's own processes on each GPU that it uses, as nvidia-smi reports it; adds `gpuIndex` to the
    workers.

    In a container nvidia-smi may not see the processes' ids. Then what a GPU holds more than before the start
    (`before`, written by serving.sh) counts as the service's.
    """
    rows = _smi("--query-gpu=index,uuid,memory.total,memory.used,memory.free")
    index_of = {uuid: int(index) for index, uuid, *_ in rows}
    own: dict[int, float] = {}
    seen = False
    for pid, uuid, used in _smi("--query-compute-apps=pid,gpu_uuid,used_memory"):
        if int(pid) in processes and uuid in index_of and used.isdigit():
            seen = True
            own[index_of[uuid]] = own.get(index_of[uuid], 0.0) + float(used)
            for worker in workers:
                if worker["pid"] == int(pid):
                    worker["gpuIndex"] = index_of[uuid]
    if not seen:
        own = _growth(rows, before)
    return [
        {
            "index": int(index),
            "servingGiB": round(own[int(index)] / 1024, 2),
            "totalGiB": round(float(total) / 1024, 2),
            "freeGiB": round(float(free) / 1024, 2),
        }
        for index, _uuid, total, _used, free in rows
        if int(index) in own
    ]


def measure_processes(processes: dict[int, tuple[int, str]]) -> list[dict[str, Any]]:
    """Memory of the given processes on each GPU that they use, as nvidia-smi reports it: [{index, heldGiB}]."""
    index_of = {uuid: int(index) for index, uuid in _smi("--query-gpu=index,uuid")}
    held: dict[int, float] = {}
    for pid, uuid, used in _smi("--query-compute-apps=pid,gpu_uuid,used_memory"):
        if int(pid) in processes and uuid in index_of and used.isdigit():
            held[index_of[uuid]] = held.get(index_of[uuid], 0.0) + float(used)
    return [{"index": index, "heldGiB": round(mib / 1024, 2)} for index, mib in sorted(held.items())]


def _growth(rows: list[list[str]], before: Path) -> dict[int, float]:
    """MiB that each GPU holds more than before the service was started."""
    try:
        lines = [line.split() for line in before.read_text().splitlines()]
    except OSError:
        return {}
    earlier = {int(index): float(used) for index, used, *_ in lines}
    growth = {int(index): float(used) - earlier.get(int(index), 0.0) for index, _uuid, _total, used, _free in rows}
    return {index: mib for index, mib in growth.items() if mib > NOISE_MIB}
