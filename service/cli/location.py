"""Describes where the configured registry stores its data."""

from sqlalchemy.engine import make_url

from service.runtime.settings import Settings


def describe(settings: Settings) -> str:
    """Returns the data folder, or the name and the host of the configured database, without account and password."""
    if settings.owner_url is None:
        return f"data folder: {settings.data_dir} (set REGISTRY_DATA_DIR to change it)"
    url = make_url(settings.owner_url)
    return f"database: {url.database or 'the default'} on {url.host or 'the default host'}"
