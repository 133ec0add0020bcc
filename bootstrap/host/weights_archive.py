"""Unpacks a model archive (tar, plain or packed, or zip) without letting anything in it reach outside its folder.

Standard library only, Python 3.9 or newer.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import subprocess
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import weights_manifest as manifests
from weights_say import EXIT_NO_DISK, EXIT_NOT_A_MODEL, fail, require_disk, tell

# Weights hardly shrink when they are packed; the file itself is there already.
GROWTH = 2


class Unsafe(Exception):
    """A member would land outside the folder, or is no file."""


def unpack(archive: Path, models: Path) -> tuple[Path, Path]:
    """
    Unpacks once and returns the model's folder and the place of its manifest. The same file is not unpacked twice.
    """
    try:
        stat = archive.stat()
    except OSError:
        fail(EXIT_NOT_A_MODEL, f"model — there is no archive {archive}")
    key = hashlib.sha256(f"{archive}\0{stat.st_size}\0{stat.st_mtime_ns}".encode()).hexdigest()[:16]
    folder = models / f"archive-{key}"
    where = models / f"archive-{key}.json"
    if where.exists() and not _is_whole(where):
        tell("the unpacked model is damaged, unpacking it again")
        where.unlink()
    if not where.exists():
        models.mkdir(parents=True, exist_ok=True)
        require_disk(models, GROWTH * stat.st_size)
        building = Path(tempfile.mkdtemp(prefix="building.", dir=models))
        try:
            tell(f"unpacking {archive}")
            extract(archive, building)
            shutil.rmtree(folder, ignore_errors=True)
            os.replace(building, folder)
        except Unsafe as error:
            fail(EXIT_NOT_A_MODEL, f"model — refusing the archive {archive}: {error}")
        except (tarfile.TarError, zipfile.BadZipFile, EOFError, OSError) as error:
            what = f"model — the archive {archive} can't be unpacked: {error}"
            if getattr(error, "errno", None) == errno.ENOSPC:
                fail(EXIT_NO_DISK, f"{what} — fix: free some space for {models}, or set XDG_CACHE_HOME")
            fail(EXIT_NOT_A_MODEL, f"{what} — allowed: tar (gzip, bzip2, xz, zstd) or zip")
        finally:
            shutil.rmtree(building, ignore_errors=True)
    return _model_folder(folder), where


def _is_whole(where: Path) -> bool:
    manifest = manifests.read(where)
    return manifest is not None and not manifests.damage(manifest, whole=True)


def _model_folder(folder: Path) -> Path:
    """Archives often hold one folder that holds the model."""
    if (folder / "config.json").is_file():
        return folder
    inner = [path.parent for path in sorted(folder.glob("*/config.json"))]
    return inner[0] if len(inner) == 1 else folder


def extract(archive: Path, folder: Path) -> None:
    """Raises Unsafe before anything of an archive with such a member's name is written beyond the members before it."""
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as packed:
            for member in packed.infolist():
                require_inside(member.filename)
                if (member.external_attr >> 28) == 0o12:
                    raise Unsafe(f"{member.filename} is a link")
            packed.extractall(folder)
        return
    with open_tar(archive) as packed:
        for member in packed:
            require_inside(member.name)
            if member.issym() or member.islnk():
                raise Unsafe(f"{member.name} is a link")
            if not (member.isfile() or member.isdir()):
                raise Unsafe(f"{member.name} is neither a file nor a folder")
            member.mode = 0o700 if member.isdir() else 0o600
            member.uid, member.gid, member.uname, member.gname = os.getuid(), os.getgid(), "", ""
            packed.extract(member, folder, set_attrs=False)


def require_inside(name: str) -> None:
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts:
        raise Unsafe(f"its member {name} points outside")


@contextlib.contextmanager
def open_tar(archive: Path) -> Iterator[tarfile.TarFile]:
    """tarfile knows gzip, bzip2 and xz; zstd goes through its own program."""
    with open(archive, "rb") as file:
        is_zstd = file.read(4) == b"\x28\xb5\x2f\xfd"
    if not is_zstd:
        with tarfile.open(archive, "r:*") as packed:
            yield packed
        return
    try:
        process = subprocess.Popen(["zstd", "-dcq", str(archive)], stdout=subprocess.PIPE)
    except FileNotFoundError:
        raise OSError("zstd is not installed — fix: apt-get install zstd") from None
    with process, tarfile.open(fileobj=process.stdout, mode="r|") as packed:
        yield packed
