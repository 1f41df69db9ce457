"""Tests of values that JSON or a header can express and PostgreSQL or Python cannot process: all are refused."""

import base64
import json
import socket
import uuid

import httpx
import pytest

from tests.contract.enrolment import FACE, register
from tests.contract.problem_documents import assert_problem
from tests.photos import b64

JSON_TYPE = {"content-type": "application/json"}
LONG = "9" * 6000
INVALID_JSON = [
    f'{{"a": {value}}}' for value in ("NaN", "-Infinity", "1e400", r'"\u0000"', r'"\ud800"', LONG, "9" * 301)
]
INVALID_JSON += [r'{"\u0000": 1}', r'{"\ud800": 1}', f'{{"a": [{LONG}]}}', '{"a":' * 50 + "1" + "}" * 50]
INVALID_FILTERS = [
    *INVALID_JSON,
    '{"a": {"$in": [NaN]}}',
    '{"a": {"$gt": 1e400}}',
    r'{"a": {"$gte": "\u0000"}}',
    '{"a": {"$contains": NaN}}',
    json.dumps({".".join("a" * 100): 1}),
    json.dumps({".".join("a" * 100): {"$gt": 1}}),
    json.dumps({".".join("a" * 1200): {"$exists": True}}),
    json.dumps({"a" * 600: {"$exists": True}}),
]


def shortened(value: object) -> str:
    return str(value)[:40]


@pytest.fixture
def identity_path(client: httpx.Client, collection_name: str) -> str:
    identity = register(client, collection_name, "Ada", FACE).json()
    return f"/identities/{identity['identity_id']}?collection={collection_name}"


@pytest.mark.parametrize("text", INVALID_FILTERS, ids=shortened)
def test_filter_that_postgresql_cannot_evaluate_is_refused(
    client: httpx.Client, identity_path: str, collection_name: str, text: str
) -> None:
    """The list, a search with JSON and a search with a form refuse the same filters."""
    collection = {"collection": collection_name}
    listed = client.get("/identities", params={**collection, "filter": text})
    assert_problem(listed, 422, "invalid_filter")
    body = f'{{"image": "{b64(FACE)}", "filter": {text}}}'
    searched = client.post("/search", params=collection, content=body, headers=JSON_TYPE)
    form = client.post("/search", params=collection, data={"filter": text}, files={"image": ("x", FACE)})
    for response in (searched, form):
        assert response.status_code in (400, 422), response.text


@pytest.mark.parametrize("text", INVALID_JSON, ids=shortened)
def test_metadata_that_postgresql_cannot_store_are_refused(client: httpx.Client, identity_path: str, text: str) -> None:
    response = client.patch(identity_path, content=f'{{"metadata": {text}}}', headers=JSON_TYPE)
    assert response.status_code in (400, 422), response.text
    assert client.get(identity_path).json()["metadata"] == {}


def test_metadata_and_filters_at_the_limits_are_accepted(
    client: httpx.Client, identity_path: str, collection_name: str
) -> None:
    deep = '{"a":' * 31 + str(10**299) + "}" * 31
    assert client.patch(identity_path, content=f'{{"metadata": {deep}}}', headers=JSON_TYPE).status_code == 200
    condition = json.dumps({".".join("a" * 16): {"$exists": True}})
    for _ in range(6):
        condition = f'{{"$or": [{condition}]}}'
    listed = client.get("/identities", params={"collection": collection_name, "filter": condition})
    assert len(listed.json()["identities"]) == 1


@pytest.mark.parametrize(
    "moment",
    [
        "9999-12-31T23:59:59-14:00",
        "9999-12-31T23:59:59+14:00",
        "9999-12-31T23:59:59.999999Z",
        "0001-01-01T00:00:00+14:00",
        253_402_300_799,
        1e300,
    ],
)
def test_retention_time_outside_the_range_of_time_stamps_is_refused(
    client: httpx.Client, identity_path: str, moment: object
) -> None:
    assert_problem(client.patch(identity_path, json={"retain_until": moment}), 422, "invalid_request")
    assert client.get(identity_path).json()["retain_until"] is None


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/collections"),
        ("PATCH", "/collections/default"),
        ("POST", "/search"),
        ("POST", "/verify"),
        ("POST", "/embed"),
        ("POST", "/predict"),
        ("POST", "/register"),
        ("POST", "/jobs/enrolments"),
        ("POST", f"/identities/{uuid.UUID(int=1)}/merge"),
        ("POST", f"/identities/{uuid.UUID(int=1)}/split"),
        ("POST", "/collections/default/model-migration"),
    ],
)
@pytest.mark.parametrize("name", ["fmr", "top_k", "label", "identities", "unknown"])
def test_number_of_6000_digits_in_a_body_is_refused(client: httpx.Client, method: str, path: str, name: str) -> None:
    for value in (LONG, f"[{LONG}]", f"1e{LONG}", "9" * 4200):
        response = client.request(method, path, content=f'{{"{name}": {value}}}', headers=JSON_TYPE)
        assert response.status_code in (400, 422), response.text


@pytest.mark.parametrize("path", ["/identities", "/jobs", "/audit", "/collections"])
def test_number_of_6000_digits_in_a_query_is_refused(client: httpx.Client, path: str) -> None:
    assert_problem(client.get(path, params={"limit": LONG}), 422, "invalid_request")
    assert_problem(client.get(path, params={"cursor": LONG}), 422, "invalid_request")


def test_cursor_with_a_time_outside_the_range_is_refused(client: httpx.Client) -> None:
    for time in ("0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"):
        cursor = base64.urlsafe_b64encode(f"{time} {uuid.UUID(int=1)}".encode()).decode()
        assert_problem(client.get("/identities", params={"cursor": cursor}), 422, "invalid_request")


def test_box_whose_area_exceeds_single_precision_is_refused(client: httpx.Client) -> None:
    body = {"image": b64(FACE), "face": "box", "box": [-1e308, -1e308, 1e308, 1e308]}
    assert_problem(client.post("/search", json=body), 422, "invalid_request")


@pytest.mark.parametrize("path", ["/healthz", "/nowhere", "/healthz/"])
@pytest.mark.parametrize("header", ["Host: [::1", "Host: ]", "Host: a[b]", "Host: [::x]", "Host: a/b", "Host: \xbd"])
def test_malformed_host_header_is_refused(client: httpx.Client, path: str, header: str) -> None:
    assert status_of(client, path, header) == 403


@pytest.mark.parametrize("origin", ["http://[::1", "http://[", "//]", "http://[::x]", "http://a[b]", "http://\u2100"])
def test_malformed_origin_header_is_refused(client: httpx.Client, origin: str) -> None:
    assert status_of(client, "/healthz", f"Host: {client.base_url.netloc.decode()}", f"Origin: {origin}") == 403


def test_null_origin_without_a_host_is_refused(guarded: httpx.Client) -> None:
    assert status_of(guarded, "/healthz", "Origin: null", version="1.0") == 403


def test_malformed_host_header_of_a_guarded_service_is_refused(guarded: httpx.Client) -> None:
    for path in ("/healthz", "/nowhere"):
        assert status_of(guarded, path, "Host: [::1") == 403


def status_of(client: httpx.Client, path: str, *headers: str, version: str = "1.1") -> int:
    """Sends a GET request with these header lines, without the checks of an HTTP library, and returns the status."""
    request = "\r\n".join([f"GET {path} HTTP/{version}", *headers, "Connection: close", "", ""])
    with socket.create_connection((client.base_url.host, client.base_url.port), timeout=10) as connection:
        connection.sendall(request.encode())
        return int(connection.makefile("rb").readline().split()[1])
