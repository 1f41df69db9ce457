"""Tests of the API behind a path of a proxy, over TLS, and on IPv6."""

import datetime
import ipaddress
import re
import ssl
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from service.errors import StartupError
from service.runtime.settings import load_settings
from tests.server import running_api


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 and its key."""
    folder = tmp_path_factory.mktemp("tls")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "registry")])
    now = datetime.datetime.now(datetime.UTC)
    addresses = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now)
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(addresses, critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    (folder / "cert.pem").write_bytes(signed.public_bytes(pem))
    plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    (folder / "key.pem").write_bytes(key.private_bytes(pem, *plain))
    return folder / "cert.pem", folder / "key.pem"


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


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"tls_cert": "missing.pem"}, "set both tls_cert and tls_key"),
        ({"tls_cert": "missing.pem", "tls_key": "missing.key"}, "missing.pem does not exist"),
        ({"root_path": "faces"}, "root_path"),
        ({"root_path": "/faces/"}, "root_path"),
    ],
)
def test_incomplete_settings_are_refused(settings: dict[str, str], message: str) -> None:
    with pytest.raises(StartupError, match=message):
        load_settings(server=settings)
