"""Tests of invalid requests: body size, media type, path, query parameters, origin and request ID."""

import uuid

import httpx
import pytest

from tests.contract.enrolment import FACE, identity_count
from tests.contract.problem_documents import assert_problem


def test_body_of_fifty_megabytes_is_refused(client: httpx.Client) -> None:
    declared = client.post("/search", content=b"\x00" * 50_000_000, headers={"content-type": "application/json"})
    assert_problem(declared, 413, "body_too_large")

    def chunks() -> object:
        for _ in range(50):
            yield b"\x00" * 1_000_000

    try:
        headers = {"content-type": "application/json"}
        streamed = client.post("/search", content=chunks(), headers=headers)  # type: ignore[arg-type]
    except (httpx.WriteError, httpx.RemoteProtocolError):
        return  # The service closed the connection before the whole body was sent.
    assert_problem(streamed, 413, "body_too_large")


@pytest.mark.parametrize(
    ("content", "content_type", "status", "code"),
    [
        (b"{", "application/json", 400, "malformed_body"),
        (b"", "application/json", 400, "malformed_body"),
        (b"\xff\xfe", "application/json", 400, "malformed_body"),
        (b"image", "text/plain", 415, "unsupported_media_type"),
        (b"image", "", 415, "unsupported_media_type"),
        (b"no boundary", "multipart/form-data", 400, "malformed_body"),
        (b"--x\r\nbroken", "multipart/form-data; boundary=y", 400, "malformed_body"),
    ],
)
def test_malformed_body_or_media_type_is_refused(
    client: httpx.Client, content: bytes, content_type: str, status: int, code: str
) -> None:
    headers = {"content-type": content_type} if content_type else {}
    assert_problem(client.post("/search", content=content, headers=headers), status, code)


def test_malformed_form_field_or_repeated_picture_is_refused(client: httpx.Client) -> None:
    response = client.post("/register", data={"label": "x", "metadata": "{"}, files={"images": ("x", FACE)})
    assert_problem(response, 400, "malformed_body")
    repeated = client.post("/search", files=[("image", ("a", FACE)), ("image", ("b", FACE))])
    assert_problem(repeated, 400, "malformed_body")


def test_unknown_paths_methods_and_identities_are_refused(client: httpx.Client) -> None:
    assert_problem(client.get("/nowhere"), 404, "not_found")
    assert_problem(client.get("/register"), 405, "method_not_allowed")
    not_allowed = client.put("/collections/default")
    assert not_allowed.json()["detail"] == "/collections/default does not support PUT; use DELETE, GET, PATCH"
    assert not_allowed.headers["allow"] == "DELETE, GET, PATCH"
    unknown = "00000000-0000-4000-8000-000000000000"
    assert_problem(client.get(f"/identities/{unknown}"), 404, "identity_not_found")
    assert_problem(client.delete(f"/identities/{unknown}"), 404, "identity_not_found")
    assert_problem(client.get(f"/identities/{unknown}?collection=no-such"), 404, "collection_not_found")
    assert_problem(client.get("/identities/not-a-uuid"), 422, "invalid_request")


def test_invalid_request_id_is_replaced(client: httpx.Client) -> None:
    assert client.get("/healthz", headers={"x-request-id": "abc-1"}).headers["x-request-id"] == "abc-1"
    assert client.get("/healthz", headers={"x-request-id": "a b;c"}).headers["x-request-id"] != "a b;c"


@pytest.mark.parametrize(
    "headers", [{"origin": "https://evil.example"}, {"origin": "null"}, {"host": "evil.example:8000"}]
)
def test_request_from_a_foreign_origin_is_refused(
    client: httpx.Client, collection_name: str, headers: dict[str, str]
) -> None:
    fields, files = {"label": "x"}, {"images": ("x", FACE)}
    assert_problem(
        client.post("/register", params={"collection": collection_name}, data=fields, files=files, headers=headers),
        403,
        "foreign_origin",
    )
    assert identity_count(client, collection_name) == 0


def test_request_from_the_own_origin_is_accepted(client: httpx.Client) -> None:
    own = str(client.base_url).rstrip("/")
    assert client.get("/readyz", headers={"origin": own}).status_code == 200


def test_unknown_charset_is_refused(client: httpx.Client) -> None:
    content_type = "multipart/form-data; boundary=b; charset=undefined"
    content = b'--b\r\nContent-Disposition: form-data; name="label"\r\n\r\nx\r\n--b--\r\n'
    assert_problem(
        client.post("/search", content=content, headers={"content-type": content_type}), 400, "malformed_body"
    )


@pytest.mark.parametrize("name", ["%00", "..%2Fx", "a" * 80])
def test_invalid_collection_name_in_a_path_is_refused(client: httpx.Client, name: str) -> None:
    response = client.patch(f"/collections/{name}", json={"fmr": 0.01})
    assert response.status_code in {404, 422}
    assert response.headers["content-type"] == "application/problem+json"


def test_unknown_model_or_collection_is_refused(client: httpx.Client) -> None:
    assert_problem(client.get("/models/other/calibration"), 404, "model_not_found")
    assert_problem(client.get("/models/other/calibration/det.svg"), 404, "model_not_found")
    assert_problem(client.patch("/collections/no-such", json={"fmr": 0.01}), 404, "collection_not_found")


@pytest.mark.parametrize(
    ("method", "path", "misspelt"),
    [
        ("GET", "/identities?lable=zzz", "lable"),
        ("DELETE", f"/identities/{uuid.UUID(int=1)}?colection=staff", "colection"),
        ("POST", "/jobs/enrolments?collectoin=staff", "collectoin"),
        ("POST", "/search?top_k=3", "top_k"),
    ],
)
def test_misspelt_query_parameter_is_refused(client: httpx.Client, method: str, path: str, misspelt: str) -> None:
    """If it were ignored, its default would apply: another collection, or all identities."""
    response = client.request(method, path)
    assert (response.status_code, response.json()["pointer"]) == (422, f"/{misspelt}"), response.text


def test_health_probes_accept_unknown_parameters(client: httpx.Client) -> None:
    assert client.get("/healthz?from=balancer").status_code == 200


def test_root_redirects_to_the_documentation(client: httpx.Client) -> None:
    response = client.get("/")
    assert (response.status_code, response.headers["location"]) == (307, "/docs")
