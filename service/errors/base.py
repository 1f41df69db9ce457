"""The base classes of all errors."""

from typing import Any, ClassVar


class StartupError(Exception):
    """The process cannot start with the current configuration or environment.

    The command line prints the message without a traceback. The message says what to change.
    """


class RegistryError(Exception):
    """An error that the API returns as a problem document (RFC 9457).

    Subclasses define `code` (stable, for programs), `title` (the same for every occurrence) and `status` (HTTP).

    Args:
        detail: what is wrong in this request and what to change.
        pointer: JSON pointer (RFC 6901) to the part of the request that causes the error.
        extensions: additional members of the problem document.
    """

    code: ClassVar[str]
    title: ClassVar[str]
    status: ClassVar[int]

    def __init__(self, detail: str, *, pointer: str | None = None, **extensions: Any) -> None:
        super().__init__(detail)
        self.detail = detail
        self.pointer = pointer
        self.extensions = extensions

    def with_pointer(self, pointer: str) -> "RegistryError":
        """Sets the JSON pointer unless the error already has one. Returns the error itself."""
        self.pointer = self.pointer or pointer
        return self
