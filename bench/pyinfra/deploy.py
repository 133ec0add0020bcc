"""What `tandem up` guarantees with `runtime: archive` and a model's directory, as far as pyinfra can say it.

See docs/measurements.md.
"""

from io import StringIO
from shlex import quote

from pyinfra import host
from pyinfra.facts.files import File
from pyinfra.operations import files, server, systemd

folder, port, model = host.data.folder, host.data.port, host.data.model
environment = f"{folder}/environment/bin/python"
site = f"{folder}/site-packages"


def private(name: str, text: str):
    return files.put(src=StringIO(text), dest=f"{folder}/{name}", mode="600", name=name)


files.directory(path=folder, mode="700")
if host.get_fact(File, path=f"{folder}/complete") is None:
    purelib = f"$({environment} -c 'import sysconfig; print(sysconfig.get_path(\"purelib\"))')"
    server.shell(
        name="Runtime",
        commands=[
            f"tar -C {folder} -xf {quote(host.data.archive)}",
            f"python3 -m venv --without-pip --system-site-packages {folder}/environment",
            f'echo {site} >"{purelib}/bench.pth"',
            f"{environment} -m compileall -q {site}",
            f"touch {folder}/complete",
        ],
    )
private("SHA256SUMS", host.data.sums)
settings = private("settings.env", host.data.settings)
secret = private("secret.env", f"VLLM_API_KEY={host.data.api_key}\n")
unit = files.put(src=StringIO(host.data.unit), dest="/etc/systemd/system/bench-vllm.service", mode="644", name="Unit")
systemd.daemon_reload(_if=unit.did_change)
service = systemd.service(name="Service", service="bench-vllm.service", running=True, enabled=True)
restart = systemd.service(
    name="Restart",
    service="bench-vllm.service",
    restarted=True,
    _if=lambda: not service.did_change() and any(part.did_change() for part in (settings, secret, unit)),
)

# Checks are no state: pyinfra has no operation that looks without counting as a change.
health = f"curl -fs -o /dev/null http://127.0.0.1:{port}/health"
wait = f"for i in $(seq 300); do {health} && break; sleep 0.2; done; {health}"
server.shell(
    name="Weights are what they were and the service answers",
    commands=[f"cd {quote(model)} && sha256sum --check --quiet {folder}/SHA256SUMS", wait],
)
question = f'{{"model": "{model}", "prompt": "1 + 1 =", "max_tokens": 1}}'
server.shell(
    name="Prove",
    commands=[
        f'. {folder}/secret.env && curl -fs -H "Authorization: Bearer $VLLM_API_KEY" '
        f"-H 'Content-Type: application/json' -d {quote(question)} http://127.0.0.1:{port}/v1/completions "
        "| grep -q '\"choices\"'",
    ],
    _if=lambda: service.did_change() or restart.did_change(),
)
