"""Holds a step's work still, somewhere in its middle, so that a fault hits it there whatever the machine's speed.

Runs on the test host as root: faults_middle.py freeze STEP WHERE LIMIT_SECONDS | thaw
WHERE is process:REGEX (a command line of the work's), log:REGEX (of its log), path:GLOB, or start:PROGRAM (its path):
that one waits when the work starts it, for where a look every few milliseconds could come too late. A file `watching`
beside this one says that it has begun to look.
"""

from __future__ import annotations

import contextlib
import glob
import os
import re
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path


def read(path: str) -> str:
    try:
        return Path(path).read_bytes().decode("utf-8", "replace")
    except OSError:
        return ""


def of_work(step: str) -> dict[int, str]:
    """Processes that carry the mark of a work of the step (of any step when empty), with their command lines."""
    mark = re.compile(rf"(^|\0)TANDEM_WORK=[^\0]*/steps/{step or '[a-z]+'}/")
    ids = [int(name) for name in os.listdir("/proc") if name.isdigit() and int(name) != os.getpid()]
    marked = [pid for pid in ids if mark.search(read(f"/proc/{pid}/environ"))]
    return {pid: read(f"/proc/{pid}/cmdline").replace("\0", " ") for pid in marked}


@contextlib.contextmanager
def held(program: Path, step: str) -> Iterator[None]:
    """Until its end the program stops itself before it does anything, where a work of the step starts it."""
    real = Path(__file__).with_name(program.name)
    for path in (real, program.with_suffix(".real")):
        shutil.copy2(program, path)
    wrapper = program.with_suffix(".held")
    lines = ["#!/bin/sh", f'case "$TANDEM_WORK" in */steps/{step}/*) kill -STOP $$ ;; esac', f'exec {real} "$@"']
    wrapper.write_text("\n".join([*lines, ""]))
    wrapper.chmod(0o755)
    wrapper.replace(program)
    try:
        yield
    finally:
        program.with_suffix(".real").replace(program)


def is_stopped(pid: int) -> bool:
    return read(f"/proc/{pid}/stat").rpartition(") ")[2].startswith("T")


def has_come(where: str, step: str, processes: dict[int, str]) -> bool:
    kind, _, pattern = where.partition(":")
    if kind == "start":
        return any(is_stopped(pid) for pid in processes)
    if kind == "process":
        return any(re.search(pattern, command) for command in processes.values())
    if kind == "path":
        return bool(glob.glob(pattern))
    folders = glob.glob(f"/var/lib/tandem/stacks/*/steps/{step}/current")
    return any(re.search(pattern, read(f"{Path(file).parent}/runs/{read(file)}/log")) for file in folders)


def send(number: int, step: str) -> None:
    """Also to what is started meanwhile."""
    done: set[int] = set()
    while new := set(of_work(step)) - done:
        for pid in new:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        done |= new


def freeze(step: str, where: str, limit_seconds: float) -> int:
    watching = Path(__file__).with_name("watching")
    kind, _, program = where.partition(":")
    deadline = time.monotonic() + limit_seconds
    with held(Path(program), step) if kind == "start" else contextlib.nullcontext():
        watching.touch()
        try:
            while time.monotonic() < deadline:
                processes = of_work(step)
                if processes and has_come(where, step, processes):
                    send(signal.SIGSTOP, step)
                    return 0
                time.sleep(0.005)
        finally:
            watching.unlink(missing_ok=True)
    print(f"{step} did not come to {where} within {limit_seconds:g} s", file=sys.stderr)
    send(signal.SIGCONT, step)
    return 1


if __name__ == "__main__":
    if sys.argv[1] == "freeze":
        sys.exit(freeze(sys.argv[2], sys.argv[3], float(sys.argv[4])))
    send(signal.SIGCONT, "")
