"""Writes the gateway's definition. Standard library only, Python 3.9 or newer.

Usage: gateway_define.py FOLDER RUN NGINX USER PYTHON, with the step's document in $TANDEM_REQUEST and the secrets
{ upstreamKey, "key <name>": key, ... } on standard input. Writes unit.json.next and gateway.json.next, and prints
"restart" when the unit has to be started again for it, "reload" when the running one can take it over, else nothing.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from pathlib import Path

from serving import INHERITED, write_private


def main(folder: Path, run: str, nginx: str, user: str, python: str) -> int:
    document = json.loads(Path(os.environ["TANDEM_REQUEST"]).read_text())
    given = json.loads(sys.stdin.readline() or "{}")
    keys = {name[len("key ") :]: key for name, key in given.items() if name.startswith("key ")}
    gateway = {
        "run": run,
        "nginx": nginx,
        "user": user,
        "document": document,
        "secrets": {"keys": keys, "upstreamKey": given["upstreamKey"]},
    }
    unit = {
        "argv": [python, "-ESsB", str(folder / "gateway_run.py"), "run", str(folder)],
        "env": {},
        "port": document["port"],
        "stopSeconds": document.get("stopSeconds", 10),
        "cwd": str(folder),
    }
    # What a reload can't change: who runs what, and how.
    code = [path.read_bytes() for path in sorted(Path(__file__).parent.glob("gateway_*.py"))]
    program = [json.dumps(unit, sort_keys=True).encode(), nginx.encode(), user.encode(), run.encode(), *code]
    # nginx can't bind one address while it holds all of them on the same port; a privileged port is bound before rights
    # are dropped.
    program.append(document["address"].encode())
    if document["port"] < 1024:
        program.append(str(document["port"]).encode())
    unit["digest"] = hashlib.sha256(b"\0".join(program)).hexdigest()
    inherited = {name: value for name, value in os.environ.items() if name in INHERITED}
    write_private(folder / "unit.json.next", json.dumps(unit))
    write_private(folder / "gateway.json.next", json.dumps(gateway, sort_keys=True))
    write_private(folder / "base.json.next", json.dumps(inherited))
    write_private(folder / "port", str(unit["port"]))
    print(change(folder, unit["digest"]))
    return 0


def change(folder: Path, digest: str) -> str:
    try:
        if json.loads((folder / "unit.json").read_text())["digest"] != digest:
            return "restart"
        is_same = (folder / "gateway.json").read_text() == (folder / "gateway.json.next").read_text()
    except (OSError, ValueError, KeyError):
        return "restart"
    return "" if is_same else "reload"


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), *sys.argv[2:6]))
