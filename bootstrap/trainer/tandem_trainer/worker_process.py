"""The API process's side of a worker: starts it, calls it, notices its death."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import tempfile
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from .backend import BackendError, WorkerSettings

# A line may hold a batch of long sequences.
LINE_LIMIT = 256 << 20
STOP_SECONDS = 20.0

# The package's own folder, so that the worker's interpreter finds it wherever it was started.
PACKAGE_PARENT = str(Path(__file__).resolve().parent.parent)


class WorkerDied(Exception):
    """The worker ended while it was wanted; the text says how."""


class Worker:
    """One worker at a time; calls wait for one another."""

    def __init__(self, argv: list[str], settings: WorkerSettings, start_seconds: float, nice: int) -> None:
        self._argv = argv
        self._settings = settings
        self._start_seconds = start_seconds
        self._nice = nice
        self._process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._next_id = 0
        self._lock = asyncio.Lock()
        self.description: dict[str, Any] | None = None

    @property
    def is_up(self) -> bool:
        return self.description is not None

    @property
    def is_dead(self) -> bool:
        """Whether it ended by itself."""
        return self._process is not None and self._process.returncode is not None

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    async def start(self) -> dict[str, Any]:
        """Starts the process and waits until the base model is resident. Raises `WorkerDied` or `BackendError`."""
        folder = Path(tempfile.mkdtemp(prefix="tandem-trainer-"))
        connected: asyncio.Future[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Future()

        async def on_connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            if not connected.done():
                connected.set_result((reader, writer))

        socket = str(folder / "socket")
        server = await asyncio.start_unix_server(on_connect, socket, limit=LINE_LIMIT)
        try:
            await self._spawn(socket)
            hello = await asyncio.wait_for(self._greet(connected), self._start_seconds)
        except asyncio.TimeoutError:
            await self.stop()
            raise WorkerDied(f"the worker was not ready after {self._start_seconds:.0f} s") from None
        except BaseException:
            await self.stop()
            raise
        finally:
            server.close()
            shutil.rmtree(folder, ignore_errors=True)
        if "hello_error" in hello:
            await self.stop()
            error = hello["hello_error"]
            raise BackendError(error["kind"], error["message"], error["details"])
        self.description = hello["hello"]
        return hello["hello"]

    async def _greet(self, connected: asyncio.Future[Any]) -> dict[str, Any]:
        self._reader, self._writer = await self._or_death(connected)
        try:
            return await self._or_death(asyncio.ensure_future(self._read()))
        except (ConnectionError, EOFError):
            # Its death closes the link before anybody is told of it.
            raise WorkerDied(f"{await self._death()} before it was ready, see its log") from None

    async def _spawn(self, socket: str) -> None:
        settings = json.dumps(asdict(replace(self._settings, socket=socket)))
        path = os.pathsep.join(filter(None, (PACKAGE_PARENT, os.environ.get("PYTHONPATH"))))
        environment = {**os.environ, "TANDEM_WORKER": settings, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"}
        # A group of its own: torchrun's ranks go with it.
        self._process = await asyncio.create_subprocess_exec(
            *("nice", "-n", str(self._nice), *self._argv),
            env=environment,
            stdin=asyncio.subprocess.DEVNULL,
            start_new_session=True,
        )

    async def _or_death(self, wanted: asyncio.Future[Any]) -> Any:
        assert self._process
        death = asyncio.ensure_future(self._process.wait())
        try:
            await asyncio.wait({wanted, death}, return_when=asyncio.FIRST_COMPLETED)
            if wanted.done():
                return wanted.result()
            raise WorkerDied(f"the worker {how_it_ended(death.result())} before it was ready, see its log")
        finally:
            death.cancel()
            wanted.cancel()

    async def call(self, op: str, **args: Any) -> dict[str, Any]:
        """One operation. Raises `BackendError` when the worker says no, `WorkerDied` when it can say nothing more."""
        async with self._lock:
            return await self._call(op, args)

    async def _call(self, op: str, args: dict[str, Any]) -> dict[str, Any]:
        if not self._writer or not self.is_up:
            raise WorkerDied("the worker does not run")
        self._next_id += 1
        try:
            message = {"id": self._next_id, "op": op, "args": args}
            self._writer.write(json.dumps(message, separators=(",", ":")).encode() + b"\n")
            await self._writer.drain()
            answer = await self._read()
        except (ConnectionError, EOFError):
            raise WorkerDied(await self._death()) from None
        if "error" in answer:
            error = answer["error"]
            raise BackendError(error["kind"], error["message"], error["details"])
        return answer["result"]

    async def _read(self) -> dict[str, Any]:
        assert self._reader
        line = await self._reader.readline()
        if not line.endswith(b"\n"):
            raise EOFError
        return json.loads(line)

    async def _death(self) -> str:
        assert self._process
        self.description = None
        try:
            code = await asyncio.wait_for(self._process.wait(), 5)
        except asyncio.TimeoutError:
            await self.stop()
            return "the worker stopped answering"
        await self.stop()
        return f"the worker {how_it_ended(code)}"

    async def stop(self) -> None:
        """Ends the worker and all its ranks; succeeds when it does not run."""
        self.description = None
        if self._writer:
            self._writer.close()
        self._reader = self._writer = None
        process, self._process = self._process, None
        if not process:
            return
        if process.returncode is None:
            with contextlib.suppress(asyncio.TimeoutError):
                # The closed socket is its sign to end.
                await asyncio.wait_for(process.wait(), 2)
        for sign in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, sign)
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(process.wait(), STOP_SECONDS)
                if not group_lives(process.pid):
                    return


def group_lives(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def how_it_ended(code: int) -> str:
    if code < 0:
        return f"was killed by {signal.Signals(-code).name}"
    return f"ended with status {code}"
