"""Answers /metrics and /status.json behind the gateway, on a socket that only nginx and this program's user can reach.

It reads monitor.json (what was planned, and where to ask) and proof.json (what was measured) of the gateway's folder,
and asks vLLM, the trainer, the GPUs and nginx when it is asked. Standard library only, Python 3.9 or newer.
"""

from __future__ import annotations

import calendar
import contextlib
import http.client
import json
import os
import socket
import socketserver
import time
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import gateway_metrics

# Those who ask more often get the same answer again: nobody's page should load the GPUs' driver.
FRESH_SECONDS = 1.0
JOBS_SHOWN = 20
EVENTS_SHOWN = 400
EVENTS_PAGE = 100


def preload() -> None:
    """Has everything imported while this process may still read the interpreter's folder."""
    "a".encode("idna")
    time.strptime("2026", "%Y")


class SocketConnection(http.client.HTTPConnection):
    def __init__(self, path: Path, limit_seconds: float) -> None:
        super().__init__("localhost", timeout=limit_seconds)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def ask_socket(path: Path, route: str, limit_seconds: float) -> str:
    connection = SocketConnection(path, limit_seconds)
    try:
        connection.request("GET", route)
        return connection.getresponse().read().decode()
    except http.client.HTTPException as error:
        raise OSError(str(error)) from error
    finally:
        connection.close()


class Monitor:
    """The services of one host, as the gateway's folder names them."""

    def __init__(self, run: Path) -> None:
        self._run = run
        self._answers: dict[str, tuple[float, bytes]] = {}
        self._tokens: list[tuple[float, float]] = []

    def read(self, name: str) -> dict[str, Any]:
        try:
            value: dict[str, Any] = json.loads((self._run / name).read_text())
        except (OSError, ValueError):
            value = {}
        return value

    def ask(self, address: str, route: str, limit_seconds: float = 2.0) -> tuple[int, str]:
        """Status and text; status 0 when nobody answers."""
        connection = http.client.HTTPConnection(address, timeout=limit_seconds)
        try:
            headers = {"Authorization": f"Bearer {self.read('monitor.json').get('key', '')}"}
            connection.request("GET", route, headers=headers)
            response = connection.getresponse()
            return response.status, response.read().decode("utf-8", "replace")
        except (OSError, http.client.HTTPException) as error:
            return 0, str(error)
        finally:
            connection.close()

    def ask_json(self, address: str, route: str) -> Any:
        status, text = self.ask(address, route)
        if status != 200:
            return None
        with contextlib.suppress(ValueError):
            return json.loads(text)
        return None

    def fresh(self, name: str, make: Any) -> bytes:
        made, answer = self._answers.get(name, (0.0, b""))
        if time.monotonic() - made > FRESH_SECONDS or not answer:
            answer = make()
            self._answers[name] = (time.monotonic(), answer)
        return answer

    def metrics(self) -> bytes:
        settings = self.read("monitor.json")
        parts = [gateway_metrics.up(name, bool(self.ask(at, "/health")[0] == 200)) for name, at in services(settings)]
        for address in settings.get("serving", []):
            status, text = self.ask(address, "/metrics", 5)
            parts += [text] if status == 200 else []
        if settings.get("training"):
            parts.append(gateway_metrics.training(self.jobs(settings["training"])))
        # Both: dashboard and alerts stand on ours, which are there without an exporter as well.
        parts += [gateway_metrics.gpus(gateway_metrics.read_gpus()), gateway_metrics.dcgm()]
        with contextlib.suppress(OSError):
            parts.append(gateway_metrics.nginx(ask_socket(self._run / "var" / "nginx.sock", "/stub", 2.0)))
        return gateway_metrics.joined(parts).encode()

    def status(self) -> bytes:
        settings, proof = self.read("monitor.json"), self.read("proof.json")
        checks = []
        for name, address in services(settings):
            started = time.monotonic()
            status, text = self.ask(address, "/health")
            detail = "answers" if status == 200 else f"answers {status}" if status else f"does not answer: {text}"
            seconds = round(time.monotonic() - started, 3)
            checks.append(
                {"name": name, "status": "pass" if status == 200 else "fail", "detail": detail, "seconds": seconds}
            )
        served = [self.ask_json(address, "/v1/models") for address in settings.get("serving", [])]
        models = [entry for answer in served if answer for entry in answer.get("data", [])]
        document = {
            "now": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "checks": checks,
            "plan": settings.get("plan"),
            "startedAt": settings.get("startedAt"),
            "expiresAt": expiry(settings),
            "proof": proof or None,
            "models": [{"id": entry.get("id"), "base": entry.get("parent")} for entry in models],
            "gpus": gateway_metrics.read_gpus(),
            "tokensPerSecond": self.speed(settings.get("serving", [])),
            "jobs": self.jobs(settings["training"]) if settings.get("training") else None,
        }
        return json.dumps(document).encode()

    def speed(self, addresses: list[str]) -> float | None:
        """Generated tokens a second since the last time somebody looked, at most a minute ago."""
        texts = [self.ask(address, "/metrics", 5)[1] for address in addresses]
        total = sum(gateway_metrics.value_of(text, "vllm:generation_tokens_total") or 0.0 for text in texts)
        now = time.monotonic()
        self._tokens = [entry for entry in self._tokens if now - entry[0] < 60] + [(now, total)]
        (first, before), (last, after) = self._tokens[0], self._tokens[-1]
        return round(max(0.0, after - before) / (last - first), 1) if last - first > 0.5 else None

    def jobs(self, address: str) -> list[dict[str, Any]]:
        """The newest jobs, each with its losses by step."""
        listed = self.ask_json(address, f"/v1/fine_tuning/jobs?limit={JOBS_SHOWN}") or {}
        shown = []
        for job in listed.get("data", []):
            steps = [
                entry.get("data") or {} for entry in self.events(address, job["id"]) if entry.get("type") == "metrics"
            ]
            losses = [[step["step"], step["train_loss"]] for step in steps if "step" in step and "train_loss" in step]
            fields = ("id", "status", "created_at", "finished_at", "fine_tuned_model", "trained_tokens", "error")
            shown.append({**{name: job.get(name) for name in fields}, "losses": sorted(losses)})
        return shown

    def events(self, address: str, job: str) -> list[dict[str, Any]]:
        """The newest events of a job; the trainer hands out a hundred at a time."""
        found: list[dict[str, Any]] = []
        while len(found) < EVENTS_SHOWN:
            after = f"&after={found[-1]['id']}" if found else ""
            page = self.ask_json(address, f"/v1/fine_tuning/jobs/{job}/events?limit={EVENTS_PAGE}{after}") or {}
            found += page.get("data", [])
            if not page.get("has_more"):
                break
        return found


def expiry(settings: dict[str, Any]) -> str | None:
    """When the stack ends by itself, ISO 8601."""
    seconds = settings.get("plan", {}).get("cost", {}).get("ttlSeconds")
    started = settings.get("startedAt")
    if not seconds or not started:
        return None
    begin = calendar.timegm(time.strptime(started[:19], "%Y-%m-%dT%H:%M:%S"))
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(begin + seconds))


def services(settings: dict[str, Any]) -> list[tuple[str, str]]:
    """Names and addresses of what stands behind the gateway."""
    serving = settings.get("serving", [])
    named = [("serving" if len(serving) == 1 else f"serving {index}", at) for index, at in enumerate(serving)]
    return named + ([("training", settings["training"])] if settings.get("training") else [])


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def do_GET(self) -> None:
        monitor = self.server.monitor
        routes = {
            "/metrics": ("text/plain; version=0.0.4; charset=utf-8", monitor.metrics),
            "/status.json": ("application/json", monitor.status),
        }
        route = self.path.partition("?")[0]
        kind, make = routes.get(route, ("", None))
        body = monitor.fresh(route, make) if make else b""
        self.send_response(200 if make else 404)
        self.send_header("Content-Type", kind or "text/plain")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """nginx writes the access log."""

    def address_string(self) -> str:
        return "gateway"


class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, run: Path) -> None:
        self.monitor = Monitor(run)
        path = run / "var" / "monitor.sock"
        path.unlink(missing_ok=True)
        super().__init__(str(path), Handler)


def serve(run: Path) -> None:
    os.environ["PATH"] = os.environ.get("PATH") or "/usr/bin:/bin"
    Server(run).serve_forever(0.5)
