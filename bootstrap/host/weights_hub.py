"""
Fetches a model from the hub with the hub's own client, huggingface_hub of the runtime's environment. The client
resumes in the middle of a file as long as it runs; after that, files that are complete are not fetched again.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from weights_say import EXIT_GATED, EXIT_MISSING, EXIT_NO_NETWORK, fail, require_disk, tell

# A hub that has not answered by then counts as unreachable.
LIMIT_SECONDS = 10.0
PROGRESS_SECONDS = 2.0
# Formats that vLLM does not read, and copies of the weights for other programs.
IGNORED = [
    "*.gguf",
    "*.onnx",
    "*.onnx_data",
    "onnx/*",
    "original/*",
    "*.msgpack",
    "*.h5",
    "*.tflite",
    "*.ot",
    "openvino/*",
]


class Unreachable(Exception):
    """No hub answers."""


def download(model: str, revision: str, token: str | None, folder: Path) -> None:
    """
    Brings all files of the model that vLLM needs into the folder.

    Raises Unreachable when no hub answers; ends the step with its own message for a gated model, a missing one, a
    full disk.
    """
    os.environ.update({"HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_HUB_DISABLE_TELEMETRY": "1"})
    os.environ.pop("HF_HUB_OFFLINE", None)
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub import errors as hub

    try:
        info = HfApi().model_info(model, revision=revision, token=token, timeout=LIMIT_SECONDS, files_metadata=True)
        if getattr(info, "gated", False):
            HfApi().auth_check(model, token=token)
    except hub.GatedRepoError:
        fail(
            EXIT_GATED,
            f"hubToken — the model {model} is gated and this account has no access"
            " — fix: accept its licence on the hub, then: tandem up --hub-token @FILE",
        )
    except hub.RevisionNotFoundError:
        fail(
            EXIT_MISSING,
            f"revision — the hub knows no such revision of {model} — got {revision} — fix: check the spelling",
        )
    except (hub.RepositoryNotFoundError, hub.HFValidationError):
        fix = "check the spelling; a private model needs hubToken"
        fail(EXIT_MISSING, f"model — the hub knows no such model — got {model} — fix: {fix}")
    except Exception as error:
        # The client's network errors changed between its versions (requests, httpx): what is left is the network.
        raise Unreachable(_first_line(error)) from error

    # Parts of files that a killed fetch left. The client gives each part a new name, so it never takes them up again.
    for part in (folder / ".cache").rglob("*.incomplete"):
        part.unlink(missing_ok=True)
    names = {file.rfilename: file.size or 0 for file in info.siblings or []}
    ignored = list(IGNORED)
    if any(name.endswith(".safetensors") for name in names):
        ignored += ["*.bin", "*.pt", "*.pth"]
    wanted = _wanted(names, ignored)
    total = sum(wanted.values())
    present = _bytes_in(folder)
    # Twice: what is fetched, and as much again for what the client keeps while it puts a file together.
    require_disk(folder, 2 * max(0, total - present))
    tell(f"fetching {model}: {len(wanted)} files, {total / 1024**3:.2f} GiB")
    try:
        with _progress(folder, total):
            snapshot_download(model, revision=info.sha, token=token, local_dir=folder, ignore_patterns=ignored)
    except Exception as error:
        fail(
            EXIT_NO_NETWORK,
            f"model — fetching {model} was cut: {_first_line(error)} — fix: run it again, it goes on where it stopped",
        )


def _wanted(names: dict[str, int], ignored: list[str]) -> dict[str, int]:
    from huggingface_hub.utils import filter_repo_objects

    return {name: names[name] for name in filter_repo_objects(names, ignore_patterns=ignored)}


def _first_line(error: BaseException) -> str:
    text = str(error).strip().split("\n")[0]
    return f"{type(error).__name__}: {text}"[:200]


def _bytes_in(folder: Path) -> int:
    """Bytes of all files, unfinished ones too."""
    total = 0
    for directory, _folders, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                total += os.stat(os.path.join(directory, name)).st_size
    return total


@contextlib.contextmanager
def _progress(folder: Path, total: int) -> Iterator[Any]:
    """Tells the share that is on the disk, whatever way the client takes to bring it there."""
    done = threading.Event()

    def watch() -> None:
        told = -1
        while not done.wait(PROGRESS_SECONDS):
            percent = min(99, 100 * _bytes_in(folder) // max(1, total))
            if percent > told:
                told = percent
                tell(f"fetching weights {percent} %")

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
    tell("fetching weights 100 %")
