"""Requests to a service without API keys, and headers of every response."""

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route
from starlette.testclient import TestClient

from service.api.http.open_access import FORWARDING, OpenAccess
from service.api.http.security_headers import SecurityHeaders


def served(behind_proxy: bool = False) -> TestClient:
    async def json(request: Request) -> Response:
        return JSONResponse({})

    async def page(request: Request) -> Response:
        return HTMLResponse("<p>")

    async def picture(request: Request) -> Response:
        return Response("<svg/>", media_type="image/svg+xml")

    app = Starlette(routes=[Route("/x", json, methods=["GET", "POST"]), Route("/docs", page), Route("/p.svg", picture)])
    app.add_middleware(OpenAccess, behind_proxy=behind_proxy)
    app.add_middleware(SecurityHeaders)
    return TestClient(app)


@pytest.mark.parametrize("name", FORWARDING)
def test_forwarded_requests_are_refused_unless_a_proxy_restricts_access(name: str) -> None:
    refused = served().get("/x", headers={name: "203.0.113.9"})
    assert (refused.status_code, refused.json()["code"]) == (403, "foreign_origin")
    assert "server.require_keys" in refused.json()["detail"]
    assert served(behind_proxy=True).get("/x", headers={name: "203.0.113.9"}).status_code == 200


def test_cross_site_requests_are_refused_except_links_to_the_documentation() -> None:
    client = served()
    for site in ("cross-site", "same-site"):
        headers = {"sec-fetch-site": site, "sec-fetch-mode": "no-cors"}
        assert client.get("/x", headers=headers).status_code == 403
        assert client.post("/x", headers=headers).status_code == 403
        assert client.get("/docs", headers=headers).status_code == 200
    for site in ("same-origin", "none"):
        assert client.get("/x", headers={"sec-fetch-site": site}).status_code == 200


def test_every_response_has_security_headers() -> None:
    client = served()
    for path, policy in (("/x", "default-src 'none'"), ("/p.svg", "sandbox"), ("/docs", "frame-ancestors 'none'")):
        headers = client.get(path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cache-control"] == "no-store"
        assert policy in headers["content-security-policy"]
