"""Creates the secrets of an installation: the password of the database, the token that API and workers share, and the
keys of the audit trail and of the stored crops.

Each container mounts only the folder that it needs. An operator can supply a secret as a file of one of these names
below /supplied: `database-password`, `app-password`, `worker-token`, `audit-key`, `crops-key`, and `crops-old-keys`
with one key per line. Secrets that exist are kept.
"""

import json
import secrets
import sys
from pathlib import Path
from urllib.parse import quote

SUPPLIED, STORED = Path("/supplied"), Path("/secrets")
URL = "postgresql+psycopg://{user}:{password}@db:5432/registry"


def secret(name: str, stored: Path) -> str:
    """Returns the supplied secret, else the stored one, else a new one."""
    for file in (SUPPLIED / name, stored):
        try:
            if file.is_file() and (text := file.read_text().strip()):
                return text
        except PermissionError:
            sys.exit(f"Account 10001 cannot read {file}. Run: chown 10001 {name} (or setfacl -m u:10001:r {name})")
    return secrets.token_hex(32)


def old_keys(stored: Path) -> str:
    """Returns the former keys of crops as JSON: the supplied ones, else the stored ones, else none."""
    if (SUPPLIED / "crops-old-keys").is_file():
        return json.dumps((SUPPLIED / "crops-old-keys").read_text().split())
    return stored.read_text() if stored.is_file() else "[]"


def database_url(user: str, password: str) -> str:
    return URL.format(user=user, password=quote(password, safe=""))


def main() -> None:
    password = secret("database-password", STORED / "db" / "password")
    token = secret("worker-token", STORED / "worker" / "registry_inference__worker_token")
    app_password = secret("app-password", STORED / "owner" / "app-password")
    audit_key = secret("audit-key", STORED / "api" / "registry_audit__key")
    crops_key = secret("crops-key", STORED / "api" / "registry_crops__key")
    api = {
        "registry_database__url": database_url("registry_app", app_password),
        "registry_inference__worker_token": token,
        "registry_audit__key": audit_key,
        "registry_crops__key": crops_key,
        "registry_crops__old_keys": old_keys(STORED / "api" / "registry_crops__old_keys"),
    }
    # Only the containers that migrate and create keys know the account that owns the tables.
    owner = api | {"registry_database__owner_url": database_url("registry", password), "app-password": app_password}
    files = {
        # PostgreSQL reads it under its own account; only the database's container mounts this folder.
        STORED / "db" / "password": (password, 0o444),
        # For clusters, whose nodes log in on each other under both accounts.
        STORED / "db" / "app-password": (app_password, 0o444),
        STORED / "worker" / "registry_inference__worker_token": (token, 0o400),
        **{STORED / "api" / name: (text, 0o400) for name, text in api.items()},
        **{STORED / "owner" / name: (text, 0o400) for name, text in owner.items()},
    }
    for file, (text, mode) in files.items():
        if file.is_file() and file.read_text() == text:
            continue
        file.unlink(missing_ok=True)
        file.touch(mode=0o600)
        file.write_text(text)
        file.chmod(mode)
    print("All secrets are in their volumes.")


if __name__ == "__main__":
    main()
