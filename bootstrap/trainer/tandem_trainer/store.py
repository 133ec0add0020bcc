"""What outlives a restart: files, jobs, events, checkpoints and adapters, in one SQLite database with one writer."""

from __future__ import annotations

import json
import secrets
import sqlite3
import string
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SCHEMA = """
create table if not exists files (
  seq integer primary key autoincrement, id text unique not null, filename text not null, purpose text not null,
  bytes integer not null, created_at integer not null, examples integer);
create table if not exists jobs (
  seq integer primary key autoincrement, id text unique not null, status text not null, hidden integer not null,
  training_file text not null, fine_tuned_model text unique not null, step integer not null default 0,
  crashes integer not null default 0, created_at integer not null, finished_at integer, document text not null);
create table if not exists events (
  seq integer primary key autoincrement, id text unique not null, job text not null, step integer,
  created_at integer not null, level text not null,
  type text not null, message text not null, data text not null, unique (job, step));
create table if not exists checkpoints (
  seq integer primary key autoincrement, id text unique not null, job text not null, step integer not null,
  model text not null, created_at integer not null, metrics text not null, unique (job, step));
create table if not exists adapters (
  seq integer primary key autoincrement, model text unique not null, job text not null, folder text not null,
  created_at integer not null);
"""

TERMINAL = ("succeeded", "failed", "cancelled")
# Those that the scheduler takes up, also after a restart.
ACTIVE = ("validating_files", "queued", "running", "paused")

ALPHABET = string.ascii_lowercase + string.digits


def new_id(prefix: str, length: int = 24) -> str:
    return prefix + "".join(secrets.choice(ALPHABET) for _ in range(length))


@dataclass
class Job:
    """A job's row. `document` holds what is not searched for: model, hyper-parameters, error …"""

    id: str
    status: str
    training_file: str
    fine_tuned_model: str
    created_at: int
    hidden: bool = False
    step: int = 0
    crashes: int = 0
    finished_at: int | None = None
    seq: int = 0
    document: dict[str, Any] = field(default_factory=dict)

    @property
    def is_over(self) -> bool:
        return self.status in TERMINAL


class Store:
    """Calls are short and come from the event loop's thread only."""

    def __init__(self, path: Path) -> None:
        self._db = sqlite3.connect(path, isolation_level=None)
        self._db.row_factory = sqlite3.Row
        for pragma in ("journal_mode = wal", "synchronous = normal", "foreign_keys = on"):
            self._db.execute(f"pragma {pragma}")
        self._db.executescript(SCHEMA)

    def close(self) -> None:
        self._db.close()

    def _rows(self, text: str, *values: Any) -> list[sqlite3.Row]:
        return self._db.execute(text, values).fetchall()

    # Files

    def add_file(self, id: str, filename: str, purpose: str, size: int, examples: int | None) -> sqlite3.Row:
        self._db.execute(
            "insert into files (id, filename, purpose, bytes, created_at, examples) values (?, ?, ?, ?, ?, ?)",
            (id, filename, purpose, size, int(time.time()), examples),
        )
        return self._rows("select * from files where id = ?", id)[0]

    def file(self, id: str) -> sqlite3.Row | None:
        return next(iter(self._rows("select * from files where id = ?", id)), None)

    def files(self) -> list[sqlite3.Row]:
        return self._rows("select * from files order by seq desc")

    def delete_file(self, id: str) -> None:
        self._db.execute("delete from files where id = ?", (id,))

    def users_of(self, file: str) -> list[str]:
        """Jobs that are not over and train from this file."""
        marks = ",".join("?" * len(TERMINAL))
        rows = self._rows(f"select id from jobs where training_file = ? and status not in ({marks})", file, *TERMINAL)
        return [row["id"] for row in rows]

    # Jobs

    def add_job(self, job: Job) -> Job:
        cursor = self._db.execute(
            "insert into jobs (id, status, hidden, training_file, fine_tuned_model, created_at, document)"
            " values (?, ?, ?, ?, ?, ?, ?)",
            (
                job.id,
                job.status,
                job.hidden,
                job.training_file,
                job.fine_tuned_model,
                job.created_at,
                as_text(job.document),
            ),
        )
        job.seq = cursor.lastrowid or 0
        return job

    def save_job(self, job: Job) -> None:
        self._db.execute(
            "update jobs set status = ?, step = ?, crashes = ?, finished_at = ?, document = ? where id = ?",
            (job.status, job.step, job.crashes, job.finished_at, as_text(job.document), job.id),
        )

    def job(self, id: str) -> Job | None:
        return next((as_job(row) for row in self._rows("select * from jobs where id = ?", id)), None)

    def jobs(self) -> list[Job]:
        """Newest first, without hidden ones."""
        return [as_job(row) for row in self._rows("select * from jobs where not hidden order by seq desc")]

    def active_jobs(self) -> list[Job]:
        """Oldest first."""
        marks = ",".join("?" * len(ACTIVE))
        return [
            as_job(row) for row in self._rows(f"select * from jobs where status in ({marks}) order by seq", *ACTIVE)
        ]

    def forget_job(self, id: str) -> None:
        for table, column in (("jobs", "id"), ("events", "job"), ("checkpoints", "job"), ("adapters", "job")):
            self._db.execute(f"delete from {table} where {column} = ?", (id,))

    # Events: one a step, so that a step done again after a crash replaces what was said of it.

    def add_event(self, job: str, message: str, level: str = "info") -> None:
        self._event(job, None, level, "message", message, {})

    def add_metrics(self, job: str, step: int, message: str, metrics: dict[str, Any]) -> None:
        self._event(job, step, "info", "metrics", message, metrics)

    def _event(self, job: str, step: int | None, level: str, kind: str, message: str, data: dict[str, Any]) -> None:
        self._db.execute(
            "insert or replace into events (id, job, step, created_at, level, type, message, data)"
            " values (?, ?, ?, ?, ?, ?, ?, ?)",
            (new_id("ftevent-"), job, step, int(time.time()), level, kind, message, as_text(data)),
        )

    def events(self, job: str) -> list[sqlite3.Row]:
        """Newest first."""
        return self._rows("select * from events where job = ? order by seq desc", job)

    def losses(self, job: str) -> list[dict[str, Any]]:
        rows = self._rows("select data from events where job = ? and step is not null order by step", job)
        return [json.loads(row["data"]) for row in rows]

    # Checkpoints

    def add_checkpoint(self, job: str, step: int, model: str, metrics: dict[str, Any]) -> None:
        self._db.execute(
            "insert or replace into checkpoints (id, job, step, model, created_at, metrics) values (?, ?, ?, ?, ?, ?)",
            (new_id("ftckpt_"), job, step, model, int(time.time()), as_text(metrics)),
        )

    def checkpoints(self, job: str) -> list[sqlite3.Row]:
        return self._rows("select * from checkpoints where job = ? order by step desc", job)

    def delete_checkpoint(self, job: str, step: int) -> None:
        self._db.execute("delete from checkpoints where job = ? and step = ?", (job, step))

    # Adapters that are to be served

    def add_adapter(self, model: str, job: str, folder: str) -> None:
        self._db.execute(
            "insert or replace into adapters (model, job, folder, created_at) values (?, ?, ?, ?)",
            (model, job, folder, int(time.time())),
        )

    def adapters(self) -> list[sqlite3.Row]:
        return self._rows("select * from adapters order by seq")

    def adapter(self, model: str) -> sqlite3.Row | None:
        return next(iter(self._rows("select * from adapters where model = ?", model)), None)

    def delete_adapter(self, model: str) -> None:
        self._db.execute("delete from adapters where model = ?", (model,))


def as_text(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


def as_job(row: sqlite3.Row) -> Job:
    values = dict(row)
    return Job(**{**values, "hidden": bool(values["hidden"]), "document": json.loads(values["document"])})
