"""Limits the uploads of the studio, which anybody who reaches it can send."""

import asyncio
import contextlib
from pathlib import Path

from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

UPLOAD = "/gradio_api/upload"
MAX_STORED_BYTES = 1024**3
"""Bytes of all uploaded pictures together. They are deleted after ten minutes."""
MAX_CONCURRENT = 8
RETRY_AFTER_S = 60


class UploadQuota:
    """Refuses an upload with 503 before it is read, if too many are running or too much is stored.

    Args:
        folder: where Gradio stores uploads.
    """

    def __init__(
        self, app: ASGIApp, folder: Path, max_bytes: int = MAX_STORED_BYTES, max_concurrent: int = MAX_CONCURRENT
    ) -> None:
        self._app, self._folder = app, folder
        self._max_bytes, self._max_concurrent = max_bytes, max_concurrent
        self._running = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "POST" or not scope["path"].endswith(UPLOAD):
            await self._app(scope, receive, send)
            return
        if self._running >= self._max_concurrent or await asyncio.to_thread(self._is_full):
            headers = {"retry-after": str(RETRY_AFTER_S)}
            text = "The studio holds too many uploaded pictures; try again in a minute."
            await PlainTextResponse(text, 503, headers)(scope, receive, send)
            return
        self._running += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._running -= 1

    def _is_full(self) -> bool:
        stored = 0
        for file in self._folder.rglob("*"):
            with contextlib.suppress(FileNotFoundError):  # deleted meanwhile
                stored += file.stat().st_size
        return stored >= self._max_bytes
