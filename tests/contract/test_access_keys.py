"""Tests of API keys: authentication, expiry, revocation, storage and the command line."""

import asyncio
import re
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import httpx
import psycopg
import pytest

from service.cli import key_operations as operations
from service.errors import DatabaseUnavailable, StartupError
from service.gallery.access import keyring
from service.gallery.access.scopes import Scope
from service.gallery.storage.database import Database
from tests.contract.api_keys import new_key

pytestmark = pytest.mark.usefixtures("database_url_variable")

PUBLIC_PATHS = {"/healthz", "/readyz", "/docs", "/redoc", "/openapi.json", "/docs/oauth2-redirect"}


def documented_operations(client: httpx.Client) -> list[tuple[str, str]]:
    """Returns (method, path template) of every operation of the OpenAPI document."""
    paths = client.get("/openapi.json").json()["paths"]
    return [(method.upper(), path) for path, methods in paths.items() for method in methods]


def test_every_operation_except_health_probes_requires_a_key(guarded: httpx.Client) -> None:
    protected = [(method, path) for method, path in documented_operations(guarded) if path not in PUBLIC_PATHS]
    assert len(protected) >= 12
    for method, path in protected:
        for headers in ({}, {"x-api-key": "ir_wrong"}, {"authorization": "Basic eDp5"}, {"authorization": "Bearer"}):
            response = guarded.request(method, re.sub(r"\{\w+\}", str(uuid.uuid4()), path), headers=headers)
            assert (response.status_code, response.json()["code"]) == (401, "unauthorized"), (method, path)
    assert guarded.get("/healthz").status_code == guarded.get("/readyz").status_code == 200


def test_key_is_checked_even_if_keys_are_not_required(client: httpx.Client) -> None:
    """An operator can test the keys of clients before the service requires keys."""
    assert client.get("/models").status_code == 200
    assert client.get("/models", headers={"x-api-key": "ir_wrong"}).status_code == 401
    key = {"x-api-key": new_key(Scope.SEARCH)}
    assert client.get("/models", headers=key).status_code == 200
    assert client.get("/audit", headers=key).json()["code"] == "not_allowed"


def test_key_is_accepted_in_either_header(guarded: httpx.Client) -> None:
    key = new_key(Scope.SEARCH)
    assert guarded.get("/models", headers={"x-api-key": key}).status_code == 200
    assert guarded.get("/models", headers={"authorization": f"Bearer {key}"}).status_code == 200


def test_revoked_key_is_refused_after_the_cache_expires(
    send: Callable[..., httpx.Response], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keyring, "CACHED_S", 0.2)
    secret = new_key(Scope.SEARCH)
    assert send(secret, "GET", "/models").status_code == 200
    assert operations.revoke(operations.list_all()[-1].id)
    time.sleep(0.3)
    assert send(secret, "GET", "/models").status_code == 401
    assert not operations.revoke(operations.list_all()[-1].id)


def test_expired_key_is_refused(send: Callable[..., httpx.Response], postgres_url: str) -> None:
    secret = new_key(days=1)
    with psycopg.connect(postgres_url.replace("postgresql+psycopg", "postgresql")) as connection:
        connection.execute("UPDATE api_key SET expires_at = now() - interval '1 second' WHERE expires_at IS NOT NULL")
    assert send(secret, "GET", "/models").status_code == 401
    assert operations.list_all()[-1].has_expired


def test_database_has_hashes_of_keys_only(postgres_url: str) -> None:
    secret = new_key()
    with psycopg.connect(postgres_url.replace("postgresql+psycopg", "postgresql")) as connection:
        rows = str(connection.execute("SELECT api_key::text FROM api_key").fetchall())
    assert "test" in rows
    assert secret.removeprefix("ir_") not in rows
    assert secret.removeprefix("ir_").encode().hex() not in rows


def test_key_file_is_private_and_the_first_key_is_created_once(tmp_path: Path) -> None:
    file = tmp_path / "key"
    secret = operations.create("other", [Scope.SEARCH], None, None, file, only_first=False)
    assert file.read_text() == f"{secret}\n"
    assert file.stat().st_mode & 0o777 == 0o600
    count = len(operations.list_all())
    assert operations.create("first", list(Scope), None, None, tmp_path / "second", only_first=True) is None
    with pytest.raises(StartupError, match="cannot be written"):
        operations.create("again", list(Scope), None, None, file, only_first=False)
    with pytest.raises(StartupError, match="the collection 'nowhere' does not exist"):
        operations.create("nowhere", list(Scope), "nowhere", None, None, only_first=False)
    assert len(operations.list_all()) == count


def test_command_line_creates_lists_and_revokes_a_key() -> None:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, "-m", "service", "keys", *arguments], capture_output=True, text=True)

    created = run("create", "--name", "kiosk", "--scope", "search", "--days", "30")
    assert created.stdout.startswith("ir_")
    assert created.stderr.startswith("database: ")
    header, *lines = run("list").stdout.splitlines()
    assert header.split() == ["id", "state", "name", "[scopes]", "collection", "expiry"]
    listed = next(line for line in lines if "kiosk" in line)
    assert "valid" in listed
    assert "[search]  all collections" in listed
    assert listed.endswith("UTC")
    key_id = listed.split()[0]
    assert run("revoke", key_id).returncode == 0
    assert "no valid key" in run("revoke", key_id).stderr


@pytest.mark.anyio
async def test_key_is_accepted_for_five_seconds_while_the_database_is_unavailable(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody can tell during an outage whether a key was revoked."""
    secret, unknown = await asyncio.to_thread(new_key, Scope.METRICS), f"ir_{'x' * 43}"
    available, unavailable = (
        Database(postgres_url),
        Database("postgresql+psycopg://u:p@127.0.0.1:1/x", pool_timeout_s=0.2),
    )
    ring = keyring.KeyRing(available)
    key = await ring.find(secret)
    assert key is not None
    ring._database = unavailable
    assert await ring.find(secret) == key
    with pytest.raises(DatabaseUnavailable):
        await ring.find(unknown)
    later = time.monotonic() + keyring.CACHED_S
    monkeypatch.setattr(time, "monotonic", lambda: later)
    with pytest.raises(DatabaseUnavailable):
        await ring.find(secret)
    monkeypatch.undo()
    await available.close()
    await unavailable.close()


@pytest.mark.anyio
async def test_malformed_unknown_and_concurrent_secrets_cause_few_queries(postgres_url: str) -> None:
    secret = await asyncio.to_thread(new_key, Scope.SEARCH)
    database = Database(postgres_url)
    ring, queries = keyring.KeyRing(database), []
    transaction = database.transaction

    def counted(**options: float) -> object:
        queries.append(options)
        return transaction(**options)

    database.transaction = counted  # type: ignore[method-assign, assignment]
    for malformed in ("", "ir_", "ir_short", f"xx_{'x' * 43}", f"ir_{'x' * 44}", f"ir_{'/' * 43}", "\udcff" * 46):
        assert await ring.find(malformed) is None
    assert queries == []
    found = await asyncio.gather(*(ring.find(secret) for _ in range(20)))
    assert {key.id for key in found if key is not None} == {found[0].id}  # type: ignore[union-attr]
    assert len(queries) == 1
    for _ in range(5):
        assert await ring.find(f"ir_{'x' * 43}") is None
    assert len(queries) == 2
    await database.close()
