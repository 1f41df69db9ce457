"""Tests of the API behind a path of a proxy, over TLS, and on IPv6."""

import re
import socket
import ssl
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from service.errors import StartupError
from service.runtime.settings import load_settings
from tests.server import running_api


def test_https_ipv6_and_a_path_of_a_proxy(data_folder: Path, certificate: tuple[Path, Path]) -> None:
    """One server for all three; each takes seconds to start."""
    cert, key = certificate
    with running_api(data_folder, REGISTRY_SERVER__ROOT_PATH="/faces") as api:
        for prefix in ("", "/faces"):  # the proxy removes the path, or leaves it
            assert api.client.get(f"{prefix}/healthz").json()["status"] == "alive"
        for path in ("/", "/faces/"):
            assert api.client.get(path).headers["location"] == "/faces/docs"
        unknown = api.client.get("/faces/unknown").json()
        assert unknown["detail"].startswith("/unknown is not a path of this service")
        document = api.client.get("/faces/openapi.json").json()
        assert document["servers"] == [{"url": "/faces"}]
        page = api.client.get("/faces/docs").text
        assert "/faces/openapi.json" in page
        [script] = re.findall(r'<script src="([^"]+)"', page)
        assert api.client.get(script).status_code == 200
    environment = {"REGISTRY_SERVER__TLS_CERT": str(cert), "REGISTRY_SERVER__TLS_KEY": str(key)}
    trusted = ssl.create_default_context(cafile=str(cert))
    with running_api(data_folder, verify=trusted, **environment) as api:
        port = api.client.base_url.port
        assert api.client.get("/healthz").json()["status"] == "alive"
        with pytest.raises(httpx.TransportError):
            httpx.get(f"http://127.0.0.1:{port}/healthz")
        with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
            httpx.get(f"https://127.0.0.1:{port}/healthz")
    with running_api(data_folder, host="::1") as api:
        assert str(api.client.base_url.host) == "::1"
        assert api.client.get("/healthz").json()["status"] == "alive"


def test_a_unix_socket_and_pages_of_an_allowed_origin(data_folder: Path, tmp_path: Path) -> None:
    path, origin = tmp_path / "api.sock", "https://app.example.org"
    with socket.socket(socket.AF_UNIX) as abandoned:  # of a process that was killed
        abandoned.bind(str(path))
    with running_api(data_folder, unix_socket=path, REGISTRY_SERVER__CORS_ORIGINS=f'["{origin}"]') as api:
        allowed = api.client.get("/collections", headers={"origin": origin, "sec-fetch-site": "cross-site"})
        assert (allowed.status_code, allowed.headers["access-control-allow-origin"]) == (200, origin)
        assert "x-request-id" in allowed.headers["access-control-expose-headers"].lower()
        asked = {"access-control-request-method": "DELETE", "access-control-request-headers": "x-api-key,content-type"}
        preflight = api.client.options("/identities/1", headers={"origin": origin} | asked)
        assert (preflight.status_code, preflight.headers["access-control-allow-origin"]) == (200, origin)
        assert "access-control-allow-credentials" not in preflight.headers
        refused = api.client.get("/collections/nobody", headers={"origin": origin})
        assert (refused.status_code, refused.headers["access-control-allow-origin"]) == (404, origin)
        for other in ("https://other.example", "http://app.example.org", "https://app.example.org:444", "null"):
            response = api.client.get("/collections", headers={"origin": other})
            assert (response.status_code, response.json()["code"]) == (403, "foreign_origin")
            assert "access-control-allow-origin" not in response.headers
            assert api.client.options("/collections", headers={"origin": other} | asked).status_code == 400
        second = [sys.executable, "-m", "service", "serve", "--unix-socket", str(path)]
        taken = subprocess.run(second, capture_output=True, text=True, timeout=60)
        assert (taken.returncode, "another process listens on it" in taken.stderr) == (1, True)
        assert api.client.get("/healthz").status_code == 200


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"tls_cert": "missing.pem"}, "set both tls_cert and tls_key"),
        ({"tls_cert": "missing.pem", "tls_key": "missing.key"}, "missing.pem does not exist"),
        ({"root_path": "faces"}, "root_path"),
        ({"root_path": "/faces/"}, "root_path"),
        ({"cors_origins": ["*"]}, "must have the form https://app.example.org"),
        ({"cors_origins": ["https://app.example.org/"]}, "without a path"),
        ({"trusted_proxies": ["proxy.example.org"]}, "trusted_proxies"),
    ],
)
def test_incomplete_settings_are_refused(settings: dict[str, str], message: str) -> None:
    with pytest.raises(StartupError, match=message):
        load_settings(server=settings)
