"""External ids and labels are compared in NFC and without surrounding spaces, and shown as they were sent."""

import unicodedata
from urllib.parse import quote

import httpx
import psycopg
import pytest

from service.runtime.settings import Settings
from tests.contract.test_jobs import finished_job, rows, submit
from tests.contract.test_lifecycle import enrol
from tests.photos import COLLINS, HOPPER, b64
from tests.unit.test_source_names import without_utf8_flag

COMPOSED = "Zoë Müller"
DECOMPOSED = unicodedata.normalize("NFD", COMPOSED)
ODD = [
    "a/b",
    "a%2Fb",
    "[test]",
    "what?",
    "#1",
    "../x",
    "a+b & c",
    "😀👩‍🚀",
    "x" * 256,
    "ends/",
    "ü" * 256,
    "\\",
    "100 %",
]


def find(client: httpx.Client, collection: str, external_id: str) -> httpx.Response:
    address = f"/identities/external-ids/{quote(external_id, safe='')}"
    return client.get(address, params={"collection": collection})


def test_two_forms_of_a_name_are_one_identity(client: httpx.Client, collection_name: str) -> None:
    scope = {"collection": collection_name}
    first = enrol(client, collection_name, DECOMPOSED, COLLINS.read_bytes())
    body = {"external_id": f" {COMPOSED}\n", "images": [b64(HOPPER.read_bytes())]}
    again = client.post("/register", params=scope, json=body).json()
    assert (again["identity_id"], again["created"], again["external_id"]) == (first, False, DECOMPOSED)
    for form in (COMPOSED, DECOMPOSED, f"  {COMPOSED} "):
        found = find(client, collection_name, form).json()
        assert (found["id"], found["external_id"], found["label"]) == (first, DECOMPOSED, DECOMPOSED)
        for name in ("external_id", "label"):
            listed = client.get("/identities", params=scope | {name: form}).json()["identities"]
            assert [item["id"] for item in listed] == [first]
        probe = {"image_a": b64(COLLINS.read_bytes()), "external_id": form}
        assert client.post("/verify", params=scope, json=probe).json()["identity"]["id"] == first
    found = client.post("/search", params=scope, json={"image": b64(COLLINS.read_bytes())}).json()["results"][0]
    assert found["candidates"][0]["external_id"] == DECOMPOSED
    exported = client.get(f"/identities/{first}/export", params=scope).json()
    assert exported["identity"]["external_id"] == DECOMPOSED


def test_a_name_of_spaces_is_refused(client: httpx.Client, collection_name: str) -> None:
    body = {"external_id": " \u2003", "images": [b64(COLLINS.read_bytes())]}
    response = client.post("/register", params={"collection": collection_name}, json=body)
    assert response.status_code == 422
    assert "must not consist of spaces" in response.text
    assert find(client, collection_name, " ").status_code == 422


def test_odd_names_work_everywhere(client: httpx.Client, collection_name: str) -> None:
    scope = {"collection": collection_name}
    ids = {name: enrol(client, collection_name, name, COLLINS.read_bytes()) for name in ODD}
    assert len(set(ids.values())) == len(ODD)
    for name, identity_id in ids.items():
        found = find(client, collection_name, name)
        assert (found.status_code, found.json().get("id")) == (200, identity_id), name
        assert found.json()["external_id"] == found.json()["label"] == name
        listed = client.get("/identities", params=scope | {"external_id": name}).json()["identities"]
        assert [item["id"] for item in listed] == [identity_id]
    assert find(client, collection_name, "x" * 257).status_code == 422
    assert find(client, collection_name, "nobody").json()["code"] == "identity_not_found"


def test_a_job_merges_both_forms_and_erasure_finds_its_rows(
    client: httpx.Client, collection_name: str, settings: Settings
) -> None:
    files = {f"{COMPOSED}/1.jpg": COLLINS.read_bytes(), f"{DECOMPOSED}/2.jpg": b"not a picture"}
    files |= {f"other/{DECOMPOSED}.txt": b"-"}
    address = submit(client, collection_name, files)
    assert finished_job(client, address)["counts"]["accepted"] == 1
    shown = {row["source"]: row["external_id"] for row in rows(client, address)}
    assert shown[f"{COMPOSED}/1.jpg"] == COMPOSED
    assert shown[f"{DECOMPOSED}/2.jpg"] == DECOMPOSED
    identity_id = find(client, collection_name, COMPOSED).json()["id"]
    receipt = client.delete(f"/identities/{identity_id}", params={"collection": collection_name}).json()
    assert receipt["deleted"]["job_rows"] == 2
    assert [row["external_id"] for row in rows(client, address)] == ["other"]


def test_file_names_of_a_code_page_are_read_with_encoding(client: httpx.Client, collection_name: str) -> None:
    archive = without_utf8_flag(["山田/1.jpg".encode("cp932")])
    address = submit(client, collection_name, archive, encoding="cp932")
    finished_job(client, address)
    assert [row["external_id"] for row in rows(client, address)] == ["山田"]
    refused = client.post(
        "/jobs/enrolments",
        params={"collection": collection_name, "encoding": "ebcdic"},
        content=archive,
        headers={"content-type": "application/zip"},
    )
    assert refused.status_code == 422
    assert "cp932" in refused.text


@pytest.mark.parametrize("sent", [DECOMPOSED, f"  {COMPOSED}"])
def test_the_key_of_an_identity_is_stored_in_one_form(
    client: httpx.Client, collection_name: str, postgres_url: str, sent: str
) -> None:
    identity_id = enrol(client, collection_name, sent, COLLINS.read_bytes())
    with psycopg.connect(postgres_url.replace("postgresql+psycopg", "postgresql")) as connection:
        query = "SELECT external_id, external_id_sent FROM identity WHERE id = %s"
        [row] = connection.execute(query, [identity_id]).fetchall()
    assert row == (COMPOSED, None if sent.strip() == COMPOSED else sent)
