"""Runs one unit: a service with its whole process tree. Standard library only, Python 3.9 or newer.

Usage: supervise.py FOLDER

Two processes, so that no single kill leaves a tree behind. The supervisor (this program) keeps the log, the status
and the restarts. For each run of the service it forks a keeper (supervise_keeper.py), which is a child subreaper:
whatever the service starts stays below it, also what detaches itself. The keeper ends the tree when it is told to,
when the service ends, and when the supervisor dies. FOLDER is described in unit.sh; the supervisor holds FOLDER/lock
as long as it lives.

Exit status: 0 after SIGTERM, 3 when it gave up on a service that keeps failing, 4 when FOLDER is in use.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import select
import signal
import sys
import time
from pathlib import Path

from supervise_keeper import Run, keep
from supervise_tree import become_subreaper, end_tree, start_time

BACKOFF_SECONDS = (1, 2, 4, 8, 16, 32, 60)
# A run that lasted this long was a working service; its failures are counted anew.
STEADY_SECONDS = 600.0
QUICK_FAILURES_LIMIT = 5
LOG_LIMIT_BYTES = 64 * 1024 * 1024
EXIT_GAVE_UP = 3
EXIT_IN_USE = 4
LOCK_TRIES = 20
STOP_SIGNALS = {signal.SIGTERM, signal.SIGINT}


class Log:
    """The service's output, in at most two files of LOG_LIMIT_BYTES each."""

    def __init__(self, path: Path, limit_bytes: int) -> None:
        self._path = path
        self._limit_bytes = limit_bytes
        self._open()

    def _open(self) -> None:
        self._file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        self._size = os.fstat(self._file).st_size

    def write(self, data: bytes) -> None:
        if self._size + len(data) > self._limit_bytes:
            os.close(self._file)
            os.replace(self._path, f"{self._path}.1")
            self._open()
        os.write(self._file, data)
        self._size += len(data)

    def note(self, text: str) -> None:
        """A line of the supervisor's own."""
        self.write(f"tandem: {time.strftime('%Y-%m-%d %H:%M:%S')} {text}\n".encode())


class Supervisor:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.unit = json.loads((folder / "unit.json").read_text())
        self.log = Log(folder / "log", int(self.unit.get("logLimitBytes", LOG_LIMIT_BYTES)))
        self.stop_seconds = float(self.unit.get("stopSeconds", 30))
        self.backoff_seconds = self.unit.get("backoffSeconds", BACKOFF_SECONDS)
        self.restarts = 0
        self.keeper = 0
        self.stopping = False
        # Wakes select() up when a signal comes.
        self.wake_read, wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        os.set_blocking(wake_write, False)
        signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        for number in STOP_SIGNALS:
            signal.signal(number, self._on_stop)
        signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    def _on_stop(self, _number: int, _frame: object) -> None:
        self.stopping = True
        self.stop_keeper()

    def stop_keeper(self) -> None:
        # It may have ended a moment ago.
        if self.keeper:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.keeper, signal.SIGTERM)

    def run(self) -> int:
        failures = 0
        while True:
            started = time.monotonic()
            status = self.run_once()
            if self.stopping:
                break
            failures = 1 if time.monotonic() - started > STEADY_SECONDS else failures + 1
            if failures >= QUICK_FAILURES_LIMIT:
                self.log.note(f"gave up after {failures} failures in a row; the last {describe(status)}")
                self.write_status("failed", exit=describe(status))
                return EXIT_GAVE_UP
            wait_seconds = self.backoff_seconds[min(failures, len(self.backoff_seconds)) - 1]
            self.log.note(f"the service {describe(status)}; starting it again in {wait_seconds} s")
            self.write_status("waiting", exit=describe(status))
            self.pause(wait_seconds)
            if self.stopping:
                break
            self.restarts += 1
        self.log.note("stopped")
        self.write_status("stopped")
        return 0

    def run_once(self) -> int:
        """One run of the service; returns its wait status when its whole tree is gone."""
        self.unit_id = secrets.token_hex(8)
        output, output_end = os.pipe()
        report, report_end = os.pipe()
        supervisor = os.getpid()
        # A stop between the fork and the line after it would not reach the keeper.
        signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
        self.keeper = os.fork()
        if self.keeper == 0:
            signal.set_wakeup_fd(-1)
            keep(Run(self.unit, self.environment(), output_end, report_end, supervisor, self.stop_seconds))
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
        if self.stopping:
            # A stop before the fork found nobody to tell.
            self.stop_keeper()
        os.close(output_end)
        os.close(report_end)
        with os.fdopen(report, "rb") as told:
            pid = int(told.readline() or b"0")
        self.log.note(f"started process {pid}")
        self.write_status("running", pid)
        status = self.copy_output(output)
        os.close(output)
        return status

    def copy_output(self, output: int) -> int:
        """Copies the service's output to the log until the run is over; returns the keeper's wait status."""
        status = None
        while status is None:
            ready, _, _ = select.select([output, self.wake_read], [], [])
            if self.wake_read in ready:
                os.read(self.wake_read, 4096)
                pid, ended = os.waitpid(self.keeper, os.WNOHANG)
                status = ended if pid else None
            elif output in ready:
                data = os.read(output, 65536)
                self.log.write(data)
                if not data:
                    status = os.waitpid(self.keeper, 0)[1]
        self.keeper = 0
        # A keeper that was killed leaves its tree to us, who are a subreaper, too.
        end_tree(os.getpid(), self.stop_seconds)
        while data := os.read(output, 65536):
            self.log.write(data)
        return status

    def pause(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not self.stopping and time.monotonic() < deadline:
            if select.select([self.wake_read], [], [], max(0.0, deadline - time.monotonic()))[0]:
                os.read(self.wake_read, 4096)

    def environment(self) -> dict[str, str]:
        merged: dict[str, str] = {}
        for name in ("base.json", "secret.json"):
            path = self.folder / name
            if path.exists():
                merged.update(json.loads(path.read_text()))
        merged.update(self.unit.get("env", {}))
        # A process that renames itself with setproctitle would overwrite its marks; this tells it to leave them alone.
        merged["SPT_NOENV"] = "1"
        for name in ("TANDEM_OWNER", "TANDEM_STACK_DIR", "TANDEM_UNIT"):
            merged[name] = os.environ[name]
        return merged

    def write_status(self, state: str, pid: int = 0, **more: str) -> None:
        status = {
            "state": state,
            "unitId": self.unit_id,
            "digest": self.unit.get("digest", ""),
            "pid": pid,
            "startTicks": start_time(pid) if pid else 0,
            "keeperPid": self.keeper,
            "supervisorPid": os.getpid(),
            "restarts": self.restarts,
            "since": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            **more,
        }
        new = self.folder / "status.json.new"
        new.write_text(json.dumps(status) + "\n")
        os.replace(new, self.folder / "status.json")


def describe(status: int) -> str:
    """How a process ended, from its wait status."""
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        return f"was killed by signal {number} ({signal.Signals(number).name})"
    return f"ended with status {os.WEXITSTATUS(status)}"


def main() -> int:
    folder = Path(sys.argv[1])
    os.umask(0o077)
    lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    # Whoever asks whether a supervisor lives takes the lock for a moment.
    for _ in range(LOCK_TRIES):
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            time.sleep(0.1)
    else:
        print(f"{folder} is in use by another supervisor", file=sys.stderr)
        return EXIT_IN_USE
    become_subreaper()
    return Supervisor(folder).run()


if __name__ == "__main__":
    sys.exit(main())
