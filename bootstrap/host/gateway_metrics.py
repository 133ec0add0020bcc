"""Metrics in Prometheus' text format: the GPUs', the trainer's and nginx's. Standard library only."""

from __future__ import annotations

import http.client
import re
import subprocess
from typing import Any

# Column of nvidia-smi → name, unit factor and what it is. MiB become bytes, percent becomes a ratio.
GPU_COLUMNS = {
    "index": ("", 1.0, ""),
    "name": ("", 1.0, ""),
    "memory.used": ("tandem_gpu_memory_used_bytes", 2.0**20, "Memory in use, as nvidia-smi reports it."),
    "memory.total": ("tandem_gpu_memory_total_bytes", 2.0**20, "Memory of the GPU."),
    "utilization.gpu": ("tandem_gpu_utilization_ratio", 0.01, "Share of time in which a kernel ran."),
    "temperature.gpu": ("tandem_gpu_temperature_celsius", 1.0, "Temperature of the GPU."),
    "power.draw": ("tandem_gpu_power_watts", 1.0, "Power that the GPU draws."),
}
DCGM_ADDRESS = "127.0.0.1:9400"


def sample(name: str, labels: dict[str, str], value: float) -> str:
    def escaped(text: str) -> str:
        return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ")

    inner = ",".join(f'{label}="{escaped(text)}"' for label, text in labels.items())
    # Bytes of a GPU have eleven digits.
    return f"{name}{{{inner}}} {value:.12g}\n" if inner else f"{name} {value:.12g}\n"


def family(name: str, kind: str, text: str, samples: list[tuple[dict[str, str], float]]) -> str:
    if not samples:
        return ""
    return f"# HELP {name} {text}\n# TYPE {name} {kind}\n" + "".join(sample(name, *entry) for entry in samples)


def up(service: str, is_up: bool) -> str:
    return sample("tandem_service_up", {"service": service}, float(is_up))


def joined(parts: list[str]) -> str:
    """One text: the lines of tandem_service_up together under one head."""
    ups = "".join(part for part in parts if part.startswith("tandem_service_up"))
    head = "# HELP tandem_service_up Whether the service behind the gateway answers.\n# TYPE tandem_service_up gauge\n"
    others = [
        part if part.endswith("\n") else part + "\n"
        for part in parts
        if part and not part.startswith("tandem_service_up")
    ]
    return head + ups + "".join(others)


def value_of(text: str, name: str) -> float | None:
    """The sum of all samples of a name."""
    found = re.findall(rf"^{re.escape(name)}(?:\{{[^}}]*\}})? ([-+0-9.eE]+)", text, re.MULTILINE)
    return sum(map(float, found)) if found else None


def read_gpus() -> list[dict[str, Any]]:
    """One entry a GPU by nvidia-smi's columns; empty where there is none. What a GPU does not tell is left out."""
    query = ["nvidia-smi", f"--query-gpu={','.join(GPU_COLUMNS)}", "--format=csv,noheader,nounits"]
    try:
        told = subprocess.run(query, capture_output=True, text=True, timeout=5, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    gpus = []
    for line in told.splitlines():
        gpu: dict[str, Any] = {}
        for column, text in zip(GPU_COLUMNS, (part.strip() for part in line.split(","))):
            if column == "name":
                gpu[column] = text
            elif re.fullmatch(r"-?[0-9.]+", text):
                gpu[column] = float(text)
        gpus.append(gpu)
    return gpus


def gpus(read: list[dict[str, Any]]) -> str:
    families = []
    for column, (name, factor, text) in GPU_COLUMNS.items():
        samples = [
            ({"gpu": f"{gpu.get('index', 0):g}", "model": str(gpu.get("name", ""))}, gpu[column] * factor)
            for gpu in read
            if name and column in gpu
        ]
        families.append(family(name, "gauge", text, samples))
    return "".join(families)


def dcgm() -> str:
    """What NVIDIA's DCGM exporter says, where it runs on this host."""
    connection = http.client.HTTPConnection(DCGM_ADDRESS, timeout=1)
    try:
        connection.request("GET", "/metrics")
        response = connection.getresponse()
        text = response.read().decode("utf-8", "replace") if response.status == 200 else ""
        return text if "DCGM_FI_" in text else ""
    except (OSError, http.client.HTTPException):
        return ""
    finally:
        connection.close()


def training(jobs: list[dict[str, Any]]) -> str:
    counts: dict[str, int] = {}
    for job in jobs:
        counts[job["status"]] = counts.get(job["status"], 0) + 1
    running = [job for job in jobs if job["status"] == "running" and job["losses"]]
    return (
        family(
            "tandem_training_jobs",
            "gauge",
            "The newest jobs by their status.",
            [({"status": status}, float(count)) for status, count in sorted(counts.items())],
        )
        + family(
            "tandem_training_loss",
            "gauge",
            "Loss of the last step of a running job.",
            [({"job": job["id"]}, float(job["losses"][-1][1])) for job in running],
        )
        + family(
            "tandem_training_step",
            "gauge",
            "Last step of a running job.",
            [({"job": job["id"]}, float(job["losses"][-1][0])) for job in running],
        )
    )


def nginx(stub: str) -> str:
    """From the page of stub_status."""
    numbers = [float(number) for number in re.findall(r"\d+", stub)]
    if len(numbers) < 7:
        return ""
    active, accepted, _handled, requests, reading, writing, waiting = numbers[:7]
    states = {"reading": reading, "writing": writing, "waiting": waiting}
    return (
        family(
            "tandem_gateway_connections",
            "gauge",
            "Open connections by what they do.",
            [({"state": s}, n) for s, n in states.items()],
        )
        + family("tandem_gateway_connections_active", "gauge", "Open connections.", [({}, active)])
        + family("tandem_gateway_accepted_total", "counter", "Connections since the start.", [({}, accepted)])
        + family("tandem_gateway_requests_total", "counter", "Requests since the start.", [({}, requests)])
    )
