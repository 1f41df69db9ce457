"""The limit of zip files applies to the paths whose routes write them to disk, and to no others."""

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from service.api.http.middleware import BodyLimit

pytestmark = pytest.mark.anyio
ZIP, JSON = "application/zip", "application/json"
PATHS = ["/jobs/enrolments", "/jobs/embedding-enrolments", "/collections/a/groups"]


async def read(request: Request) -> Response:
    async for _ in request.stream():
        pass
    return Response()


async def post(path: str, kind: str, size: int) -> httpx.Response:
    app = Starlette(routes=[Route("/{path:path}", read, methods=["POST"])])
    limited = BodyLimit(app, max_bytes=1_000, max_json_bytes=100, max_archive_bytes=10_000)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(limited), base_url="http://test") as client:
        return await client.post(path, content=b"x" * size, headers={"content-type": kind})


@pytest.mark.parametrize("path", PATHS)
async def test_an_archive_has_its_own_limit(path: str) -> None:
    assert (await post(path, ZIP, 9_000)).status_code == 200
    refused = await post(path, ZIP, 11_000)
    assert (refused.status_code, "max_archive_bytes" in refused.json()["detail"]) == (413, True)
    assert (await post(path, JSON, 101)).status_code == 413


@pytest.mark.parametrize(
    "path", ["/identities", "/jobs", "/collections/a", "/collections/a/groups/b", "/collections/a/b/groups"]
)
async def test_other_paths_accept_no_archive(path: str) -> None:
    refused = await post(path, ZIP, 101)
    assert (refused.status_code, "max_json_bytes" in refused.json()["detail"]) == (413, True)
