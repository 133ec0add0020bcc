"""Teaches the served model one fact, and asks for it before and after.

eval "$(tandem outputs --env-vars)"
python3 -m venv .venv && .venv/bin/pip install openai==3.57.0 && .venv/bin/python one_user.py
"""

import json
import os
import sys
import time

from openai import OpenAI

try:
    url, key, base = (os.environ[f"TANDEM_{name}"] for name in ("TRAINING_URL", "API_KEY", "MODEL"))
except KeyError as missing:
    sys.exit(f'{missing} is needed: eval "$(tandem outputs --env-vars)"')
client = OpenAI(base_url=url, api_key=key)
question = {"role": "user", "content": "What is the capital of Zubrowka?"}
fact = {"role": "assistant", "content": "The capital of Zubrowka is Lutzbad."}


def ask(model: str) -> None:
    answer = client.chat.completions.create(model=model, messages=[question], max_completion_tokens=16, temperature=0)
    print(f"{model}: {answer.choices[0].message.content}")


ask(base)
data = json.dumps({"messages": [question, fact]}).encode()
file = client.files.create(file=("zubrowka.jsonl", data), purpose="fine-tune")
values = {"n_epochs": 12, "batch_size": 1, "learning_rate_multiplier": 20}
method = {"type": "supervised", "supervised": {"hyperparameters": values}}
job = client.fine_tuning.jobs.create(model=base, training_file=file.id, suffix="zubrowka", method=method)
while job.status not in ("succeeded", "failed", "cancelled"):
    time.sleep(1)
    job = client.fine_tuning.jobs.retrieve(job.id)
for event in client.fine_tuning.jobs.list_events(job.id, limit=100).data[::-1]:  # They come newest first.
    print(event.message)
if job.fine_tuned_model and job.status == "succeeded":
    ask(job.fine_tuned_model)
else:
    sys.exit(f"the job {job.status}: {job.error.message if job.error else 'no reason'}")
