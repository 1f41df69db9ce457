"""Adds the HTTP status and the title of each error class below its heading on the page of error codes."""

import re

from service.errors import RegistryError, all_errors

HEADING = re.compile(r"^### `(?P<code>\w+)`$", re.MULTILINE)


def add_titles(markdown: str) -> str:
    """Returns the page with one line `**422** · The request is invalid.` below each heading.

    Raises:
        KeyError: a heading names a code that no error class has.
    """
    classes = {kind.code: kind for kind in all_errors()}
    return HEADING.sub(lambda match: f"{match[0]}\n\n{_line(classes[match['code']])}", markdown)


def _line(kind: type[RegistryError]) -> str:
    retry = ", with `Retry-After`" if hasattr(kind, "retry_after_s") or kind.status == 429 else ""
    return f"**{kind.status}**{retry} · {kind.title}."
