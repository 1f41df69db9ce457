"""Tests of the operations and data that an API key gives access to: scopes, collections, pages, metrics, jobs."""

import uuid
from collections.abc import Callable

import httpx
import psycopg
import pytest

from service.gallery.access.scopes import Scope
from tests.contract.api_keys import new_key
from tests.photos import COLLINS, HOPPER, zipped

pytestmark = pytest.mark.usefixtures("database_url_variable")


@pytest.mark.parametrize("scope", list(Scope))
def test_scope_allows_its_own_operations_only(scope: Scope, send: Callable[..., httpx.Response]) -> None:
    key = new_key(scope)
    responses = {
        Scope.ENROL: send(key, "POST", "/register", json={}),
        Scope.VERIFY: send(key, "POST", "/verify", json={}),
        Scope.SEARCH: send(key, "POST", "/search", json={}),
        Scope.MANAGE: send(key, "GET", f"/identities/{uuid.uuid4()}"),
        Scope.EMBEDDINGS: send(key, "POST", "/embed", json={}),
        Scope.AUDIT: send(key, "GET", "/audit"),
        Scope.METRICS: send(key, "GET", "/metrics"),
    }
    allowed = {name for name, response in responses.items() if response.status_code != 403}
    assert allowed == {scope}
    refused = next(response for name, response in responses.items() if name is not scope)
    assert refused.json()["code"] == "not_allowed"
    assert "lacks the scope" in refused.json()["detail"]


def test_key_of_a_collection_cannot_access_others(send: Callable[..., httpx.Response]) -> None:
    all_collections = new_key()
    ours, theirs = f"ours-{uuid.uuid4().hex[:8]}", f"theirs-{uuid.uuid4().hex[:8]}"
    for name in (ours, theirs):
        assert send(all_collections, "POST", "/collections", json={"name": name}).status_code == 201
    key = new_key(collection=ours)
    photo = {"images": COLLINS.read_bytes()}
    registered = send(key, "POST", "/register", params={"collection": ours}, data={"label": "eileen"}, files=photo)
    assert registered.status_code == 201
    identity_id = registered.json()["identity_id"]
    for method, path, arguments in (
        ("POST", "/register", {"params": {"collection": theirs}, "data": {"label": "eileen"}, "files": photo}),
        ("POST", f"/search?collection={theirs}", {"files": {"image": COLLINS.read_bytes()}}),
        ("POST", "/search", {"files": {"image": COLLINS.read_bytes()}}),
        (
            "POST",
            f"/verify?collection={theirs}",
            {"files": {"image_a": COLLINS.read_bytes(), "image_b": HOPPER.read_bytes()}},
        ),
        ("GET", f"/identities?collection={theirs}", {}),
        ("GET", f"/identities/{identity_id}?collection={theirs}", {}),
        ("DELETE", f"/identities/{identity_id}?collection={theirs}", {}),
        ("PATCH", f"/collections/{theirs}", {"json": {"fmr": 0.01}}),
        ("POST", "/collections", {"json": {"name": "another"}}),
    ):
        response = send(key, method, path, **arguments)
        assert (response.status_code, response.json()["code"]) == (403, "not_allowed"), (method, path)
        assert theirs not in response.json()["detail"]
    assert [item["name"] for item in send(key, "GET", "/collections").json()["collections"]] == [ours]
    assert send(key, "GET", f"/identities/{identity_id}?collection={ours}").json()["label"] == "eileen"


def test_identities_are_listed_in_pages(send: Callable[..., httpx.Response]) -> None:
    key, name = new_key(), f"pages-{uuid.uuid4().hex[:8]}"
    send(key, "POST", "/collections", json={"name": name})
    for number in range(5):
        files = {"images": (COLLINS if number % 2 else HOPPER).read_bytes()}
        assert send(
            key, "POST", "/register", params={"collection": name}, data={"label": f"p{number}"}, files=files
        ).is_success
    labels, cursor = [], None
    while True:
        query = f"/identities?collection={name}&limit=2" + (f"&cursor={cursor}" if cursor else "")
        page = send(key, "GET", query).json()
        labels += [identity["label"] for identity in page["identities"]]
        if (cursor := page["next_cursor"]) is None:
            break
    assert labels == [f"p{number}" for number in range(5)]
    for invalid in ("x", "eCB5", "é", "MjAyNi0wMS0wMSAwMDAwMDAwMC0wMDAwLTAwMDAtMDAwMC0wMDAwMDAwMDAwMDA="):
        response = send(key, "GET", f"/identities?collection={name}&cursor={invalid}")
        assert (response.status_code, response.json()["code"]) == (422, "invalid_request"), invalid


def test_metrics_count_operations_without_personal_data(send: Callable[..., httpx.Response]) -> None:
    key = new_key()
    send(key, "GET", f"/identities/{uuid.uuid4()}")
    text = send(key, "GET", "/metrics").text
    assert 'registry_request_seconds_count{operation="GET /identities/{identity_id}",status="404"}' in text
    assert "registry_waiting_pictures" in text
    assert "eileen" not in text


def test_key_that_only_enrols_gets_no_data_of_others(send: Callable[..., httpx.Response]) -> None:
    """Otherwise such a key could identify people by attempting to enrol them."""
    name = f"test-{uuid.uuid4().hex[:12]}"
    manager, enroller = new_key(), new_key(Scope.ENROL)
    assert send(manager, "POST", "/collections", json={"name": name, "duplicates": "reject"}).status_code == 201
    photo = {"images": COLLINS.read_bytes()}

    def enrol(key: str, label: str) -> httpx.Response:
        return send(key, "POST", "/register", params={"collection": name}, data={"label": label}, files=photo)

    assert enrol(manager, "secret-name").status_code == 201
    full, reduced = enrol(manager, "other"), enrol(enroller, "other")
    assert (full.status_code, reduced.status_code) == (409, 409)
    assert full.json()["duplicates"][0]["external_id"] == "secret-name"
    assert "secret-name" not in reduced.text
    assert send(manager, "PATCH", f"/collections/{name}", json={"duplicates": "warn"}).status_code == 200
    warned = enrol(enroller, "other")
    assert (warned.status_code, warned.json()["duplicate_candidate_count"]) == (201, 1)
    assert "secret-name" not in warned.text
    (reduced_image,) = enrol(enroller, "secret-name").json()["images"]
    (full_image,) = enrol(manager, "secret-name").json()["images"]
    assert (reduced_image["similarity"], full_image["similarity"]) == (None, 1)


def test_explain_requires_a_key_of_all_collections(send: Callable[..., httpx.Response]) -> None:
    """The row counts of an index include other collections."""
    name = f"test-{uuid.uuid4().hex[:12]}"
    assert send(new_key(), "POST", "/collections", json={"name": name}).status_code == 201
    request = {"params": {"collection": name}, "data": {"explain": "true"}, "files": {"image": COLLINS.read_bytes()}}
    refused = send(new_key(Scope.SEARCH, collection=name), "POST", "/search", **request)
    assert (refused.status_code, refused.json()["code"]) == (403, "not_allowed")
    assert send(new_key(Scope.SEARCH), "POST", "/search", **request).status_code == 200


def test_move_requires_a_key_of_both_collections(send: Callable[..., httpx.Response]) -> None:
    ours, theirs = (f"test-{uuid.uuid4().hex[:12]}" for _ in range(2))
    manager = new_key()
    for name in (ours, theirs):
        assert send(manager, "POST", "/collections", json={"name": name}).status_code == 201
    form = {"params": {"collection": ours}, "data": {"label": "x"}, "files": {"images": COLLINS.read_bytes()}}
    identity_id = send(manager, "POST", "/register", **form).json()["identity_id"]
    bound = new_key(Scope.MANAGE, collection=ours)
    path = f"/identities/{identity_id}/move"
    assert send(bound, "POST", path, params={"collection": ours}, json={"to": theirs}).status_code == 403
    assert send(bound, "POST", path, params={"collection": theirs}, json={"to": ours}).status_code == 403


def test_job_is_visible_to_its_key_and_to_managers_only(send: Callable[..., httpx.Response]) -> None:
    manager, first, second = new_key(), new_key(Scope.ENROL), new_key(Scope.ENROL)
    name = f"jobs-{uuid.uuid4().hex[:8]}"
    send(manager, "POST", "/collections", json={"name": name})
    scope = {"collection": name}
    archive, headers = zipped({"a.jpg": b"broken"}), {"content-type": "application/zip"}
    submitted = send(first, "POST", "/jobs/enrolments", params=scope, content=archive, headers=headers)
    assert submitted.status_code == 202, submitted.text
    path = f"/jobs/{submitted.json()['id']}"
    for key, visible_jobs in ((first, 1), (second, 0), (manager, 1)):
        assert len(send(key, "GET", "/jobs", params=scope).json()["jobs"]) == visible_jobs
        for suffix in ("", "/rows", "/rows.csv"):
            assert send(key, "GET", f"{path}{suffix}", params=scope).status_code == (200 if visible_jobs else 404)
    assert send(second, "POST", f"{path}/cancel", params=scope).json()["code"] == "job_not_found"


def test_export_also_requires_the_embeddings_scope(send: Callable[..., httpx.Response]) -> None:
    photo = {"images": COLLINS.read_bytes()}
    registered = send(new_key(), "POST", "/register", files=photo, data={"label": uuid.uuid4().hex}).json()
    path = f"/identities/{registered['identity_id']}/export"
    assert send(new_key(Scope.MANAGE), "GET", path).json()["code"] == "not_allowed"
    subject_data = send(new_key(Scope.MANAGE, Scope.EMBEDDINGS), "GET", path).json()
    assert (len(subject_data["templates"]), subject_data["audit"]) == (1, [])
    assert send(new_key(Scope.MANAGE, Scope.EMBEDDINGS, Scope.AUDIT), "GET", path).json()["audit"]


def test_unknown_scopes_of_a_later_release_are_ignored(send: Callable[..., httpx.Response], postgres_url: str) -> None:
    key = new_key(Scope.MANAGE)
    with psycopg.connect(postgres_url.replace("+psycopg", "")) as connection:
        connection.execute(
            "UPDATE api_key SET scopes = scopes || ARRAY['of-the-future'] WHERE scopes = ARRAY['manage']"
        )
    assert send(key, "GET", "/collections").status_code == 200
