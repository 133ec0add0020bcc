"""What serving.sh needs structured data for. Standard library only, Python 3.9 or newer.

serving.py define FOLDER   writes the unit's definition from $TANDEM_REQUEST and the secrets on standard input
serving.py wait FOLDER     waits until vLLM answers, telling its progress; prints the step's result
serving.py result FOLDER   prints the step's result again
serving.py health PORT     prints the HTTP status of /health

Exit status of wait: 0 ready, 32 vLLM ended or failed, 124 not ready within startupSeconds.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import socket
import sys
import time
from pathlib import Path
from typing import Any

from supervise_container import container_unit
from vllm_log import Progress, root_cause

EXIT_FAILED = 32
EXIT_LATE = 124
POLL_SECONDS = 0.1
HEALTH_SECONDS = 0.2

# What a service gets of the host's environment. All else stays with the client: it may be secret.
INHERITED = {"HOME", "LANG", "LD_LIBRARY_PATH", "LD_PRELOAD", "LOGNAME", "PATH", "SHELL", "TMPDIR", "TZ", "USER"}
# Where the user's container engine is, and how it is set up.
INHERITED |= {"CONTAINERS_CONF", "CONTAINERS_STORAGE_CONF", "DOCKER_CONFIG", "DOCKER_CONTEXT", "DOCKER_HOST"}
INHERITED_STARTS = ("CUDA_", "GLOO_", "KMP_", "LC_", "MKL_", "NCCL_", "NVIDIA_", "NVSHMEM_", "OMP_", "OPENBLAS_")
INHERITED_STARTS += ("TORCH_NCCL_", "TORCH_SYMM_MEM_", "UCX_", "XDG_")
# The mark by which the project's tests find what they left running.
INHERITED |= {"TANDEM_TEST_RUN"}


def write_private(path: Path, text: str) -> None:
    """Replaces a file in one go; readable for this user only from its first moment."""
    new = path.with_name(f"{path.name}.new")
    new.unlink(missing_ok=True)
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    os.replace(new, path)


def define(folder: Path) -> None:
    """Writes the definition beside the one in use; serving.sh puts it in place once the old unit is stopped."""
    request = json.loads(Path(os.environ["TANDEM_REQUEST"]).read_text())
    secrets = json.loads(sys.stdin.readline() or "{}")
    secret_environment = {"VLLM_API_KEY": secrets["apiKey"]} if "apiKey" in secrets else {}
    definition = json.dumps([request, secret_environment], sort_keys=True)
    unit = {
        "argv": request["argv"],
        "env": {name: str(value) for name, value in request.get("env", {}).items()},
        "port": request["port"],
        "startupSeconds": request["startupSeconds"],
        "stopSeconds": request.get("stopSeconds", 30),
        "digest": hashlib.sha256(definition.encode()).hexdigest(),
        "cwd": str(folder),
    }
    # What facts.sh tells of a vLLM that runs.
    unit.update({name: request[name] for name in ("footprintKey", "footprintGiB") if name in request})
    if "container" in request:
        unit.update(container_unit(request, folder, sorted(secret_environment)))
    inherited = {k: v for k, v in os.environ.items() if k in INHERITED or k.startswith(INHERITED_STARTS)}
    write_private(folder / "unit.json.next", json.dumps(unit))
    write_private(folder / "secret.json.next", json.dumps(secret_environment))
    write_private(folder / "base.json.next", json.dumps(inherited))
    write_private(folder / "digest", unit["digest"])
    write_private(folder / "port", str(unit["port"]))


def read_status(folder: Path) -> dict[str, Any]:
    try:
        return json.loads((folder / "status.json").read_text())
    except (OSError, ValueError):
        return {}


def supervisor_lives(folder: Path) -> bool:
    """Whether the supervisor holds its lock."""
    with open(folder / "lock", "a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def health(port: int, limit_seconds: float = 2.0) -> int:
    """
    HTTP status of /health, 0 when nobody answers.

    Without http.client, which takes longer to import than all the rest of this program.
    """
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=limit_seconds) as connection:
            connection.sendall(b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
            with connection.makefile("rb") as answer:
                protocol, status = answer.readline(256).split()[:2]
        return int(status) if protocol.startswith(b"HTTP/1.") else 0
    except (OSError, ValueError):
        return 0


class Tail:
    """New whole lines of a growing file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0
        self._rest = b""

    def lines(self) -> list[str]:
        try:
            with open(self._path, "rb") as file:
                file.seek(self._offset)
                data = file.read()
        except OSError:
            return []
        self._offset += len(data)
        # Progress bars overwrite themselves with carriage returns.
        *whole, self._rest = (self._rest + data).replace(b"\r", b"\n").split(b"\n")
        return [line.decode("utf-8", "replace") for line in whole]


def wait(folder: Path) -> int:
    unit = json.loads((folder / "unit.json").read_text())
    log = folder / "log"
    tail, progress = Tail(log), Progress()
    started = time.monotonic()
    deadline = started + unit["startupSeconds"]
    first_run = read_status(folder).get("unitId")
    next_health = 0.0
    while True:
        for line in tail.lines():
            told = progress.tell(line)
            if told:
                print(told, file=sys.stderr, flush=True)
        status = read_status(folder)
        # A start that fails once fails again: what is wrong is told now, not after five tries.
        if status.get("unitId") != first_run or status.get("state") != "running" or not supervisor_lives(folder):
            return failed(folder, status, tail)
        now = time.monotonic()
        if now >= next_health:
            if health(unit["port"]) == 200:
                break
            next_health = now + HEALTH_SECONDS
        if now > deadline:
            print(f"vLLM was not ready after {unit['startupSeconds']} s; last: {progress.last_line}", file=sys.stderr)
            print(f"log: {log}", file=sys.stderr)
            return EXIT_LATE
        time.sleep(POLL_SECONDS)
    ready_seconds = round(time.monotonic() - started, 1)
    print(f"vLLM is ready after {ready_seconds} s", file=sys.stderr)
    write_private(folder / "result.json", json.dumps({**result(folder), "readySeconds": ready_seconds}))
    print_result(folder)
    return 0


def failed(folder: Path, status: dict[str, Any], tail: Tail) -> int:
    kept = keep_log(folder)
    lines = kept.read_text(errors="replace").splitlines()
    how = status.get("exit") or "ended"
    print(f"vLLM {how} before it was ready", file=sys.stderr)
    print(f"root cause: {root_cause(lines) or how}", file=sys.stderr)
    print(f"log: {kept}", file=sys.stderr)
    return EXIT_FAILED


def keep_log(folder: Path) -> Path:
    """The log of a failed start, kept where the next start does not remove it."""
    kept = folder / "failed.log"
    kept.unlink(missing_ok=True)
    os.link(folder / "log", kept)
    return kept


def result(folder: Path) -> dict[str, Any]:
    status, unit = read_status(folder), json.loads((folder / "unit.json").read_text())
    return {
        "unitId": status["unitId"],
        "port": unit["port"],
        "pid": status["pid"],
        "digest": unit["digest"],
        "logPath": str(folder / "log"),
    }


def print_result(folder: Path) -> None:
    """The stored result, with the process that runs now: vLLM may have been started again since."""
    path = folder / "result.json"
    stored = json.loads(path.read_text()) if path.exists() else {}
    print(json.dumps({**stored, **result(folder)}))


def main(verb: str, argument: str) -> int:
    if verb == "define":
        define(Path(argument))
    elif verb == "wait":
        return wait(Path(argument))
    elif verb == "result":
        print_result(Path(argument))
    elif verb == "health":
        print(f"{health(int(argument)):03d}")
    else:
        print(f"serving.py — got '{verb}' — allowed: define, wait, result, health", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:3]))
