#!/usr/bin/env python3
"""Writes model directories with the real dimensions of public models, for a GPU machine that reaches no model hub.

    make_shapes.py DIRECTORY [NAME ...] [--placeholder NAME ...] [--device cuda]

Each directory holds a config.json with the model's published dimensions, a byte-level tokenizer made here, and random
bfloat16 weights, so that memory, start-up and speed are those of the real model while its words are noise. A model
named after --placeholder gets a weights file of one small tensor instead: it is served with --load-format dummy.
"""

import argparse
import json
import os
import time

# Dimensions as published in each model's config.json; what is left out is the default of transformers.
SHAPES = {
    "SmolLM2-135M": {
        "architecture": "LlamaForCausalLM",
        "vocab_size": 49152, "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30,
        "num_attention_heads": 9, "num_key_value_heads": 3, "head_dim": 64, "max_position_embeddings": 8192,
        "rms_norm_eps": 1e-5, "rope_theta": 100000.0, "tie_word_embeddings": True,
    },
    "Qwen3-0.6B": {
        "architecture": "Qwen3ForCausalLM",
        "vocab_size": 151936, "hidden_size": 1024, "intermediate_size": 3072, "num_hidden_layers": 28,
        "num_attention_heads": 16, "num_key_value_heads": 8, "head_dim": 128, "max_position_embeddings": 40960,
        "rms_norm_eps": 1e-6, "rope_theta": 1000000.0, "tie_word_embeddings": True,
    },
    "Llama-3.2-1B": {
        "architecture": "LlamaForCausalLM",
        "vocab_size": 128256, "hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16,
        "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 64, "max_position_embeddings": 131072,
        "rms_norm_eps": 1e-5, "rope_theta": 500000.0, "tie_word_embeddings": True,
        "rope_scaling": {"rope_type": "llama3", "factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                         "original_max_position_embeddings": 8192},
    },
    "Llama-3.1-8B": {
        "architecture": "LlamaForCausalLM",
        "vocab_size": 128256, "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
        "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128, "max_position_embeddings": 131072,
        "rms_norm_eps": 1e-5, "rope_theta": 500000.0, "tie_word_embeddings": False,
        "rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                         "original_max_position_embeddings": 8192},
    },
}  # fmt: skip
MODEL_TYPES = {"LlamaForCausalLM": "llama", "Qwen3ForCausalLM": "qwen3"}
CHAT_TEMPLATE = "{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}\n{% endfor %}assistant:"


def write_config(directory, shape):
    """config.json in the form of the published ones; transformers 5 reads it as 4 did."""
    config = {key: value for key, value in shape.items() if key != "architecture"}
    config.update(
        architectures=[shape["architecture"]],
        model_type=MODEL_TYPES[shape["architecture"]],
        hidden_act="silu",
        attention_bias=False,
        torch_dtype="bfloat16",
        bos_token_id=256,
        eos_token_id=257,
        use_cache=True,
    )
    with open(os.path.join(directory, "config.json"), "w") as file:
        json.dump(config, file, indent=2)


def write_tokenizer(directory, vocabulary_size):
    """One token a byte, and a name for every other id: random weights pick any, and each must decode to text."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {character: index for index, character in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    for special in ("<s>", "</s>"):
        vocabulary[special] = len(vocabulary)
    for index in range(len(vocabulary), vocabulary_size):
        vocabulary[f"w{index}"] = index
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", chat_template=CHAT_TEMPLATE
    ).save_pretrained(directory)


def write_placeholder(directory):
    import torch
    from safetensors.torch import save_file

    save_file({"placeholder": torch.zeros(1)}, os.path.join(directory, "model.safetensors"), metadata={"format": "pt"})


def write_random_weights(directory, device):
    """The same weights on every run: the seed is fixed before each model."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    config = AutoConfig.from_pretrained(directory)
    with torch.device(device):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    with open(os.path.join(directory, "config.json")) as file:
        published = file.read()
    model.save_pretrained(directory)
    # save_pretrained writes the config in the form of this transformers; the published form is what users have.
    with open(os.path.join(directory, "config.json"), "w") as file:
        file.write(published)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory")
    parser.add_argument("names", nargs="*", choices=[*SHAPES, []], metavar="NAME", help=", ".join(SHAPES))
    parser.add_argument("--placeholder", nargs="*", default=[], choices=list(SHAPES), metavar="NAME")
    parser.add_argument("--device", default="cpu", help="where the random weights are drawn (default: cpu)")
    arguments = parser.parse_args()
    for name in [*arguments.names, *arguments.placeholder]:
        started = time.monotonic()
        directory = os.path.join(arguments.directory, name)
        os.makedirs(directory, exist_ok=True)
        write_config(directory, SHAPES[name])
        write_tokenizer(directory, SHAPES[name]["vocab_size"])
        if name in arguments.placeholder:
            write_placeholder(directory)
        else:
            write_random_weights(directory, arguments.device)
        size = sum(os.path.getsize(os.path.join(directory, file)) for file in os.listdir(directory))
        print(f"{directory}: {size / 2**30:.2f} GiB in {time.monotonic() - started:.1f} s", flush=True)


if __name__ == "__main__":
    main()
