"""The installation's secrets, made once: the database's password, the token that API and workers share, and the keys of
the audit trail and of stored crops.

Each container sees only the folder that it needs. A file of the same name below /given is used instead of a made-up
secret: `database-password`, `app-password`, `worker-token`, `audit-key`, `crops-key`.
"""

import secrets
import sys
from pathlib import Path
from urllib.parse import quote

GIVEN, KEPT = Path("/given"), Path("/secrets")
URL = "postgresql+psycopg://{user}:{password}@db:5432/registry"


def secret(name: str, kept: Path) -> str:
    """The given secret, else the kept one, else a new one."""
    for file in (GIVEN / name, kept):
        try:
            if file.is_file() and (text := file.read_text().strip()):
                return text
        except PermissionError:
            sys.exit(f"{file} can't be read: give it to account 10001 (chown 10001 or setfacl -m u:10001:r)")
    return secrets.token_hex(32)


def address(user: str, password: str) -> str:
    return URL.format(user=user, password=quote(password, safe=""))


def main() -> None:
    password = secret("database-password", KEPT / "db" / "password")
    token = secret("worker-token", KEPT / "worker" / "registry_inference__worker_token")
    app_password = secret("app-password", KEPT / "owner" / "app-password")
    audit_key = secret("audit-key", KEPT / "api" / "registry_audit__key")
    crops_key = secret("crops-key", KEPT / "api" / "registry_crops__key")
    services = {
        "registry_database__url": address("registry_app", app_password),
        "registry_inference__worker_token": token,
        "registry_audit__key": audit_key,
        "registry_crops__key": crops_key,
    }
    # Only who migrates, builds indexes and makes keys knows the account that owns the tables.
    owners = services | {"registry_database__owner_url": address("registry", password), "app-password": app_password}
    files = {
        # PostgreSQL reads it under an account of its own; only its container mounts this folder.
        KEPT / "db" / "password": (password, 0o444),
        KEPT / "worker" / "registry_inference__worker_token": (token, 0o400),
        **{KEPT / "api" / name: (text, 0o400) for name, text in services.items()},
        **{KEPT / "owner" / name: (text, 0o400) for name, text in owners.items()},
    }
    for file, (text, mode) in files.items():
        if file.is_file() and file.read_text() == text:
            continue
        file.unlink(missing_ok=True)
        file.touch(mode=0o600)
        file.write_text(text)
        file.chmod(mode)
    print("the secrets are in their volumes")


if __name__ == "__main__":
    main()
