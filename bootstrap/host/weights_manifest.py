"""The manifest of a model directory: SHA-256 of every file, and how damage is found without reading hundreds of
gigabytes.

Standard library only, Python 3.9 or newer. A quick look compares, for every file, name, size, and the times of
change. A file whose status time (ctime, which no program can set) is what it was when its sum was taken has not been
written to since; of such a file a sample is compared all the same, against damage below the file system. A file with
another time is read whole when that is quick, else it counts as changed until `apply` has read it.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any, Callable

from weights_look import LIST, NO_SAMPLE, line, sample

MANIFEST = "tandem-manifest.json"
# About half a second of reading and hashing on a slow core.
QUICK_READ_BYTES = 256 * 1024 * 1024

Tell = Callable[[str], None]


def model_files(folder: Path) -> list[Path]:
    """All files of the model, sorted; what tools keep for themselves (dot folders) is not part of it."""
    found = []
    for directory, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [Path(directory) / name for name in names if not name.startswith(".") and name != MANIFEST]
    return sorted(found)


def sha256(path: Path, on_bytes: Callable[[int], None] | None = None) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(4 * 1024 * 1024):
            digest.update(chunk)
            if on_bytes:
                on_bytes(len(chunk))
    return digest.hexdigest()


def describe(path: Path, digest: str) -> dict[str, Any]:
    stat = path.stat()
    return {
        "size": stat.st_size,
        "mtimeNs": stat.st_mtime_ns,
        "ctimeNs": stat.st_ctime_ns,
        "sample": sample(path, stat.st_size),
        "sha256": digest,
    }


def write(folder: Path, where: Path, source: str, tell: Tell) -> dict[str, Any]:
    """Reads all files, writes the manifest to `where`, last and in one go, and returns it."""
    files = model_files(folder)
    total = sum(path.stat().st_size for path in files) or 1
    done, told = 0, 0

    def count(read: int) -> None:
        nonlocal done, told
        done += read
        percent = 100 * done // total
        if percent >= told + 10:
            told = percent
            tell(f"taking checksums {percent} %")

    entries = {str(path.relative_to(folder)): describe(path, sha256(path, count)) for path in files}
    sums = "".join(f"{entry['sha256']}  {name}\n" for name, entry in sorted(entries.items()))
    manifest = {
        "path": str(folder),
        "source": source,
        "bytes": sum(entry["size"] for entry in entries.values()),
        "digest": hashlib.sha256(sums.encode()).hexdigest(),
        "files": entries,
    }
    new = where.with_name(where.name + ".new")
    new.write_text(json.dumps(manifest, indent=1) + "\n")
    os.replace(new, where)
    return manifest


def read(where: Path) -> dict[str, Any] | None:
    try:
        return json.loads(where.read_text())
    except (OSError, ValueError):
        return None


def damage(manifest: dict[str, Any], whole: bool = False, tell: Tell | None = None) -> dict[str, str]:
    """
    What is wrong with which file, for people; empty when all are as they were.

    `whole` reads every byte of files whose times changed, however large they are.
    """
    folder = Path(manifest["path"])
    wrong: dict[str, str] = {}
    for name, entry in manifest["files"].items():
        path = folder / name
        try:
            stat = path.stat()
        except OSError:
            wrong[name] = f"{name} is missing"
            continue
        if stat.st_size != entry["size"]:
            wrong[name] = f"{name} has {stat.st_size} bytes, not {entry['size']}"
        elif stat.st_ctime_ns == entry["ctimeNs"] and stat.st_mtime_ns == entry["mtimeNs"]:
            if sample(path, stat.st_size) != entry["sample"]:
                wrong[name] = f"{name} is damaged"
        elif whole or stat.st_size <= QUICK_READ_BYTES:
            if whole and tell:
                tell(f"reading {name} again, it was touched")
            if sha256(path) != entry["sha256"]:
                wrong[name] = f"{name} is damaged"
        else:
            wrong[name] = f"{name} was changed"
    return wrong


def refresh(manifest: dict[str, Any], where: Path) -> None:
    """Stores the present times of files that were read whole and found to be right."""
    for name, entry in manifest["files"].items():
        entry.update(describe(Path(manifest["path"]) / name, entry["sha256"]))
    new = where.with_name(where.name + ".new")
    new.write_text(json.dumps(manifest, indent=1) + "\n")
    os.replace(new, where)


def write_list(manifest: dict[str, Any], where: Path, folder: Path) -> None:
    """What weights_look.py compares with, into `folder`; none where a name would break its lines."""
    listed = folder / LIST
    listed.unlink(missing_ok=True)
    files = {str(Path(manifest["path"]) / name): entry for name, entry in manifest["files"].items()}
    if any("\n" in path for path in (str(where), *files)):
        return
    stat = where.stat()
    lines = [line(str(where), stat.st_size, (stat.st_mtime_ns, stat.st_ctime_ns), NO_SAMPLE)]
    for path, entry in files.items():
        lines.append(line(path, entry["size"], (entry["mtimeNs"], entry["ctimeNs"]), entry["sample"]))
    listed.write_text("".join(lines), errors="surrogateescape")
