"""`python -m service`: runs the identity registry."""

import contextlib
import os
import socket
import sys
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from service.errors import StartupError
from service.gallery.access.scopes import Scope

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, help=__doc__)
database = typer.Typer(no_args_is_help=True, help="The registry's database.")
app.add_typer(database, name="db")
gallery = typer.Typer(no_args_is_help=True, help="The enrolled people.")
app.add_typer(gallery, name="gallery")
keys = typer.Typer(no_args_is_help=True, help="API keys: made here, shown once, kept as a hash.")
app.add_typer(keys, name="keys")


audit = typer.Typer(no_args_is_help=True, help="The audit trail: who did what to whose data.")
app.add_typer(audit, name="audit")


@app.command()
def api(
    host: Annotated[str | None, typer.Option(help="Address to bind to.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to bind to.")] = None,
    workers: Annotated[int | None, typer.Option(help="Processes that serve.")] = None,
) -> None:
    """Serve the HTTP API. Without a configured database it runs its own PostgreSQL below the data folder."""
    from service.runtime.settings import load_settings

    # Worker processes read the environment, so that is where options go.
    for name, value in {"HOST": host, "PORT": port, "WORKERS": workers}.items():
        if value is not None:
            os.environ[f"REGISTRY_SERVER__{name}"] = str(value)
    settings = load_settings()
    server = settings.server
    if settings.database.url is None and server.log_format == "text":
        typer.echo(f"what is enrolled lies in {settings.data_dir} (REGISTRY_DATA_DIR)", err=True)
    with _counted_together(server.workers):
        _serve("service.runtime.api:from_environment", server.host, server.port, server.workers)


@app.command()
def worker(
    host: Annotated[str | None, typer.Option(help="Address to bind to.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to bind to.")] = None,
) -> None:
    """Run the models for APIs that name this worker in REGISTRY_INFERENCE__WORKER_URL. It needs no database."""
    from service.runtime.settings import load_settings

    for name, value in {"HOST": host, "PORT": port}.items():
        if value is not None:
            os.environ[f"REGISTRY_WORKER__{name}"] = str(value)
    chosen = load_settings().worker
    # APIs keep their connections for 30 seconds; each request is in their logs.
    _serve("service.runtime.worker:from_environment", chosen.host, chosen.port, timeout_keep_alive=75, access_log=False)


@app.command()
def jobs(
    alive: Annotated[
        Path | None, typer.Option(help="File that is touched every five seconds while all is well, for health checks.")
    ] = None,
) -> None:
    """Work on jobs, such as bulk enrolments, in a process of its own. Set REGISTRY_JOBS__IN_API=false on the APIs then.

    Any number of them share the work. They need the database, the models or a worker, and the folder of uploads.
    """
    import asyncio

    from service.runtime.api import work_on_jobs
    from service.runtime.settings import load_settings
    from service.telemetry.logs import configure

    settings = load_settings()
    configure(settings.server.log_format)
    asyncio.run(work_on_jobs(settings, alive))


@database.command()
def upgrade() -> None:
    """Bring the schema to this release's revision (`alembic upgrade head` does the same)."""
    from service.gallery.storage import schema
    from service.gallery.storage.server import database_url
    from service.runtime.settings import load_settings

    settings = load_settings()
    with database_url(settings.owner_url, settings.postgres_folder) as url:
        schema.upgrade(url, app_password=settings.app_password)
        typer.echo(f"the schema is at revision {schema.this_release().wanted}")


@database.command()
def backup(output: Annotated[Path, typer.Argument(help="File to write. It is biometric data: encrypt it.")]) -> None:
    """Write all that the registry knows into one file, as of this moment, while the service goes on."""
    from service.gallery.maintenance import backup
    from service.gallery.storage.server import database_url
    from service.runtime.settings import load_settings

    settings = load_settings()
    with database_url(settings.owner_url, settings.postgres_folder) as url:
        size = backup.backup(url, output)
    typer.echo(f"{output}: {size / 1e6:.1f} MB")


@database.command()
def restore(
    file: Annotated[Path, typer.Argument(help="What `db backup` wrote.")],
    replace: Annotated[bool, typer.Option("--replace", help="In the place of what the database holds.")] = False,
) -> None:
    """Bring a backup into the database, all of it or nothing, and migrate it to this release.

    Stop the service before you replace what it uses. Who was erased, and which key was revoked, after the backup was
    made is back then.
    """
    from service.gallery.maintenance import backup
    from service.gallery.storage import schema
    from service.gallery.storage.server import database_url
    from service.runtime.settings import load_settings

    settings = load_settings()
    with database_url(settings.owner_url, settings.postgres_folder) as url:
        backup.restore(url, file, replace)
        schema.after_restore(url)
        schema.upgrade(url, app_password=settings.app_password)
    typer.echo(f"restored; the schema is at revision {schema.this_release().wanted}")


@database.command()
def purge() -> None:
    """Take the bytes of erased people out of the database's files. Nobody can read or write while it runs.

    Rewrites the tables that hold biometric data and builds their indexes anew: about as long as restoring a backup.
    """
    from service.gallery.maintenance import purge
    from service.gallery.storage.server import database_url
    from service.runtime.settings import load_settings

    settings = load_settings()
    with database_url(settings.owner_url, settings.postgres_folder) as url:
        for line in purge.purge(url):
            typer.echo(line)


@keys.command("create")
def create_key(
    name: Annotated[str, typer.Option(help="What it is for; shown in lists and refusals.")] = "first",
    scope: Annotated[list[Scope] | None, typer.Option(help="What it may do; repeatable. Default: everything.")] = None,
    collection: Annotated[str | None, typer.Option(help="The only collection that it is for.")] = None,
    days: Annotated[int | None, typer.Option(min=1, help="How long it is valid. Default: until revoked.")] = None,
    rate: Annotated[int | None, typer.Option(min=1, help="Requests a minute. Default: server.rate_limit.")] = None,
    output: Annotated[Path | None, typer.Option(help="Write it to this new file instead of showing it.")] = None,
    if_none: Annotated[bool, typer.Option("--if-none", help="Only where there is no valid key yet.")] = False,
) -> None:
    """Make a key. This is the only time that it can be read."""
    from service.cli import key_operations as operations

    secret = operations.create(name, scope or list(Scope), collection, days, output, if_none, rate)
    if secret is None:
        typer.echo("there is a valid key already; none was made")
    elif output is None:
        typer.echo(secret)
    else:
        typer.echo(f"the key {name!r} is in {output}")


@keys.command("list")
def list_keys() -> None:
    """Every key that was made, with what it may do."""
    from service.cli import key_operations as operations

    for key in operations.list_all():
        state = "revoked" if key.revoked_at else "expired" if key.has_expired else "valid"
        scopes = " ".join(sorted(key.scopes))
        typer.echo(f"{key.id}  {state:8} {key.name}  [{scopes}]  {key.collection or 'all collections'}")


@keys.command("revoke")
def revoke_key(key_id: Annotated[uuid.UUID, typer.Argument(help="Its id, from `keys list`.")]) -> None:
    """Make a key worthless, within five seconds on every running API."""
    from service.cli import key_operations as operations

    if not operations.revoke(key_id):
        raise StartupError(f"there is no valid key {key_id}")
    typer.echo(f"revoked {key_id}")


@audit.command("verify")
def verify_audit(
    heads: Annotated[Path | None, typer.Option(help="What `audit heads` wrote before, kept elsewhere since.")] = None,
) -> None:
    """Go through every chain: is any entry altered, missing, put in, or the end cut off?"""
    from service.cli import audit_operations as operations

    verdicts = operations.verify(heads)
    for verdict in verdicts:
        words = f"whole, {verdict.entries:,} entries" if verdict.problem is None else f"BROKEN: {verdict.problem}"
        typer.echo(f"{verdict.collection_id}  {verdict.collection or '(deleted)'}  {words}")
    if any(verdict.problem for verdict in verdicts):
        raise typer.Exit(1)


@audit.command("heads")
def export_heads(output: Annotated[Path, typer.Argument(help="New file (JSON).")]) -> None:
    """Write down where every chain ends. Kept where nobody can change it, it shows later what was cut off."""
    from service.cli import audit_operations as operations

    typer.echo(f"{output}: the ends of {operations.export_heads(output)} chains")


@gallery.command()
def report(
    collection: Annotated[str, typer.Option(help="Which collection.")] = "default",
    output: Annotated[Path, typer.Option(help="Where report.md and its pictures go.")] = Path("gallery-report"),
    threshold: Annotated[
        float | None, typer.Option(help="Report on this threshold instead of the collection's default.")
    ] = None,
) -> None:
    """How healthy a gallery is: scores, lookalikes, templates in the wrong place, and what growing would cost."""
    from service.gallery.storage.server import database_url
    from service.inference.bundle import read_embedder
    from service.recognition.decision import DecisionPolicy, OperatingPoint
    from service.report import run
    from service.runtime.settings import load_settings

    settings = load_settings()
    default = OperatingPoint("fmr", settings.recognition.fmr)
    manifests = map(read_embedder, settings.embedder.bundles)
    policies = {
        one.model_id: DecisionPolicy(one.calibration, settings.inference.precision, default) for one in manifests
    }
    asked = OperatingPoint.one_of(threshold=threshold)
    with database_url(settings.owner_url, settings.postgres_folder) as url:
        typer.echo(f"written: {run.report(url, policies, collection, output, asked)}")


@app.command()
def demo(
    photos: Annotated[Path | None, typer.Option(help="Your own folder of <name>/*.jpg instead of ours.")] = None,
    output: Annotated[Path, typer.Option(help="Where the annotated picture goes.")] = Path("demo-output"),
) -> None:
    """Enrol, verify and find real people through the HTTP API, and say whether every decision was right."""
    from service.demo.run import run

    raise typer.Exit(run(photos, output))


@contextlib.contextmanager
def _counted_together(processes: int) -> Iterator[None]:
    """Several processes behind one port answer /metrics as one, through a folder."""
    from service.telemetry.metrics import MULTIPROCESS_VARIABLE

    if processes == 1 or MULTIPROCESS_VARIABLE in os.environ:
        yield
        return
    with tempfile.TemporaryDirectory(prefix="registry-metrics-") as folder:
        os.environ[MULTIPROCESS_VARIABLE] = folder
        yield


def _serve(factory: str, host: str, port: int, processes: int = 1, **options: Any) -> None:
    import uvicorn

    from service.runtime.settings import load_settings
    from service.telemetry.logs import configuration

    _require_free(host, port)
    uvicorn.run(
        factory,
        factory=True,
        host=host,
        port=port,
        workers=processes,
        timeout_graceful_shutdown=30,
        server_header=False,
        log_config=configuration(load_settings().server.log_format),
        **options,
    )


def _require_free(host: str, port: int) -> None:
    """Before the models are loaded. Raises StartupError."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            trial.bind(address)
    except OSError as error:
        raise StartupError(
            f"the address {host}:{port} can't be had ({error.strerror or error}): name another with --host and --port"
        ) from None


def main() -> None:
    """Run a command; what an operator must know stands in one line."""
    try:
        app()
    except StartupError as error:
        sys.exit(f"identity-registry: {error}")


if __name__ == "__main__":
    main()
