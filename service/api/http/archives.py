"""Zip files as bodies. Their routes write them to disk in parts."""

import re

from starlette.datastructures import Headers

ZIP = "application/zip"
PATHS = re.compile(r"/jobs/(?:embedding-)?enrolments|/collections/[^/]+/groups")


def may_be_archive(path: str) -> bool:
    """Returns True if a route of this path reads zip files."""
    return PATHS.fullmatch(path) is not None


def is_zip(headers: Headers) -> bool:
    """Returns True if the Content-Type is that of a zip file."""
    return headers.get("content-type", "").partition(";")[0].strip().lower() == ZIP


def declared_size(headers: Headers) -> int | None:
    """Returns the size of the body in bytes that the client has declared; None: it is unknown."""
    declared = headers.get("content-length", "")
    return int(declared) if declared.isascii() and declared.isdigit() else None
