"""The registry behind nginx, Caddy and Traefik, with the configurations of `deploy/proxy`.

Debian has no package of Traefik: TRAEFIK= names the program.
"""

import contextlib
import os
import shutil
import signal
import ssl
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import httpx
import pytest

from tests.contract.test_jobs import finished_job
from tests.e2e.optional_tools import unavailable
from tests.photos import COLLINS, b64, zipped
from tests.server import RunningApi, create_key, free_port, running_api, wait_for

CONFIGURATIONS = Path("deploy/proxy")
CLIENT = "203.0.113.9"
TRAEFIK = os.environ.get("TRAEFIK", "")
PATH = "/usr/local/sbin:/usr/sbin:/usr/local/bin:/usr/bin"


def program(name: str) -> str:
    return shutil.which(name, path=PATH) or unavailable(f"{name} is not installed; run bash tools/test_programs.sh")


@contextlib.contextmanager
def running(
    command: list[str], port: int, certificate: Path, log: Path, stop: int = signal.SIGTERM
) -> Iterator[httpx.Client]:
    """Runs a proxy and yields a client that uses it over TLS. `stop`: the signal that ends it."""
    context = ssl.create_default_context(cafile=str(certificate))
    environment = {"PATH": PATH, "HOME": str(log.parent)}
    with log.open("wb") as output, httpx.Client(base_url=f"https://127.0.0.1:{port}", verify=context) as client:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=environment)

        def answers() -> bool:
            assert process.poll() is None, log.read_text()
            with contextlib.suppress(httpx.TransportError):
                return client.get("/healthz").status_code == 200
            return False

        try:
            wait_for(answers, 20)
            yield client
        finally:
            process.send_signal(stop)
            process.wait(20)


@contextlib.contextmanager
def nginx(
    upstream: str, certificate: tuple[Path, Path], folder: Path, replicas: Sequence[str] = ()
) -> Iterator[httpx.Client]:
    """Runs nginx in front of one API, or of replicas that divide the collections."""
    port = free_port()
    site = (CONFIGURATIONS / "nginx.conf").read_text()
    changes = {
        "# hash": "hash" if replicas else "#",
        "server 127.0.0.1:8000": "; ".join(f"server {address}" for address in replicas or [upstream]),
        "listen 443": f"listen 127.0.0.1:{port}",
        "    listen [::]:443 ssl http2;\n": "",
        "/etc/ssl/registry/cert.pem": str(certificate[0]),
        "/etc/ssl/registry/key.pem": str(certificate[1]),
    }
    for before, after in changes.items():
        assert before in site
        site = site.replace(before, after)
    temporary = "".join(f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi"))
    temporary += f"uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;"
    main = f"user root; daemon off; pid {folder}/pid; error_log stderr; events {{}}\n"
    (folder / "nginx.conf").write_text(f"{main}http {{ access_log off; {temporary}\n{site}}}\n")
    command = [program("nginx"), "-c", str(folder / "nginx.conf"), "-p", str(folder)]
    with running(command, port, certificate[0], folder / "nginx.log") as client:
        yield client


@contextlib.contextmanager
def caddy(upstream: str, certificate: tuple[Path, Path], folder: Path) -> Iterator[httpx.Client]:
    port = free_port()
    site = (CONFIGURATIONS / "Caddyfile").read_text()
    tls = f"https://127.0.0.1:{port} {{\n\ttls {certificate[0]} {certificate[1]}"
    for before, after in {
        "registry.example.org {": tls,
        "reverse_proxy 127.0.0.1:8000": f"reverse_proxy {upstream}",
    }.items():
        assert before in site
        site = site.replace(before, after)
    (folder / "Caddyfile").write_text("{\n\tadmin off\n\tauto_https disable_redirects\n}\n" + site)
    command = [program("caddy"), "run", "--config", str(folder / "Caddyfile"), "--adapter", "caddyfile"]
    with running(command, port, certificate[0], folder / "caddy.log") as client:
        yield client


@contextlib.contextmanager
def traefik(upstream: str, certificate: tuple[Path, Path], folder: Path) -> Iterator[httpx.Client]:
    port = free_port()
    site = (CONFIGURATIONS / "traefik.yaml").read_text()
    for before, after in {
        "registry.example.org": "127.0.0.1",
        "http://127.0.0.1:8000": f"http://{upstream}",
        "/etc/ssl/registry/cert.pem": str(certificate[0]),
        "/etc/ssl/registry/key.pem": str(certificate[1]),
    }.items():
        assert before in site
        site = site.replace(before, after)
    (folder / "traefik.yaml").write_text(site)
    arguments = [
        f"--entryPoints.websecure.address=127.0.0.1:{port}",
        f"--providers.file.filename={folder}/traefik.yaml",
    ]
    # Some versions of Traefik 2 do not end after SIGTERM while a connection is kept alive.
    with running([TRAEFIK, *arguments], port, certificate[0], folder / "traefik.log", signal.SIGKILL) as client:
        yield client


def clients_of(api: RunningApi, headers: dict[str, str]) -> list[str | None]:
    """Returns the address in each entry of the audit trail, the oldest first."""
    entries = api.client.get("/audit", params={"collection": "default"}, headers=headers).json()["entries"]
    return [entry["details"].get("client") for entry in sorted(entries, key=lambda entry: entry["number"])]


def use(proxy: httpx.Client, headers: dict[str, str], name: str) -> None:
    """Enrols a person and an archive as a page of the published origin."""
    origin = str(proxy.base_url).rstrip("/")
    sent = headers | {"origin": origin}
    body = {"label": name, "images": [b64(COLLINS.read_bytes())]}
    created = proxy.post("/register", json=body, headers=sent)
    assert created.status_code == 201, created.text
    assert proxy.get("/", headers=headers).headers["location"] == "/docs"
    assert proxy.get("/docs").status_code == 200
    foreign = proxy.get("/collections", headers=headers | {"origin": "https://elsewhere.example"})
    assert foreign.json()["code"] == "foreign_origin"
    archive = zipped({f"{name}/1.jpg": COLLINS.read_bytes(), f"{name}/2.jpg": b"-" * 3_000_000})  # more than 1 MB
    started = proxy.post("/jobs/enrolments", content=archive, headers=sent | {"content-type": "application/zip"})
    assert started.status_code == 202, started.text
    finished_job(proxy, started.headers["location"], headers)


@pytest.mark.parametrize("through_socket", [False, True])
def test_both_proxies(data_folder: Path, certificate: tuple[Path, Path], tmp_path: Path, through_socket: bool) -> None:
    """Host header with the port, redirects, archives, and the client's address in the audit trail."""
    socket = tmp_path / "api.sock" if through_socket else None
    with running_api(data_folder, unix_socket=socket, REGISTRY_SERVER__REQUIRE_KEYS="true") as api:
        address = f"127.0.0.1:{api.client.base_url.port}"
        headers = {"x-api-key": create_key(data_folder, "enrol", "manage", "search", "audit")}
        use_of = {
            nginx: f"unix:{socket}" if through_socket else address,
            caddy: f"unix/{socket}" if through_socket else address,
        }
        for start, upstream in use_of.items():
            folder = tmp_path / start.__name__
            folder.mkdir()
            with start(upstream, certificate, folder) as proxy:
                use(proxy, headers | {"x-forwarded-for": CLIENT}, start.__name__)
        # nginx appends the client's address, a trusted one here, to what the client has sent. Caddy replaces it.
        found = clients_of(api, headers)
        assert found.count(CLIENT) == found.index(None) > 0


@pytest.mark.skipif(not TRAEFIK, reason="TRAEFIK= names no program")
def test_traefik(data_folder: Path, certificate: tuple[Path, Path], tmp_path: Path) -> None:
    with running_api(data_folder, REGISTRY_SERVER__REQUIRE_KEYS="true") as api:
        headers = {"x-api-key": create_key(data_folder, "enrol", "manage", "search", "audit")}
        with traefik(f"127.0.0.1:{api.client.base_url.port}", certificate, tmp_path) as proxy:
            use(proxy, headers | {"x-forwarded-for": CLIENT}, "traefik")
        assert set(clients_of(api, headers)) == {None}  # Traefik replaces what the client has sent
