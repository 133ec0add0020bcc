"""Hyper-parameters, memory, adapters and where they lie."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy
import pytest
from safetensors.numpy import save_file

from tandem_trainer.adapters import AdapterError, check_adapter, read_base_model
from tandem_trainer.errors import ApiError
from tandem_trainer.hyperparameters import read_hyperparameters
from tandem_trainer.lora_init import initial_lora_a
from tandem_trainer.memory import GIB, USABLE, Misfit, nearest_settings, say_misfit
from tandem_trainer.placement import Placement

TARGETS = {"q_proj", "v_proj"}


def read(values: dict, metadata: dict | None = None, max_rank: int = 16):
    return read_hyperparameters(values, "method.supervised.hyperparameters", metadata or {}, 5, max_rank, TARGETS)


@pytest.mark.parametrize(
    ("values", "param", "text"),
    [
        ({"lora_rank": 17}, "lora_rank", "got 17 — allowed: a whole number from 1 to 16 — fix: ask for less, or raise"),
        ({"lora_rnk": 8}, "lora_rnk", "unknown hyper-parameter — got 'lora_rnk'"),
        ({"lora_rnk": 8}, "lora_rnk", "did you mean lora_rank?"),
        ({"n_epochs": 0}, "n_epochs", "got 0 — allowed: a whole number from 1 to 1000"),
        ({"n_epochs": 1.5}, "n_epochs", "got 1.5"),
        ({"n_epochs": True}, "n_epochs", "got True"),
        ({"batch_size": "many"}, "batch_size", "got 'many'"),
        ({"learning_rate_multiplier": -1}, "learning_rate_multiplier", "a number above 0"),
        ({"learning_rate_multiplier": float("nan")}, "learning_rate_multiplier", "a number above 0"),
        ({"lora_targets": ["q_proj", "w_proj"]}, "lora_targets", "got 'w_proj' — allowed: q_proj, v_proj"),
        ({"lora_targets": []}, "lora_targets", "got []"),
        ({"n_steps": 5, "n_epochs": 2}, "n_steps", "both given"),
    ],
)
def test_names_the_parameter_its_value_and_what_is_allowed(values: dict, param: str, text: str) -> None:
    with pytest.raises(ApiError) as caught:
        read(values)
    assert caught.value.param == f"method.supervised.hyperparameters.{param}"
    assert text in caught.value.message


def test_fills_in_what_is_auto() -> None:
    asked = read({"n_epochs": "auto", "batch_size": 4})
    assert asked.seed == 5
    resolved = asked.resolve(n_examples=10, max_rank=8, default_seed=1)
    assert (resolved.n_steps, resolved.n_epochs, resolved.lora_rank, resolved.lora_alpha) == (9, 3, 8, 16.0)
    assert read({"n_steps": 20, "batch_size": 4}).resolve(10, 8, 1).n_epochs == 8


def test_reads_what_a_client_can_only_put_into_metadata() -> None:
    asked = read({}, {"tandem.lora_rank": "4", "tandem.lora_targets": "v_proj, q_proj", "note": "mine"})
    assert (asked.lora_rank, asked.lora_targets) == (4, ("q_proj", "v_proj"))
    with pytest.raises(ApiError) as caught:
        read({}, {"tandem.rank": "4"})
    assert caught.value.param == "metadata.tandem.rank"


def misfit(**more: int) -> Misfit:
    values = {"free_bytes": GIB, "adapter_bytes": GIB // 10, "bytes_per_token": 100_000}
    return Misfit(**{**values, "batch_size": 16, "sequence_length": 2048, "rank": 16, **more})


@pytest.mark.parametrize(
    ("case", "wanted"),
    [
        (misfit(), "batch_size"),
        (misfit(sequence_length=20_000), "sequence_length"),
        (misfit(adapter_bytes=2 * GIB, batch_size=1), "lora_rank"),
    ],
)
def test_the_nearest_settings_fit_and_one_more_would_not(case: Misfit, wanted: str) -> None:
    (found,) = nearest_settings(case)

    def needed(batch: int, length: int, rank: int) -> float:
        return case.adapter_bytes * rank / case.rank + batch * length * case.bytes_per_token

    def with_more(extra: int) -> float:
        values = {
            "batch_size": case.batch_size,
            "sequence_length": case.sequence_length,
            "lora_rank": case.rank,
            **found,
        }
        values[wanted] += extra
        return needed(values["batch_size"], values["sequence_length"], values["lora_rank"])

    assert with_more(0) <= USABLE * case.free_bytes < with_more(16 if wanted == "sequence_length" else 1)


def test_says_so_when_nothing_fits() -> None:
    case = misfit(free_bytes=1000)
    assert nearest_settings(case) == []
    assert say_misfit(case, GIB).endswith("fix: give training a larger share")


def test_first_weights_depend_on_seed_and_module_only_and_are_spread_as_peft_does() -> None:
    one = initial_lora_a(1, "model.layers.0.self_attn.q_proj", 8, 64)
    assert one.shape == (8, 64) and one.dtype == numpy.float32
    assert numpy.array_equal(one, initial_lora_a(1, "model.layers.0.self_attn.q_proj", 8, 64))
    assert not numpy.array_equal(one, initial_lora_a(1, "model.layers.1.self_attn.q_proj", 8, 64))
    assert not numpy.array_equal(one, initial_lora_a(2, "model.layers.0.self_attn.q_proj", 8, 64))
    assert 0.11 < numpy.abs(one).max() <= 0.125


MODULE = "base_model.model.model.layers.0.self_attn.q_proj"


def write_adapter(
    folder: Path, rank: int = 4, a=(4, 128), b=(128, 4), module: str = MODULE, value: float = 1.0
) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "adapter_config.json").write_text(json.dumps({"r": rank, "lora_alpha": 8, "target_modules": ["q_proj"]}))
    weights = {"A": numpy.full(a, value, numpy.float32), "B": numpy.ones(b, numpy.float32)}
    save_file(
        {f"{module}.lora_{part}.weight": data for part, data in weights.items()}, folder / "adapter_model.safetensors"
    )
    return folder


def test_accepts_an_adapter_that_fits(tmp_path: Path, tiny_model: Path) -> None:
    assert check_adapter(write_adapter(tmp_path / "a"), read_base_model(tiny_model), 16) == 4


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"rank": 32}, "rank of the adapter — got 32 — allowed: 1 to 16"),
        ({"a": (4, 64)}, r"got shape [4, 64] — allowed: [4, 128]"),
        ({"b": (64, 4)}, r"got shape [64, 4] — allowed: [128, 4]"),
        ({"module": MODULE.replace("layers.0", "layers.9")}, "the base model has no module 'model.layers.9"),
        ({"module": "q_proj"}, "weight 'q_proj.lora_A.weight' — allowed"),
        ({"value": float("nan")}, "holds values that are not numbers"),
    ],
)
def test_refuses_an_adapter_that_does_not_fit(tmp_path: Path, tiny_model: Path, values: dict, text: str) -> None:
    folder = write_adapter(tmp_path / "a", **values)
    with pytest.raises(AdapterError) as caught:
        check_adapter(folder, read_base_model(tiny_model), 16)
    assert text in str(caught.value)


def test_refuses_an_adapter_that_is_cut_off(tmp_path: Path, tiny_model: Path) -> None:
    weights = write_adapter(tmp_path / "a") / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-10])
    with pytest.raises(AdapterError, match="bytes — allowed"):
        check_adapter(tmp_path / "a", read_base_model(tiny_model), 16)
    weights.write_bytes(b"junk")
    with pytest.raises(AdapterError, match="cut off"):
        check_adapter(tmp_path / "a", read_base_model(tiny_model), 16)


def test_adapters_that_memory_has_no_room_for_stay_readable_from_disk(tmp_path: Path) -> None:
    sizes = {name: write_adapter(tmp_path / "disk" / name) for name in ("one", "two", "three")}
    size = sum(file.stat().st_size for file in sizes["one"].iterdir())
    placement = Placement(tmp_path / "disk", tmp_path / "memory", limit_bytes=int(2.5 * size))
    placement.place("one")
    placement.place("two")
    placement.touch("one")
    placement.place("three")
    links = {path.name: path.is_symlink() for path in (tmp_path / "memory").iterdir()}
    assert links == {"one": False, "two": True, "three": False}
    for name in sizes:
        assert (placement.path(name) / "adapter_config.json").is_file()
    placement.remove("two")
    assert sorted(path.name for path in (tmp_path / "memory").iterdir()) == ["one", "three"]
    assert not (tmp_path / "disk" / "two").exists()


def test_what_memory_lost_is_put_there_again_and_what_a_killed_copy_left_is_removed(tmp_path: Path) -> None:
    write_adapter(tmp_path / "disk" / "one")
    placement = Placement(tmp_path / "disk", tmp_path / "memory", None)
    placement.place("one")
    shutil.rmtree(tmp_path / "memory" / "one")
    (tmp_path / "memory" / "one.part").mkdir()
    placement = Placement(tmp_path / "disk", tmp_path / "memory", None)
    assert (placement.place("one") / "adapter_model.safetensors").is_file()
    assert [path.name for path in (tmp_path / "memory").iterdir()] == ["one"]


@pytest.mark.parametrize(("limit", "said"), [(None, "is full"), (1 << 30, "True")])
def test_a_full_memory_file_system_is_named_or_the_disk_is_read_instead(
    tmp_path: Path, limit: int | None, said: str
) -> None:
    write_adapter(tmp_path / "disk" / "one", a=(4, 4096), b=(4096, 4))
    (tmp_path / "memory").mkdir()
    program = f"""
from pathlib import Path
from tandem_trainer.placement import Placement, PlacementError
placement = Placement(Path("disk"), Path("memory"), {limit})
try:
    path = placement.place("one")
    print(path.is_symlink() and (path / "adapter_config.json").is_file())
except PlacementError as error:
    print(error)
"""
    mount = 'mount -t tmpfs -o size=16k tmpfs memory && exec "$@"'
    argv = ["unshare", "-rm", "sh", "-c", mount, "sh", sys.executable, "-c", program]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(argv, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60, check=True)
    assert said in done.stdout
    if limit is None:
        assert "got an adapter of 0.1 MiB — allowed: 0.0 MiB — fix: delete models" in done.stdout
