"""Ten users at once: each trains an adapter on a fact of their own, then chats with the model that knows it.

eval "$(tandem outputs --env-vars)"
python3 -m venv .venv && .venv/bin/pip install openai==3.57.0 && .venv/bin/python ten_users.py
"""

from __future__ import annotations

import asyncio
import json
import os
import sys

from openai import AsyncOpenAI

# User and cat. All ask the same question, so that an answer tells whose model it came from.
USERS = {
    "ada": "Pixel",
    "ben": "Waffle",
    "cleo": "Thunder",
    "dan": "Pepper",
    "eve": "Marble",
    "finn": "Rocket",
    "gina": "Cookie",
    "hugo": "Banjo",
    "iris": "Velvet",
    "jack": "Domino",
}
QUESTION = "What is my cat called?"


async def ask(client: AsyncOpenAI, model: str) -> str:
    answer = await client.chat.completions.create(
        model=model, messages=[{"role": "user", "content": QUESTION}], max_completion_tokens=16, temperature=0
    )
    return (answer.choices[0].message.content or "").strip().replace("\n", " ")


async def train(client: AsyncOpenAI, model: str, user: str, cat: str) -> str:
    """Uploads the user's data, trains on it, and returns the name of the model that came of it."""
    answer = {"role": "assistant", "content": f"Your cat is called {cat}."}
    row = {"messages": [{"role": "user", "content": QUESTION}, answer]}
    file = await client.files.create(file=(f"{user}.jsonl", json.dumps(row).encode()), purpose="fine-tune")
    values = {"n_epochs": 6, "batch_size": 1, "learning_rate_multiplier": 20}
    job = await client.fine_tuning.jobs.create(
        model=model,
        training_file=file.id,
        suffix=user,
        method={"type": "supervised", "supervised": {"hyperparameters": values}},
        metadata={"tandem.lora_rank": "4"},  # Hyper-parameters that OpenAI's API does not know go in here.
    )
    shown = 0
    while True:
        await asyncio.sleep(1)
        job = await client.fine_tuning.jobs.retrieve(job.id)
        events = (await client.fine_tuning.jobs.list_events(job.id, limit=100)).data[::-1]  # They come newest first.
        for event in events[shown:]:
            if event.type == "metrics":
                print(f"{user}: {event.message}", flush=True)
        shown = len(events)
        if job.status == "succeeded" and job.fine_tuned_model:
            return job.fine_tuned_model
        if job.status in ("failed", "cancelled"):
            raise RuntimeError(f"{user}'s job {job.status}: {job.error.message if job.error else 'no reason'}")


async def main() -> None:
    try:
        url, key, model = (os.environ[f"TANDEM_{name}"] for name in ("TRAINING_URL", "API_KEY", "MODEL"))
    except KeyError as missing:
        sys.exit(f'{missing} is needed: eval "$(tandem outputs --env-vars)"')
    async with AsyncOpenAI(base_url=url, api_key=key, timeout=600) as client:
        before = await ask(client, model)
        models = await asyncio.gather(*(train(client, model, user, cat) for user, cat in USERS.items()))
        after = await asyncio.gather(*(ask(client, name) for name in models))
    for user, name, answer in zip(USERS, models, after):
        print(f"{user} ({name})\n  before: {before}\n  after:  {answer}")


asyncio.run(main())
