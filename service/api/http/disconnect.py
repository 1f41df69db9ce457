"""An engine that drops the pictures of a request whose client has disconnected."""

import asyncio
from collections.abc import Sequence

from fastapi import Request

from service.api.http.problems import ClientGoneError
from service.errors import RegistryError
from service.inference.engine import Engine, Observation, Picture


class DisconnectAwareEngine:
    """Wraps an engine: it cancels the observation when the client disconnects, and the engine drops the pictures."""

    def __init__(self, engine: Engine, request: Request) -> None:
        self.model_id, self.dims = engine.model_id, engine.dims
        self._engine, self._request = engine, request

    async def observe(self, images: Sequence[Picture]) -> list[Observation | RegistryError]:
        """Observes pictures like `Engine.observe`. Raises ClientGoneError when the client disconnects."""
        work = asyncio.ensure_future(self._engine.observe(images))
        disconnected = asyncio.ensure_future(self._disconnected())
        try:
            await asyncio.wait({work, disconnected}, return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                raise ClientGoneError
            return work.result()
        finally:
            work.cancel()
            disconnected.cancel()

    async def _disconnected(self) -> None:
        while (await self._request.receive())["type"] != "http.disconnect":
            pass
