from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
HERE = Path(__file__).resolve().parent
PACKAGE = HERE.parent.parent / "bootstrap" / "trainer"
for folder in (HERE, PACKAGE):
    sys.path.insert(0, str(folder))

from fake_vllm import FakeVllm  # noqa: E402
from service import Service  # noqa: E402
from tiny_model import make_tiny_model  # noqa: E402


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def vllm() -> Iterator[FakeVllm]:
    fake = FakeVllm(key="tdm-test-key")
    yield fake
    fake.kill()


@pytest.fixture(scope="module")
def service(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, tiny_model: Path, vllm: FakeVllm
) -> Iterator[Service]:
    """A trainer with a real worker on the tiny model, shared by the tests of a file; its arguments are ARGUMENTS."""
    more = getattr(request.module, "ARGUMENTS", ())
    service = Service(tmp_path_factory.mktemp("trainer"), tiny_model, [vllm.url], *more)
    service.start()
    yield service
    service.stop()
