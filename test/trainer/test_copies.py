"""Copies that outlive the stack: directories, and S3 as moto has it, whose address is in AWS_ENDPOINT_URL."""

from __future__ import annotations

import os
from pathlib import Path

import boto3
import pytest

from tandem_trainer.copies import CopyError, keep_copy

FILES = {"README.md": b"x", "adapter_config.json": b"{}", "adapter_model.safetensors": b"weights" * 1000}


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    folder = tmp_path / "adapter"
    folder.mkdir()
    for name, data in FILES.items():
        (folder / name).write_bytes(data)
    return folder


@pytest.fixture(scope="module")
def s3():
    assert os.environ.get("AWS_ENDPOINT_URL", "").startswith("http://127.0.0.1:"), "an S3 of the tests' own is needed"
    client = boto3.client("s3")
    client.create_bucket(Bucket="adapters")
    return client


def contents(s3, prefix: str) -> dict[str, bytes]:
    keys = [row["Key"] for row in s3.list_objects_v2(Bucket="adapters", Prefix=prefix).get("Contents", [])]
    return {key: s3.get_object(Bucket="adapters", Key=key)["Body"].read() for key in keys}


def test_a_directory_gets_a_copy_and_the_next_one_replaces_it(adapter: Path, tmp_path: Path) -> None:
    place = tmp_path / "not" / "there" / "yet"
    for data in (b"one", b"two"):
        (adapter / "README.md").write_bytes(data)
        assert keep_copy(adapter, str(place), "ft_x") == str(place / "ft_x")
    assert sorted(file.name for file in (place / "ft_x").iterdir()) == sorted(FILES)
    assert (place / "ft_x" / "README.md").read_bytes() == b"two"
    assert [path.name for path in place.iterdir()] == ["ft_x"]


def test_says_why_a_directory_gets_none(adapter: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CopyError, match=r"can't be copied to .*/file/ft_x: "):
        keep_copy(adapter, str(tmp_path / "file"), "ft_x")


@pytest.mark.parametrize(
    ("target", "folder"),
    [("s3://adapters", "ft_x/"), ("s3://adapters/", "ft_x/"), ("s3://adapters/team/one/", "team/one/ft_x/")],
)
def test_an_s3_address_gets_every_file(s3, adapter: Path, target: str, folder: str) -> None:
    assert keep_copy(adapter, target, "ft_x") == f"s3://adapters/{folder}"
    assert contents(s3, folder) == {f"{folder}{name}": data for name, data in FILES.items()}


def test_says_why_an_s3_address_gets_none(s3, adapter: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(CopyError, match=r"s3://nowhere/x/ft_x/: .*NoSuchBucket"):
        keep_copy(adapter, "s3://nowhere/x", "ft_x")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(CopyError, match="Unable to locate credentials"):
        keep_copy(adapter, "s3://adapters", "ft_y")
    assert contents(s3, "ft_y/") == {}
