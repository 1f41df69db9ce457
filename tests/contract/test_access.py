"""Who has no key gets nothing, and a key is good for no more than it says."""

import asyncio
import os
import re
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import httpx
import psycopg
import pytest

from service.cli import key_operations as operations
from service.errors import DatabaseUnavailable, StartupError
from service.gallery.access import keyring
from service.gallery.access.scopes import Scope
from service.gallery.storage.database import Database
from service.runtime.api import create_app
from service.runtime.settings import Settings, load_settings
from tests.conftest import serving
from tests.photos import COLLINS, HOPPER, zipped

OPEN = {"/healthz", "/readyz", "/docs", "/redoc", "/openapi.json", "/docs/oauth2-redirect"}


@pytest.fixture(scope="module")
def guarded_settings(postgres_url: str, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return load_settings(
        database={"url": postgres_url},
        server={"require_keys": True},
        audit={"key": "the audit key of the tests, long enough"},
        jobs={"uploads": tmp_path_factory.mktemp("uploads")},
    )


@pytest.fixture(autouse=True, scope="module")
def _environment(postgres_url: str) -> Iterator[None]:
    os.environ["REGISTRY_DATABASE__URL"] = postgres_url
    yield
    del os.environ["REGISTRY_DATABASE__URL"]


def new_key(*scopes: Scope, collection: str | None = None, days: int | None = None) -> str:
    secret = operations.create("test", scopes or list(Scope), collection, days, None, only_first=False)
    assert secret is not None
    return secret


@pytest.fixture(scope="module")
def guarded(guarded_settings: Settings) -> Iterator[httpx.Client]:
    new_key()
    with serving(create_app(guarded_settings)) as client:
        yield client


@pytest.fixture
def ask(guarded: httpx.Client) -> Callable[..., httpx.Response]:
    def request(
        key: str, method: str, path: str, headers: Mapping[str, str] | None = None, **arguments: object
    ) -> httpx.Response:
        given = {"x-api-key": key, **(headers or {})}
        return guarded.request(method, path, headers=given, **arguments)  # type: ignore[arg-type]

    return request


def addresses(client: httpx.Client) -> list[tuple[str, str]]:
    paths = client.get("/openapi.json").json()["paths"]
    return [(method.upper(), path) for path, operations in paths.items() for method in operations]


def test_every_address_wants_a_key_but_those_of_orchestrators(guarded: httpx.Client) -> None:
    asked = [(method, path) for method, path in addresses(guarded) if path not in OPEN]
    assert len(asked) >= 12
    for method, path in asked:
        for headers in ({}, {"x-api-key": "ir_wrong"}, {"authorization": "Basic eDp5"}, {"authorization": "Bearer"}):
            answer = guarded.request(method, re.sub(r"\{\w+\}", str(uuid.uuid4()), path), headers=headers)
            assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized"), (method, path)
    assert guarded.get("/healthz").status_code == guarded.get("/readyz").status_code == 200


def test_a_key_counts_where_none_is_asked_for(client: httpx.Client) -> None:
    """So that a program's key can be tried before its service is opened to others."""
    assert client.get("/models").status_code == 200
    assert client.get("/models", headers={"x-api-key": "ir_wrong"}).status_code == 401
    key = {"x-api-key": new_key(Scope.SEARCH)}
    assert client.get("/models", headers=key).status_code == 200
    assert client.get("/audit", headers=key).json()["code"] == "not_allowed"


def test_a_key_goes_into_either_header(guarded: httpx.Client) -> None:
    key = new_key(Scope.SEARCH)
    assert guarded.get("/models", headers={"x-api-key": key}).status_code == 200
    assert guarded.get("/models", headers={"authorization": f"Bearer {key}"}).status_code == 200


@pytest.mark.parametrize("scope", list(Scope))
def test_a_scope_is_good_for_its_own_operations(scope: Scope, ask: Callable[..., httpx.Response]) -> None:
    key = new_key(scope)
    outcomes = {
        Scope.ENROL: ask(key, "POST", "/register", json={}),
        Scope.VERIFY: ask(key, "POST", "/verify", json={}),
        Scope.SEARCH: ask(key, "POST", "/search", json={}),
        Scope.MANAGE: ask(key, "GET", f"/identities/{uuid.uuid4()}"),
        Scope.EMBEDDINGS: ask(key, "POST", "/embed", json={}),
        Scope.AUDIT: ask(key, "GET", "/audit"),
        Scope.METRICS: ask(key, "GET", "/metrics"),
    }
    allowed = {name for name, answer in outcomes.items() if answer.status_code != 403}
    assert allowed == {scope}
    refused = next(answer for name, answer in outcomes.items() if name is not scope)
    assert refused.json()["code"] == "not_allowed"
    assert "lacks the scope" in refused.json()["detail"]


def test_a_key_for_one_collection_stays_in_it(ask: Callable[..., httpx.Response]) -> None:
    everywhere = new_key()
    ours, theirs = f"ours-{uuid.uuid4().hex[:8]}", f"theirs-{uuid.uuid4().hex[:8]}"
    for name in (ours, theirs):
        assert ask(everywhere, "POST", "/collections", json={"name": name}).status_code == 201
    key = new_key(collection=ours)
    photo = {"images": COLLINS.read_bytes()}
    registered = ask(key, "POST", "/register", params={"collection": ours}, data={"label": "eileen"}, files=photo)
    assert registered.status_code == 201
    person = registered.json()["identity_id"]
    for method, path, arguments in (
        ("POST", "/register", {"params": {"collection": theirs}, "data": {"label": "eileen"}, "files": photo}),
        ("POST", f"/search?collection={theirs}", {"files": {"image": COLLINS.read_bytes()}}),
        ("POST", "/search", {"files": {"image": COLLINS.read_bytes()}}),
        (
            "POST",
            f"/verify?collection={theirs}",
            {
                "files": {"image_a": COLLINS.read_bytes(), "image_b": HOPPER.read_bytes()},
            },
        ),
        ("GET", f"/identities?collection={theirs}", {}),
        ("GET", f"/identities/{person}?collection={theirs}", {}),
        ("DELETE", f"/identities/{person}?collection={theirs}", {}),
        ("PATCH", f"/collections/{theirs}", {"json": {"fmr": 0.01}}),
        ("POST", "/collections", {"json": {"name": "another"}}),
    ):
        answer = ask(key, method, path, **arguments)
        assert (answer.status_code, answer.json()["code"]) == (403, "not_allowed"), (method, path)
        assert theirs not in answer.json()["detail"]
    assert [item["name"] for item in ask(key, "GET", "/collections").json()["collections"]] == [ours]
    assert ask(key, "GET", f"/identities/{person}?collection={ours}").json()["label"] == "eileen"


def test_a_revoked_key_is_worth_nothing_soon(
    ask: Callable[..., httpx.Response], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keyring, "REMEMBERED_S", 0.2)
    secret = new_key(Scope.SEARCH)
    assert ask(secret, "GET", "/models").status_code == 200
    assert operations.revoke(operations.list_all()[-1].id)
    time.sleep(0.3)
    assert ask(secret, "GET", "/models").status_code == 401
    assert not operations.revoke(operations.list_all()[-1].id)


def test_an_expired_key_is_worth_nothing(ask: Callable[..., httpx.Response], postgres_url: str) -> None:
    import psycopg

    secret = new_key(days=1)
    with psycopg.connect(postgres_url.replace("postgresql+psycopg", "postgresql")) as connection:
        connection.execute("UPDATE api_key SET expires_at = now() - interval '1 second' WHERE expires_at IS NOT NULL")
    assert ask(secret, "GET", "/models").status_code == 401
    assert operations.list_all()[-1].has_expired


def test_no_key_is_stored(postgres_url: str) -> None:
    import psycopg

    secret = new_key()
    with psycopg.connect(postgres_url.replace("postgresql+psycopg", "postgresql")) as connection:
        rows = str(connection.execute("SELECT api_key::text FROM api_key").fetchall())
    assert "test" in rows
    assert secret.removeprefix("ir_") not in rows
    assert secret.removeprefix("ir_").encode().hex() not in rows


def test_the_first_key_is_made_once_and_only_readable_by_its_owner(tmp_path: Path) -> None:
    file = tmp_path / "key"
    secret = operations.create("other", [Scope.SEARCH], None, None, file, only_first=False)
    assert file.read_text() == f"{secret}\n"
    assert file.stat().st_mode & 0o777 == 0o600
    count = len(operations.list_all())
    assert operations.create("first", list(Scope), None, None, tmp_path / "second", only_first=True) is None
    with pytest.raises(StartupError, match="cannot be written"):
        operations.create("again", list(Scope), None, None, file, only_first=False)
    with pytest.raises(StartupError, match="no collection 'nowhere'"):
        operations.create("nowhere", list(Scope), "nowhere", None, None, only_first=False)
    assert len(operations.list_all()) == count


def test_the_command_line() -> None:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, "-m", "service", "keys", *arguments], capture_output=True, text=True)

    made = run("create", "--name", "kiosk", "--scope", "search", "--days", "30")
    assert made.stdout.startswith("ir_")
    listed = next(line for line in run("list").stdout.splitlines() if "kiosk" in line)
    assert "valid" in listed
    assert "[search]  all collections" in listed
    key_id = listed.split()[0]
    assert run("revoke", key_id).returncode == 0
    assert "no valid key" in run("revoke", key_id).stderr


def test_people_are_listed_page_by_page(ask: Callable[..., httpx.Response]) -> None:
    key, name = new_key(), f"pages-{uuid.uuid4().hex[:8]}"
    ask(key, "POST", "/collections", json={"name": name})
    for number in range(5):
        files = {"images": (COLLINS if number % 2 else HOPPER).read_bytes()}
        assert ask(
            key, "POST", "/register", params={"collection": name}, data={"label": f"p{number}"}, files=files
        ).is_success
    seen, cursor = [], None
    while True:
        query = f"/identities?collection={name}&limit=2" + (f"&cursor={cursor}" if cursor else "")
        page = ask(key, "GET", query).json()
        seen += [person["label"] for person in page["identities"]]
        if (cursor := page["next_cursor"]) is None:
            break
    assert seen == [f"p{number}" for number in range(5)]
    for wrong in ("x", "eCB5", "é", "MjAyNi0wMS0wMSAwMDAwMDAwMC0wMDAwLTAwMDAtMDAwMC0wMDAwMDAwMDAwMDA="):
        answer = ask(key, "GET", f"/identities?collection={name}&cursor={wrong}")
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request"), wrong


def test_figures_count_operations_and_name_nobody(ask: Callable[..., httpx.Response]) -> None:
    key = new_key()
    ask(key, "GET", f"/identities/{uuid.uuid4()}")
    text = ask(key, "GET", "/metrics").text
    assert 'registry_request_seconds_count{operation="GET /identities/{identity_id}",status="404"}' in text
    assert "registry_waiting_pictures" in text
    assert "eileen" not in text


@pytest.mark.anyio
async def test_a_key_that_was_valid_is_trusted_while_the_database_is_away(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret, stranger = await asyncio.to_thread(new_key, Scope.METRICS), "ir_never-made"
    there, away = Database(postgres_url), Database("postgresql+psycopg://u:p@127.0.0.1:1/x", pool_timeout_s=0.2)
    ring = keyring.KeyRing(there)
    known = await ring.find(secret)
    assert known is not None
    monkeypatch.setattr(keyring, "REMEMBERED_S", 0)
    ring._database = away
    assert await ring.find(secret) == known
    with pytest.raises(DatabaseUnavailable):
        await ring.find(stranger)
    monkeypatch.setattr(keyring, "TRUSTED_IN_OUTAGE_S", 0)
    with pytest.raises(DatabaseUnavailable):
        await ring.find(secret)
    await there.close()
    await away.close()


def test_a_key_that_only_enrols_learns_nobodys_name(ask: Callable[..., httpx.Response]) -> None:
    """Else it could ask who anybody is by pretending to enrol them."""
    name = f"test-{uuid.uuid4().hex[:12]}"
    manager, enroller = new_key(), new_key(Scope.ENROL)
    assert ask(manager, "POST", "/collections", json={"name": name, "duplicates": "reject"}).status_code == 201
    photo = {"images": COLLINS.read_bytes()}

    def enrol(key: str, label: str) -> httpx.Response:
        return ask(key, "POST", "/register", params={"collection": name}, data={"label": label}, files=photo)

    assert enrol(manager, "secret-name").status_code == 201
    told, untold = enrol(manager, "other"), enrol(enroller, "other")
    assert (told.status_code, untold.status_code) == (409, 409)
    assert told.json()["duplicates"][0]["external_id"] == "secret-name"
    assert "secret-name" not in untold.text
    assert ask(manager, "PATCH", f"/collections/{name}", json={"duplicates": "warn"}).status_code == 200
    warned = enrol(enroller, "other")
    assert (warned.status_code, warned.json()["duplicate_candidate_count"]) == (201, 1)
    assert "secret-name" not in warned.text
    (untold,) = enrol(enroller, "secret-name").json()["images"]  # nor whether a picture is like anybody
    (told,) = enrol(manager, "secret-name").json()["images"]
    assert (untold["similarity"], told["similarity"]) == (None, 1)


def test_explain_is_for_keys_of_all_collections(ask: Callable[..., httpx.Response]) -> None:
    """An index counts rows of other collections as well."""
    name = f"test-{uuid.uuid4().hex[:12]}"
    assert ask(new_key(), "POST", "/collections", json={"name": name}).status_code == 201
    request = {"params": {"collection": name}, "data": {"explain": "true"}, "files": {"image": COLLINS.read_bytes()}}
    refused = ask(new_key(Scope.SEARCH, collection=name), "POST", "/search", **request)
    assert (refused.status_code, refused.json()["code"]) == (403, "not_allowed")
    assert ask(new_key(Scope.SEARCH), "POST", "/search", **request).status_code == 200


def test_a_person_moves_only_between_collections_of_the_key(ask: Callable[..., httpx.Response]) -> None:
    ours, theirs = (f"test-{uuid.uuid4().hex[:12]}" for _ in range(2))
    manager = new_key()
    for name in (ours, theirs):
        assert ask(manager, "POST", "/collections", json={"name": name}).status_code == 201
    form = {"params": {"collection": ours}, "data": {"label": "x"}, "files": {"images": COLLINS.read_bytes()}}
    person = ask(manager, "POST", "/register", **form).json()["identity_id"]
    bound = new_key(Scope.MANAGE, collection=ours)
    path = f"/identities/{person}/move"
    assert ask(bound, "POST", path, params={"collection": ours}, json={"to": theirs}).status_code == 403
    assert ask(bound, "POST", path, params={"collection": theirs}, json={"to": ours}).status_code == 403


def test_results_of_jobs_are_for_who_handed_them_over(ask: Callable[..., httpx.Response]) -> None:
    everywhere, first, second = new_key(), new_key(Scope.ENROL), new_key(Scope.ENROL)
    name = f"jobs-{uuid.uuid4().hex[:8]}"
    ask(everywhere, "POST", "/collections", json={"name": name})
    here = {"collection": name}
    archive, headers = zipped({"a.jpg": b"broken"}), {"content-type": "application/zip"}
    made = ask(first, "POST", "/jobs/enrolments", params=here, content=archive, headers=headers)
    assert made.status_code == 202, made.text
    path = f"/jobs/{made.json()['id']}"
    for key, told in ((first, 1), (second, 0), (everywhere, 1)):
        assert len(ask(key, "GET", "/jobs", params=here).json()["jobs"]) == told
        for suffix in ("", "/rows", "/rows.csv"):
            assert ask(key, "GET", f"{path}{suffix}", params=here).status_code == (200 if told else 404)
    assert ask(second, "POST", f"{path}/cancel", params=here).json()["code"] == "job_not_found"


def test_an_export_takes_the_scope_of_embeddings_as_well(ask: Callable[..., httpx.Response]) -> None:
    photo = {"images": COLLINS.read_bytes()}
    made = ask(new_key(), "POST", "/register", files=photo, data={"label": uuid.uuid4().hex}).json()["identity_id"]
    path = f"/identities/{made}/export"
    assert ask(new_key(Scope.MANAGE), "GET", path).json()["code"] == "not_allowed"
    told = ask(new_key(Scope.MANAGE, Scope.EMBEDDINGS), "GET", path).json()
    assert (len(told["templates"]), told["audit"]) == (1, [])
    assert ask(new_key(Scope.MANAGE, Scope.EMBEDDINGS, Scope.AUDIT), "GET", path).json()["audit"]


def test_scopes_of_a_later_release_are_no_error(ask: Callable[..., httpx.Response], postgres_url: str) -> None:
    key = new_key(Scope.MANAGE)
    with psycopg.connect(postgres_url.replace("+psycopg", "")) as connection:
        connection.execute(
            "UPDATE api_key SET scopes = scopes || ARRAY['of-the-future'] WHERE scopes = ARRAY['manage']"
        )
    assert ask(key, "GET", "/collections").status_code == 200
