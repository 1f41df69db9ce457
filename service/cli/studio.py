"""`studio`: the web interface."""

from pathlib import Path
from typing import Annotated

import typer

from service.cli import client_key
from service.errors import StartupError

PORT = 7860
DRAIN_S = 3
"""Time in which running requests may end after a signal to stop. Each page keeps one request open."""


def studio(
    url: Annotated[str, typer.Option(help="URL of the registry.")] = "http://127.0.0.1:8000",
    host: Annotated[str, typer.Option(help="Address to bind to.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to bind to.")] = PORT,
    collection: Annotated[str, typer.Option(help="Collection with which a page opens.")] = "default",
    key_file: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="File with an API key for all users; default: $API_KEY."),
    ] = None,
    share_key: Annotated[
        bool, typer.Option(help="Allow the key although other machines reach the studio; restrict access by a proxy.")
    ] = False,
) -> None:
    """Serve a web interface for a registry: register, verify, search, live camera, people, health.

    Without a key of its own, the studio asks each user for an API key if the registry requires one, and every user has
    exactly the scopes of that key.

    Examples: `identity-registry studio`, `identity-registry studio --url https://faces.example.org --host 0.0.0.0`.
    """
    import uvicorn

    from service.runtime.setting_sections import is_loopback
    from service.runtime.studio import create_studio

    key = client_key.read(key_file)
    is_local = is_loopback(host)
    if key and not is_local and not share_key:
        raise StartupError(
            f"everybody who reaches {host} would use the studio's API key: omit the key, so that each user enters one, "
            "or add --share-key if a proxy restricts access"
        )
    app = create_studio(url, collection, key, is_local)
    typer.echo(f"studio of {url}: http://{host}:{port}", err=True)
    uvicorn.run(app, host=host, port=port, log_level="warning", access_log=False, timeout_graceful_shutdown=DRAIN_S)
