"""`serve`, `worker` and `jobs`: the processes of the service."""

import contextlib
import os
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from service.errors import StartupError

METRICS_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
DRAIN_S, DRAIN_WITH_STUDIO_S = 30, 5
"""Time in which running requests may end after a signal to stop. A page of the studio keeps one request open."""


def serve(
    host: Annotated[str | None, typer.Option(help="Address to bind to. Default: the setting server.host.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to bind to. Default: the setting server.port.")] = None,
    workers: Annotated[int | None, typer.Option(help="Number of processes. Default: server.workers.")] = None,
    unix_socket: Annotated[
        Path | None, typer.Option(help="Unix socket to bind to instead. Default: server.unix_socket.")
    ] = None,
    tls_cert: Annotated[Path | None, typer.Option(help="Certificate for HTTPS. Default: server.tls_cert.")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="Its private key. Default: server.tls_key.")] = None,
) -> None:
    """Serve the HTTP API. Without a configured database it runs its own PostgreSQL below the data folder.

    Examples: `identity-registry serve`, `identity-registry serve --host 0.0.0.0 --workers 2`.
    """
    from service.cli import location
    from service.runtime.settings import load_settings

    chosen = {"HOST": host, "PORT": port, "WORKERS": workers, "UNIX_SOCKET": unix_socket}
    _set_environment("SERVER", **chosen, TLS_CERT=tls_cert, TLS_KEY=tls_key)
    settings = load_settings()
    server = settings.server
    if settings.database.url is None and server.log_format == "text":
        typer.echo(location.describe(settings), err=True)
    with _shared_metrics(server.workers):
        options: dict[str, Any] = {"ssl_certfile": server.tls_cert, "ssl_keyfile": server.tls_key}
        options["unix_socket"] = server.unix_socket
        _run("service.runtime.api:from_environment", server.host, server.port, server.workers, **options)


def worker(
    host: Annotated[str | None, typer.Option(help="Address to bind to. Default: the setting worker.host.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to bind to. Default: the setting worker.port.")] = None,
) -> None:
    """Run the models for APIs whose REGISTRY_INFERENCE__WORKER_URL names this worker. A worker needs no database."""
    from service.runtime.settings import load_settings

    _set_environment("WORKER", HOST=host, PORT=port)
    chosen = load_settings().worker
    # APIs keep connections open for 30 seconds. The API's log has every request, so the worker logs none.
    options: dict[str, Any] = {"timeout_keep_alive": 75, "access_log": False}
    _run("service.runtime.worker:from_environment", chosen.host, chosen.port, **options)


def jobs(
    alive: Annotated[
        Path | None,
        typer.Option(help="File that is touched every five seconds while the database responds, for health checks."),
    ] = None,
) -> None:
    """Run background jobs, such as bulk enrolments, in a separate process.

    Set REGISTRY_JOBS__IN_API=false for the APIs. Several such processes share the jobs. Each needs the database, the
    models or a worker, and the folder of uploads.
    """
    import asyncio

    from service.runtime.jobs import serve_jobs
    from service.runtime.settings import load_settings
    from service.telemetry.logs import configure

    settings = load_settings()
    configure(settings.server.log_format)
    asyncio.run(serve_jobs(settings, alive))


def demo(
    photos: Annotated[Path | None, typer.Option(help="Your own folder of <name>/*.jpg.")] = None,
    output: Annotated[Path, typer.Option(help="Folder for the annotated picture.")] = Path("demo-output"),
) -> None:
    """Enrol, verify and search for people in photographs through the HTTP API, and check every decision."""
    from service.demo.run import run

    raise typer.Exit(run(photos, output))


def _set_environment(section: str, **values: object) -> None:
    """Sets environment variables, from which uvicorn's processes read the options."""
    for name, value in values.items():
        if value is not None:
            os.environ[f"REGISTRY_{section}__{name}"] = str(value)


@contextlib.contextmanager
def _shared_metrics(processes: int) -> Iterator[None]:
    """Creates the temporary folder through which several processes behind one port add up their metrics."""
    if processes == 1 or METRICS_VARIABLE in os.environ:
        yield
        return
    with tempfile.TemporaryDirectory(prefix="registry-metrics-") as folder:
        os.environ[METRICS_VARIABLE] = folder
        yield


def _run(
    factory: str, host: str, port: int, processes: int = 1, unix_socket: Path | None = None, **options: Any
) -> None:
    import uvicorn

    from service.api.http.protocol import bounded_protocol
    from service.runtime.settings import load_settings
    from service.telemetry.logs import configuration

    if unix_socket is None:
        _require_free(host, port)
    else:
        _remove_abandoned(unix_socket)
    settings = load_settings()
    uvicorn.run(
        factory,
        factory=True,
        host=host,
        port=port,
        workers=processes,
        timeout_graceful_shutdown=DRAIN_WITH_STUDIO_S if settings.studio.mounted else DRAIN_S,
        uds=None if unix_socket is None else str(unix_socket),
        server_header=False,
        proxy_headers=False,  # `ClientAddress` reads them
        http=bounded_protocol(settings.limits.headers_timeout_s),
        log_config=configuration(settings.server.log_format),
        **options,
    )


def _require_free(host: str, port: int) -> None:
    """Checks the address before the models are loaded. Raises StartupError."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            trial.bind(address)
    except OSError as error:
        raise StartupError(
            f"cannot bind to {host}:{port} ({error.strerror or error}); choose another address with --host and --port"
        ) from None


def _remove_abandoned(path: Path) -> None:
    """Deletes a Unix socket on which no process listens any more. Raises StartupError."""
    reason = "it is no socket"
    try:
        if path.exists() and not path.is_socket():
            raise StartupError(f"cannot bind to {path} ({reason}); choose another path with --unix-socket")
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
        reason = "another process listens on it"
    except FileNotFoundError:
        return
    except ConnectionRefusedError:
        path.unlink()
        return
    except OSError as error:
        reason = error.strerror or str(error)
    raise StartupError(f"cannot bind to {path} ({reason}); choose another path with --unix-socket")
