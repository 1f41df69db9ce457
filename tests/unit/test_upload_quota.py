"""Tests of the limits of the studio's uploads."""

import asyncio
from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from service.studio.upload_quota import UploadQuota


class Studio:
    """An application that stores what it gets when `release` is set."""

    def __init__(self, folder: Path, **limits: int) -> None:
        self.release, self.started = asyncio.Event(), 0
        self.folder = folder
        routes = [Route("/en/gradio_api/upload", self.upload, methods=["POST"]), Route("/en/", self.page)]
        app = UploadQuota(Starlette(routes=routes), folder, **limits)
        transport = httpx.ASGITransport(app)
        self.client = httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1")

    async def upload(self, request: Request) -> PlainTextResponse:
        self.started += 1
        await self.release.wait()
        (self.folder / str(len(list(self.folder.iterdir())))).write_bytes(await request.body())
        return PlainTextResponse("stored")

    async def page(self, _: Request) -> PlainTextResponse:
        return PlainTextResponse("page")

    async def send(self, size: int) -> httpx.Response:
        return await self.client.post("/en/gradio_api/upload", content=b"x" * size)


async def test_uploads_beyond_the_stored_bytes_are_refused(tmp_path: Path) -> None:
    studio = Studio(tmp_path, max_bytes=250)
    studio.release.set()
    assert [(await studio.send(100)).status_code for _ in range(4)] == [200, 200, 200, 503]
    refused = await studio.send(1)
    assert refused.headers["retry-after"] == "60"
    assert (await studio.client.get("/en/")).text == "page"
    for file in tmp_path.iterdir():
        file.unlink()
    assert (await studio.send(100)).status_code == 200


@pytest.mark.parametrize("limit", [1, 3])
async def test_concurrent_uploads_are_limited(tmp_path: Path, limit: int) -> None:
    studio = Studio(tmp_path, max_concurrent=limit)
    running = [asyncio.ensure_future(studio.send(10)) for _ in range(limit)]
    while studio.started < limit:
        await asyncio.sleep(0.01)
    assert (await studio.send(10)).status_code == 503
    studio.release.set()
    assert [response.status_code for response in await asyncio.gather(*running)] == [200] * limit
    assert (await studio.send(10)).status_code == 200
