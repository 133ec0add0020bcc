"""The service of a unit whose program runs in a container. Standard library only, Python 3.9 or newer.

Usage: supervise_container.py FOLDER, where FOLDER/unit.json has `container` as container_unit() makes it.

Runs docker or podman in the foreground, so that the container's output is the unit's log and its end is the unit's
end, and owns the container: what an earlier run left is removed first, SIGTERM stops it as the engine does (SIGTERM,
then SIGKILL after the stop time), and when this program ends the container is gone. When it is killed, its client of
the engine gets a SIGTERM and hands it on; what survives even that bears the stack's label, see container.sh.

Values of the container's environment are handed over by name only: none stands in a command line.

Exit status: the container's own; 125 when the engine could not start it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from supervise_tree import die_with_parent

WAITED = {signal.SIGCHLD, signal.SIGTERM, signal.SIGINT}
# An engine needs some seconds beside the container's own stop time to take it down.
ENGINE_SECONDS = 10
# What the engine's client reads itself: for the container these go by value. They are never secret.
CLIENTS_OWN = {"HOME", "LD_LIBRARY_PATH", "LD_PRELOAD", "PATH", "TMPDIR", "XDG_RUNTIME_DIR"}
# By these the processes of the stack are found in /proc; supervise.py sets them.
MARKS = ("TANDEM_OWNER", "TANDEM_STACK_DIR", "TANDEM_UNIT", "SPT_NOENV", "TANDEM_TEST_RUN")
CAP_SYS_RESOURCE = 24


def container_unit(request: dict[str, Any], folder: Path, secret_names: list[str]) -> dict[str, Any]:
    """The parts of unit.json that differ for a container, from the serving step's request."""
    stack_dir, stop_seconds = os.environ["TANDEM_STACK_DIR"], float(request.get("stopSeconds", 30))
    where = hashlib.sha256(stack_dir.encode()).hexdigest()[:8]
    container = {
        **request["container"],
        "name": f"tandem-{os.environ['TANDEM_STACK']}-{folder.name}-{where}",
        "labels": {
            "tandem.stack": os.environ["TANDEM_STACK"],
            "tandem.unit": folder.name,
            "tandem.stack-dir": stack_dir,
        },
        "argv": request["argv"],
        "env": {name: str(value) for name, value in request.get("env", {}).items()},
        "secretNames": secret_names,
        "stopSeconds": stop_seconds,
    }
    own_files = container["rootless"] or os.geteuid() == 0
    if own_files:
        # Compiled kernels, so that a start after the first one is as fast as without a container.
        container["cache"] = str(folder / "compiled")
    return {
        "argv": [sys.executable, "-ESsB", str(folder / "supervise_container.py"), str(folder)],
        "env": {},
        "container": container,
        "stopSeconds": stop_seconds + ENGINE_SECONDS,
        "stopsItself": True,
        # podman without root maps users by programs that are set-uid.
        "gainsPrivileges": container["kind"] == "podman",
    }


def run_arguments(container: dict[str, Any], marks: list[str]) -> list[str]:
    """The engine's command line; `argv` of the container starts with the interpreter in the image."""
    options = ["--rm", "--name", container["name"], "--pull=never", "--network=host", "--log-driver=none"]
    # The host's /dev/shm: large enough for workers that share memory, and where the trainer puts adapters.
    options += ["--ipc=host", *container.get("options", []), *limits(container)]
    if Path("/sys/fs/selinux/enforce").exists():
        options.append("--security-opt=label=disable")
    if container["device"] == "cpu":
        # vLLM binds threads and memory to cores and nodes, which the usual filter forbids.
        options += ["--cap-add=SYS_NICE", "--security-opt=seccomp=unconfined"]
    for name, value in container["labels"].items():
        options += ["--label", f"{name}={value}"]
    for source in read_only(container.get("mounts", [])):
        options += ["--mount", f"type=bind,source={source},target={source},readonly"]
    if "cache" in container:
        options += ["--mount", f"type=bind,source={container['cache']},target=/tandem-cache"]
        options += ["--env", "VLLM_CACHE_ROOT=/tandem-cache"]
    for name, value in container["env"].items():
        options += ["--env", f"{name}={value}" if name in CLIENTS_OWN else name]
    for name in [*container["secretNames"], *marks]:
        options += ["--env", name]
    program, *arguments = container["argv"]
    return [container["engine"], "run", *options, "--entrypoint", program, container["image"], *arguments]


def limits(container: dict[str, Any]) -> list[str]:
    """Locked memory for NCCL and CUDA, and stacks; without the right to raise them the engine's own stay."""
    if container["kind"] == "podman" and (container["rootless"] or not may_raise_limits()):
        return []
    return ["--ulimit=memlock=-1:-1", "--ulimit=stack=67108864:67108864"]


def may_raise_limits() -> bool:
    with open("/proc/self/status") as file:
        effective = next(line.split()[1] for line in file if line.startswith("CapEff:"))
    return bool(int(effective, 16) >> CAP_SYS_RESOURCE & 1)


def read_only(mounts: list[str]) -> list[str]:
    """The folders, and those that links in them lead to: the hub's cache keeps files beside what it shows."""
    found = list(dict.fromkeys(mounts))
    for mount in mounts:
        for entry in Path(mount).rglob("*"):
            if entry.is_symlink():
                target = str(entry.resolve().parent)
                if not any(target == known or target.startswith(f"{known}/") for known in found):
                    found.append(target)
    for path in found:
        if "," in path or '"' in path:
            raise SystemExit(f"the path can't be handed to a container: it has a comma or a quote — got {path}")
    return found


class Container:
    def __init__(self, container: dict[str, Any]) -> None:
        self.spec = container
        self.engine, self.name = container["engine"], container["name"]

    def run(self) -> int:
        """Runs the container until it ends or SIGTERM comes; returns its exit status."""
        signal.pthread_sigmask(signal.SIG_BLOCK, WAITED)
        self.remove()
        if "cache" in self.spec:
            Path(self.spec["cache"]).mkdir(exist_ok=True)
        environment = dict(os.environ)
        environment.update({name: value for name, value in self.spec["env"].items() if name not in CLIENTS_OWN})
        marks = [name for name in MARKS if name in environment]
        owner = os.getpid()
        client = subprocess.Popen(
            run_arguments(self.spec, marks), env=environment, preexec_fn=lambda: prepare_client(owner)
        )
        try:
            while client.poll() is None:
                if signal.sigwaitinfo(WAITED).si_signo != signal.SIGCHLD:
                    self.stop(client)
        finally:
            self.remove()
        return client.returncode if client.returncode >= 0 else 128 - client.returncode

    def stop(self, client: subprocess.Popen[bytes]) -> None:
        """As the engine stops a container. One that is only being made is not known yet: asked again."""
        seconds = self.spec["stopSeconds"]
        deadline = time.monotonic() + seconds + ENGINE_SECONDS / 2
        while client.poll() is None and time.monotonic() < deadline:
            self.ask("stop", "-t", str(int(seconds)), self.name, limit_seconds=seconds + ENGINE_SECONDS / 2)
            with contextlib.suppress(subprocess.TimeoutExpired):
                client.wait(0.5)
        if client.poll() is None:
            client.kill()
            client.wait()

    def remove(self) -> None:
        if self.ask("inspect", "-f", "{{.State.Pid}}", self.name) is None:
            return
        self.ask("kill", self.name)
        self.ask("rm", "-f", self.name)

    def ask(self, *command: str, limit_seconds: float = 30) -> str | None:
        """The engine's answer; None when it refuses."""
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            answer = subprocess.run(
                [self.engine, *command],
                capture_output=True,
                text=True,
                timeout=limit_seconds,
                check=False,
                preexec_fn=unblock,
            )
            return answer.stdout.strip() if answer.returncode == 0 else None
        return None


def unblock() -> None:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, WAITED)


def prepare_client(owner: int) -> None:
    # The client hands the signal on to the container: a killed owner leaves nothing running.
    die_with_parent(owner, signal.SIGTERM)
    unblock()


def container_pid(unit: dict[str, Any]) -> int | None:
    """Process id, on the host, of the container's first process; None when it does not run or the unit has none."""
    if "container" not in unit:
        return None
    answer = Container(unit["container"]).ask("inspect", "-f", "{{.State.Pid}}", unit["container"]["name"])
    return int(answer) if answer and answer.isdigit() and int(answer) > 0 else None


if __name__ == "__main__":
    definition = json.loads((Path(sys.argv[1]) / "unit.json").read_text())
    sys.exit(Container(definition["container"]).run())
