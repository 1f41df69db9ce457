"""The bases of every error."""

from typing import Any, ClassVar


class StartupError(Exception):
    """The service can't start as it is configured; shown to the operator without a traceback."""


class RegistryError(Exception):
    """An answer other than success.

    Args:
        detail: what happened and what to change, for the person who reads it.
        pointer: JSON pointer to the part of the request that is meant.
        extensions: further members of the problem document.
    """

    code: ClassVar[str]
    title: ClassVar[str]
    status: ClassVar[int]

    def __init__(self, detail: str, *, pointer: str | None = None, **extensions: Any) -> None:
        super().__init__(detail)
        self.detail = detail
        self.pointer = pointer
        self.extensions = extensions

    def at(self, pointer: str) -> "RegistryError":
        """The same error, told to be about one part of the request."""
        self.pointer = self.pointer or pointer
        return self
