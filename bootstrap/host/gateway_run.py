"""Runs the gateway: nginx and the monitor beside it, both as a user without rights. Standard library only, Python 3.9+.

gateway_run.py run FOLDER      the unit's service: ends when nginx ends
gateway_run.py reload FOLDER   puts changed keys, settings or certificates into what runs; no request is dropped
gateway_run.py prove FOLDER    shows from outside: no key 401, a key 200, what is not in the allow-list 404
gateway_run.py probe FOLDER    the same, content with 503 where vLLM is away: that is not the gateway's fault
gateway_run.py note FOLDER     shows what was measured, on standard input, on the status page

FOLDER is the unit's. Exit status of reload, prove and probe: 1 with the reason on standard error, 3 when nginx is away.
"""

from __future__ import annotations

import contextlib
import ctypes
import http.client
import os
import resource
import signal
import socket
import ssl
import sys
import time
from pathlib import Path
from typing import Any, NoReturn

import gateway_monitor
from gateway_files import Gateway, contents, place, publish, read_gateway, write_private

PR_SET_PDEATHSIG = 1
PR_SET_NO_NEW_PRIVS = 38
RELOAD_SECONDS = 10.0


def prctl(option: int, value: int) -> None:
    ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


def drop_rights(owner: tuple[int, int]) -> None:
    """For good: no capability is left, and none can be gained."""
    if os.getuid() == 0:
        # The log is a pipe of root's, which nginx opens by its name.
        os.fchown(1, *owner)
        os.setgroups([])
        os.setgid(owner[1])
        os.setuid(owner[0])
    prctl(PR_SET_NO_NEW_PRIVS, 1)


def start(action: Any) -> int:
    """A child that ends with this process, however that ends."""
    parent = os.getpid()
    pid = os.fork()
    if pid:
        return pid
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)
    prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        os._exit(1)
    try:
        action()
    finally:
        os._exit(1)


def run(gateway: Gateway) -> int:
    version = publish(gateway)
    program = os.open(gateway.nginx, os.O_RDONLY)
    os.set_inheritable(program, True)
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
    if gateway.port < 1024 and os.getuid() == 0:
        # Bound while that is allowed; nginx takes over sockets that are named so.
        listener = socket.create_server((gateway.document["address"], gateway.port), backlog=4096)
        os.set_inheritable(listener.fileno(), True)
        environment["NGINX"] = f"{listener.fileno()};"
    for name in ("TANDEM_OWNER", "TANDEM_STACK_DIR", "TANDEM_UNIT"):
        environment[name] = os.environ.get(name, "")
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    gateway_monitor.preload()
    drop_rights(gateway.owner)
    os.chdir(gateway.run)
    os.umask(0o077)
    for stale in ("monitor.sock", "nginx.sock"):
        (gateway.run / "var" / stale).unlink(missing_ok=True)
    argv = ["nginx", "-p", str(gateway.run), "-c", str(gateway.run / "nginx.conf")]
    # By its descriptor: it may lie where its user can't go.
    nginx = start(lambda: os.execve(program, argv, environment))
    print(f"the gateway {version[:12]} starts as process {nginx}, user {os.getuid()}", flush=True)
    return watch(gateway, nginx)


def watch(gateway: Gateway, nginx: int) -> int:
    """Until nginx ends. A monitor that dies is started again: nobody's requests depend on it."""
    monitor = start(lambda: gateway_monitor.serve(gateway.run))
    stopping = False

    def stop(_number: int, _frame: object) -> None:
        nonlocal stopping
        stopping = True
        # It may have ended a moment ago.
        with contextlib.suppress(ProcessLookupError):
            os.kill(nginx, signal.SIGTERM)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    while True:
        ended, status = os.wait()
        if ended == nginx:
            if monitor:
                os.kill(monitor, signal.SIGTERM)
            return 0 if stopping else os.WEXITSTATUS(status) or 1
        if ended == monitor:
            # Whoever stops the unit tells all of it, and the monitor is the first to end.
            monitor = 0
            if not stopping:
                print("the monitor ended and is started again", flush=True)
                time.sleep(1)
                monitor = start(lambda: gateway_monitor.serve(gateway.run))


def version_of(gateway: Gateway) -> str:
    """What the running nginx was told last; empty when it does not answer."""
    try:
        return gateway_monitor.ask_socket(gateway.run / "var" / "nginx.sock", "/version", 2.0).strip()
    except OSError:
        return ""


def reload(gateway: Gateway) -> None:
    version = publish(gateway)
    try:
        os.kill(int((gateway.run / "var" / "nginx.pid").read_text()), signal.SIGHUP)
    except (OSError, ValueError):
        fail("nginx does not run", 3)
    wait_for(gateway, version)


def wait_for(gateway: Gateway, version: str, limit_seconds: float = RELOAD_SECONDS) -> None:
    deadline = time.monotonic() + limit_seconds
    while (told := version_of(gateway)) != version:
        if time.monotonic() > deadline:
            fail(
                f"nginx did not take over the new settings within {limit_seconds:g} s; its log says why",
                1 if told else 3,
            )
        time.sleep(0.05)


class Client:
    """Requests to the gateway from the host itself."""

    def __init__(self, gateway: Gateway) -> None:
        self._port = gateway.port
        self._tls = gateway.document["tls"] != "off"
        self.why = ""

    def status(self, path: str, key: str | None) -> int:
        if self._tls:
            # The certificate bears the name that others call the host by; what is asked here is whether it answers.
            context = ssl._create_unverified_context()
            connection: http.client.HTTPConnection = http.client.HTTPSConnection(
                "127.0.0.1", self._port, timeout=5, context=context
            )
        else:
            connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=5)
        try:
            connection.request("GET", path, headers={"Authorization": f"Bearer {key}"} if key else {})
            return connection.getresponse().status
        except (OSError, http.client.HTTPException) as error:
            self.why = str(error)
            return 0
        finally:
            connection.close()


def probe(gateway: Gateway, served: set[int], limit_seconds: float = RELOAD_SECONDS) -> None:
    """Every key, no key, and a route of vLLM's that it does not guard. Guesses of others may have used up the limit."""
    _, version = contents(gateway)
    wait_for(gateway, version, limit_seconds)
    client = Client(gateway)
    keys = gateway.secrets["keys"]
    asked: list[tuple[str, str, str | None, set[int]]] = [
        (f"the key '{name}'", "/v1/models", key, served) for name, key in keys.items()
    ]
    asked += [("no key", "/v1/models", None, {401, 429}), ("no key", "/version", None, {404})]
    asked += [("a key", "/invocations", next(iter(keys.values())), {404})]
    for who, path, key, wanted in asked:
        got = client.status(path, key)
        if got not in wanted:
            how = f"answers {got}" if got else f"does not answer ({client.why})"
            fail(f"the gateway {how} to {path} with {who} — expected: {min(wanted)}")


def note(gateway: Gateway, proof: bytes) -> None:
    write_private(gateway.folder / "proof.json", proof.decode())
    if gateway.run.is_dir():
        place(gateway.run / "proof.json", proof, gateway.owner)


def fail(text: str, status: int = 1) -> NoReturn:
    print(text, file=sys.stderr, flush=True)
    raise SystemExit(status)


def main(verb: str, folder: Path) -> int:
    gateway = read_gateway(folder)
    if verb == "run":
        return run(gateway)
    if verb == "reload":
        reload(gateway)
    elif verb == "note":
        note(gateway, sys.stdin.buffer.read())
    elif verb == "prove":
        probe(gateway, {200})
    elif verb == "probe":
        # A check has five seconds in all.
        probe(gateway, {200, 429, 503}, 1)
    else:
        fail(f"gateway_run.py — got '{verb}' — allowed: run, reload, prove, probe, note")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(sys.argv[2])))
