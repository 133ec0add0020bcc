"""The two ways to start vLLM for a case: by `tandem`, as a user does, or by hand."""

import glob
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import threading
import time
import urllib.request

from measure import is_healthy, session_of, variables_of, vllm_processes

# What vLLM and the planner say of memory, parallel sizes and failures.
TELLING = re.compile(
    r"GiB|KV cache|CUDA graph|[Cc]apturing|tensor_parallel_size|data_parallel_size|Model loading|torch\.compile took|"
    r"init engine|custom.all.?reduce|Application startup complete|Error|root cause"
)
# NVLink multicast in one virtual machine can take the GPUs of the whole host out of service: what the machine sets
# about it has to reach every process.
SHARED_HOST_PREFIXES = ("NCCL_", "TORCH_SYMM_MEM_", "NVSHMEM_")
# A machine without a hub and without flashinfer.
OFFLINE_VARIABLES = {
    "HF_HUB_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_USE_FLASHINFER_SAMPLER": "0",
    "VLLM_ALLREDUCE_USE_SYMM_MEM": "0",
}


class Deployment:
    def __init__(self, arguments, name, spec, devices, port, folder):
        self.arguments, self.name, self.spec, self.devices, self.port, self.folder = (
            arguments,
            name,
            spec,
            devices,
            port,
            folder,
        )
        self.server = f"http://127.0.0.1:{port}"
        self.vllm = self.server
        self.base_url = f"{self.server}/v1"
        self.model = os.path.join(os.path.abspath(arguments.models), spec["model"])

    def say(self, text):
        print(f"[{self.name}] {text}", flush=True)

    def answers(self):
        return is_healthy(self.vllm, seconds=5)

    def model_name(self):
        request = urllib.request.Request(f"{self.base_url}/models", headers={"Authorization": f"Bearer {self.key()}"})
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer)["data"][0]["id"]

    def extra_environment(self):
        return {
            **shared_host_part(os.environ),
            **OFFLINE_VARIABLES,
            **dict(pair.split("=", 1) for pair in self.arguments.extra_env),
        }

    def extra_arguments(self):
        arguments = ["--load-format=dummy"] if self.spec["dummy"] else []
        return [*arguments, *self.arguments.extra_args]

    def shared_host_variables(self):
        """What each process of vLLM has of the variables above."""
        return {str(pid): shared_host_part(variables_of(pid)) for pid in self.processes()}

    def write(self, name, text):
        with open(os.path.join(self.folder, name), "w") as file:
            file.write(text)

    def telling_lines(self, text):
        return [line[:400] for line in text.splitlines() if TELLING.search(line) and "WARNING" not in line][-120:]


def shared_host_part(variables):
    return {name: value for name, value in variables.items() if name.startswith(SHARED_HOST_PREFIXES)}


class HealthClock:
    """Notes when a server first answers, while something else waits for it."""

    def __init__(self, server):
        self.started = time.monotonic()
        self.seconds = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, args=(server,), daemon=True)
        self._thread.start()

    def _watch(self, server):
        while not self._ended.wait(0.5):
            if is_healthy(server):
                self.seconds = round(time.monotonic() - self.started, 1)
                return

    def stop(self):
        self._ended.set()
        self._thread.join(5)
        return self.seconds


class Tandem(Deployment):
    """`tandem` with a settings file of this case."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        # The gateway has the port itself.
        self.vllm = f"http://127.0.0.1:{self.port + 2}"
        self.settings_file = os.path.join(self.folder, f"Pulumi.{self.name}.yaml")
        settings = {
            "model": self.model,
            "target": "local",
            "runtime": "existing",
            "runtimePath": self.arguments.runtime,
            "port": self.port,
            "tensorParallel": self.spec["tensor_parallel"],
            "replicas": self.spec["replicas"],
            "split": {"serving": self.spec["share"]},
            "serving": {"extraArgs": self.extra_arguments(), "extraEnv": self.extra_environment()},
            **({"vllmVersion": self.arguments.vllm_version} if self.arguments.vllm_version else {}),
        }
        if self.devices:
            settings |= {"gpus": len(self.devices), "devices": self.devices}
        if self.spec["eager"]:
            settings["serving"]["enforceEager"] = True
        if self.arguments.max_model_len:
            settings["serving"]["maxModelLen"] = self.arguments.max_model_len
        settings |= self.more_settings()
        lines = [f"  tandem:{name}: {json.dumps(value)}\n" for name, value in settings.items()]
        self.write(os.path.basename(self.settings_file), "config:\n" + "".join(lines))

    def more_settings(self):
        """What a kind of deployment adds."""
        return {}

    def call(self, verb, *options, limit, log=None):
        """@returns exit status, the JSON document on standard output or None, seconds, the last line for people"""
        command = [self.arguments.tandem, verb, *options, "--env", self.settings_file]
        started = time.monotonic()
        with open(os.path.join(self.folder, f"{log or verb}.err"), "a") as errors:
            # A session of its own: on a limit the whole tree of the command goes, not the service that it started.
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                start_new_session=True,
            )
            try:
                output, _ = process.communicate(timeout=limit)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGINT)
                try:
                    output, _ = process.communicate(timeout=10)
                except subprocess.TimeoutExpired:
                    os.killpg(process.pid, signal.SIGKILL)
                    output, _ = process.communicate()
        seconds = round(time.monotonic() - started, 1)
        self.write(f"{log or verb}.out", output)
        with open(os.path.join(self.folder, f"{log or verb}.err")) as file:
            lines = [line.strip() for line in file if line.strip()]
        document = last_json(output)
        last = find_key(document, "message") or (lines[-1] if lines else "")
        self.say(
            f"{verb}: exit {process.returncode} in {seconds} s" + (f" — {last[:300]}" if process.returncode else "")
        )
        return process.returncode, document, seconds, last

    def processes(self):
        """Ids of the processes of vLLM that this deployment started."""
        return [
            pid for pid in vllm_processes() if variables_of(pid).get("TANDEM_OWNER", "").startswith(f"{self.name}/")
        ]

    def plan(self):
        code, document, _, last = self.call("plan", "--json", limit=30)
        plan = find_key(document, "perGpu")
        return {
            "code": code,
            "servingGiB": plan[0].get("servingGiB") if plan else None,
            "document": document,
            "lastLine": last,
        }

    def up(self, limit):
        clock = HealthClock(self.vllm)
        code, document, seconds, last = self.call("up", "--yes", "--json", limit=limit)
        return {
            "code": code,
            "seconds": seconds,
            "healthySeconds": clock.stop(),
            "document": document,
            "lastLine": last,
        }

    def key(self):
        if not hasattr(self, "_key"):
            code, document, _, _ = self.call("outputs", "--json", "--show-secrets", limit=30)
            os.remove(os.path.join(self.folder, "outputs.out"))
            self._key = find_key(document, "apiKey") if code == 0 else ""
        return self._key

    def engine_key(self):
        """vLLM's own key, which only the gateway and root know."""
        return next((key for pid in self.processes() if (key := variables_of(pid).get("VLLM_API_KEY"))), "")

    def truth(self):
        code, document, seconds, _ = self.call("status", "--json", limit=60)
        return {"code": code, "seconds": seconds, "document": document, "log": self.telling_lines(self.serving_log())}

    def serving_log(self):
        if not os.path.exists(os.path.join(self.folder, "serving.log")):
            self.call("logs", "serving", limit=30)
            os.rename(os.path.join(self.folder, "logs.out"), os.path.join(self.folder, "serving.log"))
        with open(os.path.join(self.folder, "serving.log"), errors="replace") as file:
            return file.read()

    def again(self, limit):
        code, document, seconds, _ = self.call("up", "--yes", "--json", limit=limit, log="up-again")
        changes = find_key(document, "changes")
        summary = f"exit {code}" if code or changes is None else f"{len(changes)} changed"
        return {"code": code, "seconds": seconds, "changes": summary, "document": document}

    def keep_logs(self):
        """What destroy takes away: the steps' logs on the host, and the engine's."""
        home = os.environ.get("TANDEM_HOME")
        host = os.path.join(home, "host") if home else "/var/lib/tandem"
        stack = os.path.join(host, "stacks", self.name)
        state = home or os.path.join(os.path.expanduser("~"), ".local", "state", "tandem")
        found = [
            *glob.glob(f"{stack}/steps/*/runs/*/log"),
            *glob.glob(f"{stack}/units/*/failed.log"),
            *glob.glob(f"{state}/workspace/{self.name}/logs/*"),
        ]
        for path in found:
            name = os.path.relpath(path, stack if path.startswith(stack) else state).replace("/", "-")
            shutil.copy(path, os.path.join(self.folder, name))

    def down(self, limit):
        self.serving_log()
        self.keep_logs()
        code, document, seconds, last = self.call("destroy", "--yes", "--json", limit=limit)
        left = self.processes()
        if left:
            self.say(f"destroy left processes of vLLM: {left}; ending them")
            for process_id in left:
                os.kill(process_id, signal.SIGKILL)
        return {"code": code, "seconds": seconds, "leftProcesses": left, "document": document, "lastLine": last}


class Direct(Deployment):
    """vLLM by hand, with its own fraction instead of a planned KV cache."""

    def argv(self):
        spec = self.spec
        return [
            *shlex.split(self.arguments.runtime),
            *("-m", "vllm.entrypoints.openai.api_server"),
            *("--model", self.model, "--served-model-name", spec["model"]),
            *("--host", "127.0.0.1", "--port", str(self.port)),
            *("--gpu-memory-utilization", str(spec["share"])),
            *("--tensor-parallel-size", str(spec["tensor_parallel"])),
            *(["--data-parallel-size", str(spec["replicas"])] if spec["replicas"] > 1 else []),
            *("--enable-lora", "--max-loras", "8", "--max-lora-rank", "64"),
            *(["--enforce-eager"] if spec["eager"] else []),
            # vLLM's own all-reduce wants peer access, or graphs can't be captured. `tandem` finds that out itself.
            *(["--disable-custom-all-reduce"] if spec["tensor_parallel"] > 1 else []),
            *(["--max-model-len", str(self.arguments.max_model_len)] if self.arguments.max_model_len else []),
            *self.extra_arguments(),
        ]

    def plan(self):
        return {}

    def up(self, limit):
        environment = {**os.environ, **self.extra_environment(), "PYTHONUNBUFFERED": "1"}
        if self.devices:
            environment["CUDA_VISIBLE_DEVICES"] = ",".join(map(str, self.devices))
        started = time.monotonic()
        with open(os.path.join(self.folder, "serving.log"), "w") as log:
            self.process = subprocess.Popen(
                self.argv(),
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        while time.monotonic() - started < limit and self.process.poll() is None and not is_healthy(self.server):
            time.sleep(0.5)
        seconds = round(time.monotonic() - started, 1)
        healthy = is_healthy(self.server)
        self.say(f"vLLM {'healthy' if healthy else 'not healthy'} after {seconds} s")
        return {"code": self.process.poll() or 0, "seconds": seconds, "healthySeconds": seconds if healthy else None}

    def processes(self):
        return [pid for pid in vllm_processes() if session_of(pid) == self.process.pid]

    def key(self):
        return ""

    def truth(self):
        return {"log": self.telling_lines(self.serving_log())}

    def serving_log(self):
        with open(os.path.join(self.folder, "serving.log"), errors="replace") as file:
            return file.read()

    def again(self, limit):
        return None

    def down(self, limit):
        if not hasattr(self, "process"):
            return {"code": 0, "seconds": 0.0}
        started = time.monotonic()
        for signal_number, seconds in ((signal.SIGTERM, min(limit, 25)), (signal.SIGKILL, 5)):
            try:
                os.killpg(self.process.pid, signal_number)
                self.process.wait(seconds)
            except (ProcessLookupError, subprocess.TimeoutExpired):
                pass
        return {"code": 0, "seconds": round(time.monotonic() - started, 1)}


def last_json(text):
    """The whole output, or its last line, as JSON; None when neither is."""
    for candidate in (text, text.strip().rsplit("\n", 1)[-1]):
        try:
            return json.loads(candidate)
        except ValueError:
            continue
    return None


def find_key(document, name):
    """The value of the first field of this name, however deep."""
    if isinstance(document, dict):
        if name in document:
            return document[name]
        document = list(document.values())
    if isinstance(document, list):
        for part in document:
            found = find_key(part, name)
            if found is not None:
                return found
    return None
