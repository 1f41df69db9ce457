"""Writes and reads keys in a file that a passphrase encrypts.

Format of the file, all numbers unsigned:

| bytes | content |
| --- | --- |
| 8 | `IRKEYS01` |
| 1 | base-2 logarithm of scrypt's cost N |
| 1 | scrypt's block size r |
| 1 | scrypt's parallelism p |
| 16 | salt, random |
| 12 | nonce of AES-GCM, random |
| rest | ciphertext and tag (16 bytes) of a JSON object: names of keys to lists of secrets |

The key is scrypt(passphrase as UTF-8, salt, N, r, p) with 32 bytes (RFC 7914); the cipher is AES-256-GCM (NIST SP
800-38D) with the 27 bytes before the nonce as associated data.
"""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from service.errors import StartupError

MAGIC = b"IRKEYS01"
LOG_COST, BLOCK_SIZE, PARALLELISM = 17, 8, 1
"""128 MiB and some 0.3 s for each passphrase that is tried."""
MAX_LOG_COST, MAX_BYTES = 20, 1024**2
SALT_BYTES, NONCE_BYTES = 16, 12
HEADER_BYTES = len(MAGIC) + 3 + SALT_BYTES
MIN_PASSPHRASE = 12


def write(file: Path, keys: Mapping[str, Sequence[str]], passphrase: str) -> None:
    """Writes secrets by the names of their keys to a new file with mode 0600.

    Raises:
        StartupError: the passphrase is shorter than 12 characters, or the file exists or cannot be written.
    """
    if len(passphrase) < MIN_PASSPHRASE:
        raise StartupError(f"The passphrase is too short; choose one of at least {MIN_PASSPHRASE} characters.")
    header = MAGIC + bytes([LOG_COST, BLOCK_SIZE, PARALLELISM]) + os.urandom(SALT_BYTES)
    nonce = os.urandom(NONCE_BYTES)
    message = json.dumps({name: list(secrets) for name, secrets in keys.items()}).encode()
    content = header + nonce + _cipher(header, passphrase).encrypt(nonce, message, header)
    try:
        with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as output:
            output.write(content)
            output.flush()
            os.fsync(output.fileno())
    except OSError as error:
        raise StartupError(f"The keys cannot be written to {file}: {error.strerror}") from error


def read(file: Path, passphrase: str) -> dict[str, list[str]]:
    """Returns the secrets in a file by the names of their keys.

    Raises:
        StartupError: the file cannot be read, is not a file of keys, was altered, or has another passphrase.
    """
    try:
        with file.open("rb") as source:
            content = source.read(MAX_BYTES)
    except OSError as error:
        raise StartupError(f"The keys cannot be read from {file}: {error.strerror}") from error
    header, rest = content[:HEADER_BYTES], content[HEADER_BYTES:]
    if not header.startswith(MAGIC) or len(rest) < NONCE_BYTES or not _acceptable(header):
        raise StartupError(f"{file} is not a file of keys that `db backup --keys` wrote.")
    try:
        message = _cipher(header, passphrase).decrypt(rest[:NONCE_BYTES], rest[NONCE_BYTES:], header)
    except InvalidTag:
        raise StartupError(f"{file} has another passphrase, or was altered.") from None
    document: dict[str, list[str]] = json.loads(message)
    return document


def _acceptable(header: bytes) -> bool:
    """Returns True if scrypt needs at most 1 GiB and its parameters are valid."""
    log_cost, block_size, parallelism = header[len(MAGIC) : len(MAGIC) + 3]
    return 1 <= log_cost <= MAX_LOG_COST and block_size == BLOCK_SIZE and parallelism == PARALLELISM


def _cipher(header: bytes, passphrase: str) -> AESGCM:
    log_cost, block_size, parallelism = header[len(MAGIC) : len(MAGIC) + 3]
    salt = header[len(MAGIC) + 3 :]
    return AESGCM(Scrypt(salt, 32, 2**log_cost, block_size, parallelism).derive(passphrase.encode()))
