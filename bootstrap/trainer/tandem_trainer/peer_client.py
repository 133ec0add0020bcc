"""Another host's trainer, which gives this one's adapters to its vLLMs: vLLM reads from its own host's paths only."""

from __future__ import annotations

import asyncio
import io
import tarfile
from pathlib import Path

import httpx

from .vllm_client import ASK_SECONDS, NotNow, Refused, VllmClient, message_of

# An adapter of rank 64 for a model of 70 billion parameters is 1.6 GB; 1 Gbit/s carries that in 13 s.
SEND_SECONDS = 300.0


class PeerClient(VllmClient):
    """Looks like a vLLM to `Handover`. `memory` is where this host's own vLLMs read, `origin` names this trainer."""

    def __init__(self, url: str, client: httpx.AsyncClient, key: str | None, memory: Path, origin: str) -> None:
        super().__init__(url, client, key)
        self._memory = memory
        self._origin = origin

    async def models(self) -> dict[str, str]:
        """Those that this trainer sent, under the paths that they have here."""
        response = await self._ask("GET", f"/adapters/{self._origin}", ASK_SECONDS)
        if response.status_code != 200:
            raise NotNow(f"{self.url}/adapters answers {response.status_code}")
        return {row["model"]: str(self._memory / row["folder"]) for row in response.json()["data"]}

    async def load(self, name: str, path: str) -> None:
        """Sends the files; the answer comes when every vLLM of that host has loaded them."""
        folder = Path(path)
        packed = await asyncio.to_thread(pack, folder)
        address = f"{self.url}/adapters/{self._origin}/{folder.name}"
        try:
            response = await self._client.put(
                address, params={"model": name}, content=packed, headers=self._headers, timeout=SEND_SECONDS
            )
        except httpx.HTTPError as error:
            raise NotNow(f"{self.url} can't be reached: {type(error).__name__} {error}".rstrip()) from None
        if response.status_code in (502, 503, 504):
            raise NotNow(f"{self.url}: {message_of(response)}")
        if response.status_code != 200:
            raise Refused(f"the trainer at {self.url} refuses the adapter: {message_of(response)}")

    async def unload(self, name: str) -> None:
        address = f"/adapters/{self._origin}?{httpx.QueryParams({'model': name})}"
        response = await self._ask("DELETE", address, ASK_SECONDS)
        if response.status_code not in (200, 404):
            raise NotNow(f"{self.url} does not unload {name}: {message_of(response)}")


def pack(folder: Path) -> bytes:
    """The adapter's files as a tar archive."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for file in sorted(folder.iterdir()):
            archive.add(file, arcname=file.name)
    return packed.getvalue()
