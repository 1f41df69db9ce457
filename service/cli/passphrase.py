"""Reads the passphrase of an encrypted file. It is never an argument, because other accounts can read command lines."""

import os
import sys
from pathlib import Path

import typer

from service.errors import StartupError

VARIABLE = "IDENTITY_REGISTRY_PASSPHRASE"


def read(file: Path | None, confirm: bool) -> str:
    """Returns the passphrase: of the file, else of the environment, else of a prompt.

    Args:
        confirm: prompt twice, for a new passphrase.

    Raises:
        StartupError: the file cannot be read, or there is neither a file, nor the variable, nor a terminal.
    """
    if file is not None:
        try:
            return file.read_text().rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            raise StartupError(f"The passphrase cannot be read from {file}: {error}") from None
    if value := os.environ.get(VARIABLE):
        return value
    if not sys.stdin.isatty():
        raise StartupError(f"There is no terminal to prompt for the passphrase; set {VARIABLE} or --passphrase-file.")
    prompted: str = typer.prompt("Passphrase of the keys", hide_input=True, confirmation_prompt=confirm, err=True)
    return prompted
