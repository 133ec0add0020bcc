"""Where adapters lie: on disk for good, and in a memory file system where vLLM reads them."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import shutil
from pathlib import Path

log = logging.getLogger(__name__)

MIB = 1 << 20


class PlacementError(Exception):
    """An adapter can't be put where vLLM reads it."""


class Placement:
    """`disk` holds every adapter. `memory` holds a copy of each; where there is a limit, only while there is room, else
    a link to the one on disk.

    vLLM keeps `--max-loras` adapters in its slots and `--max-cpu-loras` in its process, and reads those that it has
    dropped from their path again when they are asked for. So an adapter stays callable as long as its path stays.
    """

    def __init__(self, disk: Path, memory: Path, limit_bytes: int | None) -> None:
        self._disk = disk
        self._memory = memory
        self._limit_bytes = limit_bytes
        for folder in (disk, memory):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        # What a killed copy left.
        for folder in memory.glob("*.part"):
            shutil.rmtree(folder, ignore_errors=True)

    def on_disk(self, folder: str) -> Path:
        return self._disk / folder

    def path(self, folder: str) -> Path:
        return self._memory / folder

    def place(self, folder: str) -> Path:
        """Makes the adapter readable under its path in memory; does nothing when it is there."""
        path = self.path(folder)
        if path.is_dir():
            return path
        source = self.on_disk(folder)
        if not source.is_dir():
            raise PlacementError(f"the adapter is gone from the disk: {source}")
        size = folder_bytes(source)
        while self._limit_bytes is not None and self._used() + size > self._limit_bytes and self._spill_oldest():
            pass
        if self._limit_bytes is not None and self._used() + size > self._limit_bytes:
            self._link(folder)
            return path
        try:
            self._copy(source, path)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise PlacementError(f"the adapter can't be copied to {path}: {error}") from error
            if self._limit_bytes is None:
                raise PlacementError(self._say_full(size)) from error
            log.warning("no room for %s in %s: vLLM reads it from the disk", folder, self._memory)
            self._link(folder)
        return path

    def _say_full(self, size: int) -> str:
        free = shutil.disk_usage(self._memory).free
        return (
            f"the memory file system of adapters is full ({self._memory}) — got an adapter of {size / MIB:.1f} MiB — "
            f"allowed: {free / MIB:.1f} MiB — fix: delete models that nobody uses, or give it more room"
        )

    def folders(self) -> set[str]:
        """All that lie in memory or on disk."""
        return {path.name for place in (self._disk, self._memory) for path in place.iterdir()}

    def touch(self, folder: str) -> None:
        """Marks an adapter as used, so that others leave memory first."""
        # It may be taken away, or a link put in its place, at any moment. A link's own time counts for nothing.
        with contextlib.suppress(FileNotFoundError):
            os.utime(self.path(folder), follow_symlinks=False)

    def remove(self, folder: str) -> None:
        """From memory and disk; succeeds when it is gone."""
        path = self.path(folder)
        if path.is_symlink():
            path.unlink()
        shutil.rmtree(path, ignore_errors=True)
        shutil.rmtree(self.on_disk(folder), ignore_errors=True)

    def _copy(self, source: Path, path: Path) -> None:
        part = path.with_name(f"{path.name}.part")
        shutil.rmtree(part, ignore_errors=True)
        if path.is_symlink():
            path.unlink()
        try:
            # Not copytree, whose error does not tell why.
            part.mkdir(mode=0o700)
            for file in source.iterdir():
                shutil.copy2(file, part)
            part.rename(path)
        finally:
            shutil.rmtree(part, ignore_errors=True)

    def _link(self, folder: str) -> None:
        path = self.path(folder)
        part = path.with_name(f"{path.name}.link")
        part.unlink(missing_ok=True)
        part.symlink_to(self.on_disk(folder).resolve())
        part.replace(path)

    def _used(self) -> int:
        return sum(folder_bytes(path) for path in self._memory.iterdir() if not path.is_symlink())

    def _spill_oldest(self) -> bool:
        """Puts a link in the place of the copy that was used the longest ago. Answers whether there was one."""
        copies = [path for path in self._memory.iterdir() if path.is_dir() and not path.is_symlink()]
        copies = [path for path in copies if self.on_disk(path.name).is_dir()]
        if not copies:
            return False
        oldest = min(copies, key=lambda path: path.stat().st_mtime)
        aside = oldest.with_name(f"{oldest.name}.part")
        oldest.rename(aside)
        self._link(oldest.name)
        shutil.rmtree(aside, ignore_errors=True)
        return True


def folder_bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
