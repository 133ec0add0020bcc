"""The keeper of supervise.py: runs the service once and lets nothing of its tree outlive the run.

Standard library only, Python 3.9 or newer.
"""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from typing import Any, NoReturn

from supervise_tree import become_subreaper, die_with_parent, end_tree, raise_limits

# A keeper waits for these and for nothing else; the service must get them back unblocked.
WAITED = {signal.SIGCHLD, signal.SIGTERM, signal.SIGINT}


@dataclass(frozen=True)
class Run:
    unit: dict[str, Any]
    environment: dict[str, str]
    # File descriptors: where the service's output goes, and where its process id is told.
    output: int
    report: int
    supervisor: int
    stop_seconds: float


def keep(run: Run) -> NoReturn:
    """Starts the service, waits for it or for a SIGTERM, ends all that is below, ends as the service ended."""
    # A session of its own, so that a signal to the supervisor's group does not reach both.
    os.setsid()
    signal.pthread_sigmask(signal.SIG_BLOCK, WAITED)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    become_subreaper()
    die_with_parent(run.supervisor, signal.SIGTERM)
    keeper = os.getpid()
    service = os.fork()
    if service == 0:
        start_service(run, keeper)
    os.close(run.output)
    os.write(run.report, f"{service}\n".encode())
    os.close(run.report)
    status = wait_for(service)
    if status is None and run.unit.get("stopsItself"):
        status = ask_to_stop(service, run.stop_seconds)
    ended = end_tree(keeper, run.stop_seconds, service)
    exit_like(ended if status is None else status)


def wait_for(service: int) -> int | None:
    """Reaps until the service has ended and returns its wait status, or None when told to stop before."""
    while True:
        if signal.sigwaitinfo(WAITED).si_signo != signal.SIGCHLD:
            return None
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == service:
                return status
            if pid == 0:
                break


def ask_to_stop(service: int, seconds: float) -> int | None:
    """Lets a service that takes its own tree down do so; its wait status, or None when it takes too long."""
    os.kill(service, signal.SIGTERM)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == service:
            return status
        if pid == 0:
            time.sleep(0.05)
    return None


def start_service(run: Run, keeper: int) -> NoReturn:
    argv = run.unit["argv"]
    try:
        os.setsid()
        # The last resort: supervisor and keeper killed in one blow.
        die_with_parent(keeper, signal.SIGKILL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, WAITED)
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        raise_limits()
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(run.output, 1)
        os.dup2(run.output, 2)
        os.closerange(3, 256)
        os.chdir(run.unit.get("cwd", "/"))
        os.execvpe(argv[0], argv, run.environment)
    except OSError as error:
        os.write(2, f"tandem: can't start {argv[0]}: {error}\n".encode())
    os._exit(127)


def exit_like(status: int | None) -> NoReturn:
    """Ends this process as the service ended, so that the supervisor can tell how that was."""
    if status is not None and os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, WAITED)
        os.kill(os.getpid(), number)
        os._exit(128 + number)
    os._exit(0 if status is None else os.WEXITSTATUS(status))
