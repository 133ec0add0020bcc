"""Trains LoRA adapters beside a serving vLLM, behind OpenAI's fine-tuning API. See ../README.md."""
