"""Exports the keys outside the database to an encrypted file and restores them from it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from service.errors import StartupError
from service.gallery.maintenance import key_file
from service.gallery.maintenance.key_ids import NeededKeys
from service.runtime.secret_keys import AUDIT, CROPS, OLD_CROPS, StoredKey, stored_keys, write_key_file
from service.runtime.settings import Settings


@dataclass(frozen=True)
class KeyWrite:
    """A key file to write. `former`: the different keys that it contains now; None: it does not exist."""

    file: Path
    lines: list[str]
    former: StoredKey | None = None


def export(keys: Sequence[StoredKey], file: Path, passphrase: str) -> None:
    """Writes keys to a new encrypted file. Raises StartupError: there is no key, or the file cannot be written."""
    if not keys:
        raise StartupError("No key exists, so that --keys has nothing to write; omit it.")
    names = dict.fromkeys(key.name for key in keys)
    key_file.write(file, {name: [key.secret for key in keys if key.name == name] for name in names}, passphrase)


def plan(
    settings: Settings, keys: Mapping[str, Sequence[str]], secrets_folder: Path | None, replace: bool
) -> list[KeyWrite]:
    """Returns the files to write so that the service uses these keys; changes nothing.

    Args:
        keys: the secrets by their names, from `key_file.read`.
        secrets_folder: folder of secret files for REGISTRY_SECRETS_DIR, to which all keys are written; None: the
            data folder.
        replace: existing files with other keys are replaced.

    Raises:
        StartupError: another key exists and `replace` is false, or a setting contains another key, or the database
            is configured and there is no `secrets_folder`.
    """
    if unknown := sorted(set(keys) - {AUDIT, CROPS, OLD_CROPS}):
        raise StartupError(f"The file contains the unknown keys {', '.join(unknown)}; use the release that wrote it.")
    if secrets_folder is not None:
        existing = _of_secrets_folder(secrets_folder)
        writes = [_secret_file(secrets_folder, name, keys[name], existing) for name in keys]
    else:
        existing = stored_keys(settings)
        writes = [_data_file(settings, name, keys[name], existing) for name in keys]
    planned = [write for write in writes if write is not None]
    for write in planned:
        if write.former is not None and not replace:
            raise StartupError(
                f"{write.former.location} contains another key, with the id {write.former.key_id}. To replace it, add "
                "--replace-keys; the existing file is renamed."
            )
    return planned


def execute(writes: Sequence[KeyWrite]) -> None:
    """Writes key files. A former file is renamed, to a name with the id of its key. Raises StartupError."""
    for write in writes:
        try:
            if write.former is not None or write.file.exists():
                suffix = "former" if write.former is None else write.former.key_id
                write.file.rename(write.file.with_name(f"{write.file.name}.{suffix}"))
            write.file.parent.mkdir(parents=True, exist_ok=True)
            write_key_file(write.file, write.lines)
        except OSError as error:
            raise StartupError(f"The key file {write.file} cannot be written: {error.strerror}") from error


def missing(needed: NeededKeys, keys: Sequence[StoredKey]) -> list[str]:
    """Returns a sentence for each key that the content of the database needs and that does not exist."""
    audit_ids = {key.key_id for key in keys if key.name == AUDIT}
    crop_ids = {key.key_id for key in keys if key.name in (CROPS, OLD_CROPS)}
    problems = [
        f"{AUDIT} with the id {key_id} is missing: {count:,} audit chains cannot be verified without it."
        for key_id, count in needed.audit.items()
        if key_id is not None and key_id not in audit_ids
    ]
    if None in needed.audit and not audit_ids:
        problems.append(f"{AUDIT} is missing: {needed.audit[None]:,} audit chains cannot be verified without it.")
    return problems + [
        f"{CROPS} with the id {key_id} is missing: {count:,} stored crops cannot be decrypted without it."
        for key_id, count in needed.crops.items()
        if key_id not in crop_ids
    ]


def _data_file(settings: Settings, name: str, secrets: Sequence[str], existing: Sequence[StoredKey]) -> KeyWrite | None:
    """Returns the file of the data folder to write; None if all secrets exist already."""
    of_name = [key for key in existing if key.name == name]
    if set(secrets) <= {key.secret for key in of_name}:
        return None
    is_set = {AUDIT: settings.audit.key is not None, CROPS: settings.crops.key is not None}
    if settings.database_url is not None or is_set.get(name, False):
        ids = ", ".join(StoredKey(name, secret, "").key_id for secret in secrets)
        raise StartupError(
            f"The setting {name} does not contain the key with the id {ids}. Name a folder with --secrets-folder, to "
            "which the keys are written as secret files, and set REGISTRY_SECRETS_DIR to it."
        )
    file = settings.data_dir / name
    if name == OLD_CROPS:
        lines = [key.secret for key in of_name if key.location == f"file {file}"]
        return KeyWrite(file, list(dict.fromkeys([*lines, *secrets])))
    return KeyWrite(file, list(secrets), of_name[0] if of_name else None)


def _secret_file(folder: Path, name: str, secrets: Sequence[str], existing: Sequence[StoredKey]) -> KeyWrite | None:
    """Returns the secret file to write; None if it contains these secrets."""
    of_name = [key for key in existing if key.name == name]
    if [key.secret for key in of_name] == list(secrets):
        return None
    text = json.dumps(list(secrets)) if name == OLD_CROPS else secrets[0]
    return KeyWrite(folder / _secret_name(name), [text], of_name[0] if of_name else None)


def _of_secrets_folder(folder: Path) -> list[StoredKey]:
    keys = []
    for name in (AUDIT, CROPS, OLD_CROPS):
        file = folder / _secret_name(name)
        if file.is_file() and (text := file.read_text().strip()):
            secrets = json.loads(text) if name == OLD_CROPS else [text]
            keys += [StoredKey(name, secret, f"file {file}") for secret in secrets]
    return keys


def _secret_name(name: str) -> str:
    """Returns the name of the secret file of a setting, for example `registry_crops__old_keys`."""
    return f"registry_{name.replace('.', '__')}"
