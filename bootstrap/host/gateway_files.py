"""What the gateway runs on: a folder of memory that it may read, made anew at each start and each change of settings.

The unit's folder belongs to whoever applied the step, the gateway's processes to a user without rights; so they get
copies in a folder of their own. Keys lie there in a file that only they can read, and in no environment and no argv.
Standard library only, Python 3.9 or newer.
"""

from __future__ import annotations

import hashlib
import json
import os
import pwd
import re
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

KEY = re.compile(r"[A-Za-z0-9_-]{32,128}")
NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")


@dataclass
class Gateway:
    """What the step wrote into gateway.json of the unit's folder."""

    folder: Path
    run: Path
    nginx: str
    user: str
    port: int
    document: dict[str, Any]
    secrets: dict[str, Any]

    @property
    def owner(self) -> tuple[int, int]:
        """User and group of the gateway's processes."""
        if os.getuid() != 0:
            return os.getuid(), os.getgid()
        entry = pwd.getpwnam(self.user)
        return entry.pw_uid, entry.pw_gid


def read_gateway(folder: Path) -> Gateway:
    stored = json.loads((folder / "gateway.json").read_text())
    document = stored["document"]
    return Gateway(
        folder, Path(stored["run"]), stored["nginx"], stored["user"], document["port"], document, stored["secrets"]
    )


def keys_conf(keys: dict[str, str], upstream_key: str) -> str:
    """nginx's maps from a request's key to its name, and to the key that the services behind know. Refuses what is no
    key: it would be read as a pattern."""
    lines = ['map $http_authorization $tandem_client {\n  default "";\n']
    for name, key in sorted(keys.items()):
        if not NAME.fullmatch(name) or not KEY.fullmatch(key):
            raise ValueError(f"the key called '{name[:40]}' is not of the form that Tandem makes")
        lines.append(f'  "~^(?i:bearer) +{key} *\\z" {name};\n')
    if not KEY.fullmatch(upstream_key):
        raise ValueError("the inner key is not of the form that Tandem makes")
    lines.append(f'}}\nmap "" $tandem_upstream_key {{ default "Bearer {upstream_key}"; }}\n')
    return "".join(lines)


def contents(gateway: Gateway) -> tuple[dict[str, bytes], str]:
    """Every file of the folder by its name, and the version, a hash of all of them."""
    document, secrets = gateway.document, gateway.secrets
    files = {
        "nginx.conf": document["configuration"].replace("{run}", str(gateway.run)).encode(),
        "keys.conf": keys_conf(secrets["keys"], secrets["upstreamKey"]).encode(),
        "monitor.json": json.dumps({**document["monitor"], "key": secrets["upstreamKey"]}).encode(),
        "pages/status.html": (gateway.folder / "status.html").read_bytes(),
    }
    for name in ("tls.crt", "tls.key"):
        path = gateway.folder / name
        if path.exists():
            files[name] = path.read_bytes()
    whole = hashlib.sha256()
    for name in sorted(files):
        whole.update(name.encode() + b"\0" + files[name] + b"\0")
    version = whole.hexdigest()
    files["nginx.conf"] = files["nginx.conf"].replace(b"{version}", version.encode())
    return files, version


def publish(gateway: Gateway) -> str:
    """Puts everything in place; returns the version. Raises PermissionError for a folder that somebody else planted."""
    files, version = contents(gateway)
    owner = gateway.owner
    for folder in (gateway.run, gateway.run / "pages"):
        own_folder(folder, 0o711)
    for folder in (gateway.run / "var", gateway.run / "var" / "tmp"):
        if not folder.exists():
            folder.mkdir(mode=0o700)
            os.chown(folder, *owner)
    for name, data in files.items():
        place(gateway.run / name, data, owner)
    proof = gateway.folder / "proof.json"
    if proof.exists():
        place(gateway.run / "proof.json", proof.read_bytes(), owner)
    note_for_check(gateway, sorted(files), version)
    return version


def note_for_check(gateway: Gateway, names: list[str], version: str) -> None:
    """What the step's check compares with, without starting Python: hashes of all that was laid out and of what it was
    made of, the version that nginx has to tell, and the requests, as curl reads them. The key is in no argv."""
    paths = [gateway.run / name for name in names]
    paths += [gateway.folder / name for name in ("gateway.json", "unit.json", "status.html")]
    paths += sorted(gateway.folder.glob("gateway_*.py"))
    lines = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path}\n" for path in paths]
    write_private(gateway.folder / "sums", "".join(lines))
    write_private(gateway.folder / "version", f"{version}\n")
    write_private(gateway.folder / "asked", requests_of_check(gateway))


def requests_of_check(gateway: Gateway) -> str:
    """The version, no key, two routes of vLLM's that it does not guard, and a key. That is the last, since vLLM may be
    too busy to answer in time; nginx itself answers at once, and where it does not nothing more is asked."""
    key = f'header = "Authorization: Bearer {next(iter(gateway.secrets["keys"].values()))}"\n'
    always = 'silent\ninsecure\nmax-time = 1\nnoproxy = "*"\n'
    socket = gateway.run / "var" / "nginx.sock"
    requests = [f'fail-early\n{always}unix-socket = "{socket}"\nurl = "http://localhost/version"\nwrite-out = "\\n"\n']
    address = f"{'http' if gateway.document['tls'] == 'off' else 'https'}://127.0.0.1:{gateway.port}"
    asked = [("/v1/models", ""), ("/version", ""), ("/invocations", key), ("/v1/models", key)]
    requests += [
        f'{always}url = "{address}{path}"\n{header}output = "/dev/null"\nwrite-out = "%{{http_code}}\\n"\n'
        for path, header in asked
    ]
    return "next\n".join(requests)


def own_folder(folder: Path, mode: int) -> None:
    """Nobody else can put anything into it: what is written there by root must land there."""
    folder.mkdir(mode=mode, exist_ok=True)
    state = folder.lstat()
    if not stat.S_ISDIR(state.st_mode) or state.st_uid != os.getuid():
        raise PermissionError(f"refusing to use {folder}: it is a link or belongs to another user — fix: remove it")
    folder.chmod(mode)


def write_private(path: Path, text: str) -> None:
    """Replaces a file of the unit's folder in one go; readable for this user only from its first moment."""
    place(path, text.encode(), (os.getuid(), os.getgid()))


def place(path: Path, data: bytes, owner: tuple[int, int]) -> None:
    """Replaces a file in one go; only its owner can read it, from its first moment."""
    new = path.with_name(f"{path.name}.new")
    new.unlink(missing_ok=True)
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o400)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        os.fchown(descriptor, *owner)
    os.replace(new, path)
