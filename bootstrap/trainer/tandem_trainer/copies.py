"""The copy of a finished adapter that outlives the stack: in a directory, or under an S3 address."""

from __future__ import annotations

import shutil
from pathlib import Path

# Written last: what has it is complete.
CONFIG = "adapter_config.json"
CONNECT_SECONDS = 10
READ_SECONDS = 60


class CopyError(Exception):
    """An adapter has no copy."""


def keep_copy(source: Path, target: str, name: str) -> str:
    """Copies an adapter to a directory or an `s3://bucket/prefix`; answers where it lies. Raises `CopyError`.

    `name` is made of letters, digits, '.', '_' and '-'.
    """
    if target.startswith("s3://"):
        return copy_to_s3(source, target, name)
    final = Path(target) / name
    part = final.with_name(f"{name}.part")
    try:
        shutil.rmtree(part, ignore_errors=True)
        shutil.copytree(source, part)
        shutil.rmtree(final, ignore_errors=True)
        part.rename(final)
    except OSError as error:
        shutil.rmtree(part, ignore_errors=True)
        raise CopyError(f"the adapter can't be copied to {final}: {error}") from error
    return str(final)


def copy_to_s3(source: Path, target: str, name: str) -> str:
    """Takes the credentials that the host has: its role, or those of the user who runs the trainer. None are kept."""
    from boto3.exceptions import Boto3Error
    from boto3.session import Session
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, ClientError

    bucket, _, prefix = target.removeprefix("s3://").partition("/")
    folder = "/".join(filter(None, (prefix.strip("/"), name)))
    address = f"s3://{bucket}/{folder}/"
    limits = Config(
        connect_timeout=CONNECT_SECONDS,
        read_timeout=READ_SECONDS,
        retries={"mode": "standard", "total_max_attempts": 4},
    )
    try:
        # A session of its own: the shared one is not for threads, and goes on with credentials that were taken back.
        client = Session().client("s3", config=limits)
        for file in sorted(source.iterdir(), key=lambda file: (file.name == CONFIG, file.name)):
            client.upload_file(str(file), bucket, f"{folder}/{file.name}")
    except (Boto3Error, BotoCoreError, ClientError, OSError) as error:
        raise CopyError(f"the adapter can't be copied to {address}: {error}") from error
    return address
