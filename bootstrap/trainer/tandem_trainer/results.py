"""The result file of a job: loss by step, as OpenAI's API gives it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .store import Job, Store, new_id

COLUMNS = ("step", "train_loss", "learning_rate")


def keep_results(store: Store, folder: Path, job: Job, losses: list[dict[str, Any]]) -> str:
    """Writes a CSV file of purpose `fine-tune-results`; answers its id."""
    lines = [",".join(COLUMNS), *(",".join(str(metrics[name]) for name in COLUMNS) for metrics in losses)]
    data = ("\n".join(lines) + "\n").encode()
    id = new_id("file-")
    (folder / id).write_bytes(data)
    store.add_file(id, f"{job.id}-results.csv", "fine-tune-results", len(data), None)
    return id
