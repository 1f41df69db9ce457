"""Decides which URLs the service may contact."""

from collections.abc import Sequence
from urllib.parse import urlsplit

DEFAULT_PORTS = {"http": 80, "https": 443}


def is_allowed(url: str, allowed: Sequence[str]) -> bool:
    """Returns True if a URL has the scheme http or https, no user name, and an allowed host.

    Args:
        allowed: hosts in lower case, with the port if it is not the default port of the scheme.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return False
    if parts.scheme not in DEFAULT_PORTS or parts.username is not None:
        return False
    is_default = port in (None, DEFAULT_PORTS[parts.scheme])
    return (parts.hostname if is_default else f"{parts.hostname}:{port}") in allowed
