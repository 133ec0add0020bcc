"""Process trees on Linux for supervise.py: subreapers, parent-death signals, ending everything below a process.

Standard library only, Python 3.9 or newer.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
import time

# From <linux/prctl.h>; the values are part of the kernel's interface.
PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36

_libc = ctypes.CDLL(None, use_errno=True)


def become_subreaper() -> None:
    """Processes below this one that lose their parent become children of this one, not of process 1."""
    if _libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER) failed")


def die_with_parent(parent: int, number: int) -> None:
    """Has the kernel send signal `number` when the parent ends, however it ends; at once when it is gone already."""
    if _libc.prctl(PR_SET_PDEATHSIG, int(number), 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    if os.getppid() != parent:
        os.kill(os.getpid(), number)


def raise_limits() -> None:
    """Raises open files and locked memory as far as this user may; vLLM needs many of the first, NCCL of the second."""
    for limit in (resource.RLIMIT_NOFILE, resource.RLIMIT_MEMLOCK):
        _, hard = resource.getrlimit(limit)
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(limit, (hard, hard))
    if os.geteuid() == 0:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_MEMLOCK, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


def start_time(pid: int) -> int:
    """Start of a process in clock ticks since boot; with the id it names one process for good. 0 when it is gone."""
    fields = _stat(pid)
    return int(fields[19]) if fields else 0


def _stat(pid: int) -> list[str]:
    """Fields of /proc/<pid>/stat from the state on; the name before it may hold spaces and parentheses."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()
    except OSError:
        return []


def descendants(root: int) -> list[int]:
    """Living processes below `root`, which must be a subreaper for none to have escaped."""
    children: dict[int, list[int]] = {}
    zombies = set()
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        fields = _stat(int(name))
        if fields:
            children.setdefault(int(fields[1]), []).append(int(name))
            if fields[0] in "ZX":
                zombies.add(int(name))
    found: list[int] = []
    queue = [root]
    while queue:
        below = children.get(queue.pop(), [])
        found += below
        queue += below
    return [pid for pid in found if pid not in zombies]


def end_tree(root: int, grace_seconds: float, watched: int = 0) -> int | None:
    """
    Ends all processes below `root`, the calling process: SIGTERM, after the grace SIGKILL until none is left.

    Returns the wait status of the child `watched`, or None when it had ended before.
    """
    watched_status: int | None = None
    deadline = time.monotonic() + grace_seconds
    asked: set[int] = set()
    while True:
        watched_status = _reap(watched, watched_status)
        alive = descendants(root)
        if not alive:
            return _reap(watched, watched_status)
        late = time.monotonic() > deadline
        for pid in alive:
            if late or pid not in asked:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL if late else signal.SIGTERM)
                asked.add(pid)
        time.sleep(0.05)


def _reap(watched: int, status: int | None) -> int | None:
    with contextlib.suppress(ChildProcessError):
        while True:
            pid, ended = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                break
            if pid == watched:
                status = ended
    return status
