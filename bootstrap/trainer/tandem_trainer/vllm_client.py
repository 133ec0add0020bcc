"""What the trainer asks of one vLLM: its models, and to load and unload an adapter."""

from __future__ import annotations

import httpx

# Loading reads some megabytes: 0.1 s measured on two H100, 15 ms on a CPU. A busy engine answers between steps.
LOAD_SECONDS = 60.0
ASK_SECONDS = 5.0


class NotNow(Exception):
    """vLLM can't be reached or is going down: worth another try."""


class Refused(Exception):
    """vLLM says no, and will again."""


class VllmClient:
    """One address. Behind it may be several engines (`--data-parallel-size`).

    vLLM 0.32 gives an adapter to every one of them and answers when all have it (`DPLBAsyncMPClient`), as long as there
    is one API server process: each has a list of adapters of its own.
    """

    def __init__(self, url: str, client: httpx.AsyncClient, key: str | None) -> None:
        self.url = url.rstrip("/")
        self._client = client
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}

    async def models(self) -> dict[str, str]:
        """Path of each model that is served, by its name."""
        response = await self._ask("GET", "/v1/models", ASK_SECONDS)
        if response.status_code != 200:
            raise NotNow(f"{self.url}/v1/models answers {response.status_code}")
        return {model["id"]: model.get("root") or "" for model in response.json()["data"]}

    async def load(self, name: str, path: str) -> None:
        """Loads an adapter; succeeds when it is loaded already.

        Not with `load_inplace`: vLLM 0.32 remembers that flag and reads the adapter from the disk again before every
        engine step that uses it (`LRUCacheWorkerLoRAManager.add_adapter`). Our names are never used twice.
        """
        body = {"lora_name": name, "lora_path": path}
        response = await self._ask("POST", "/v1/load_lora_adapter", LOAD_SECONDS, body)
        if response.status_code == 200:
            return
        if response.status_code == 400 and (await self.models()).get(name) == path:
            return
        text = message_of(response)
        if response.status_code >= 500 and not await self.is_healthy():
            raise NotNow(f"{self.url} fails while it loads: {text}")
        if response.status_code in (502, 503, 504):
            raise NotNow(f"{self.url} answers {response.status_code}")
        raise Refused(f"vLLM at {self.url} refuses the adapter: {text}")

    async def unload(self, name: str) -> None:
        """Succeeds when it is not loaded."""
        response = await self._ask("POST", "/v1/unload_lora_adapter", LOAD_SECONDS, {"lora_name": name})
        if response.status_code not in (200, 404):
            raise NotNow(f"{self.url} does not unload {name}: {message_of(response)}")

    async def is_healthy(self) -> bool:
        try:
            return (await self._ask("GET", "/health", ASK_SECONDS)).status_code == 200
        except NotNow:
            return False

    async def complete(self, model: str, prompt: str, limit_seconds: float) -> str:
        """One token of text."""
        body = {"model": model, "prompt": prompt, "max_tokens": 1, "temperature": 0}
        response = await self._ask("POST", "/v1/completions", limit_seconds, body)
        if response.status_code != 200:
            raise Refused(f"{self.url} does not sample from {model}: {message_of(response)}")
        return response.json()["choices"][0]["text"]

    async def _ask(self, verb: str, path: str, limit_seconds: float, body: dict | None = None) -> httpx.Response:
        try:
            return await self._client.request(
                verb, f"{self.url}{path}", json=body, headers=self._headers, timeout=limit_seconds
            )
        except httpx.HTTPError as error:
            raise NotNow(f"{self.url} can't be reached: {type(error).__name__} {error}".rstrip()) from None


def message_of(response: httpx.Response) -> str:
    try:
        value = response.json()
        return str(value.get("error", value).get("message", value))
    except (ValueError, AttributeError):
        return f"status {response.status_code}: {response.text[:200]}"
