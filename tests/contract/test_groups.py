"""Groups of unlabelled faces, and searches that remember unknown people."""

import uuid
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

import httpx
import numpy as np
import pytest

from service.gallery.access.scopes import Scope
from tests.contract.api_keys import new_key
from tests.contract.test_jobs import ZIP, finished_job, rows
from tests.photos import BUS, COLLINS, HOPPER, b64, brighter, encoded, pixels, zipped

PICTURES = {
    "c1.jpg": COLLINS.read_bytes(),
    "c2.jpg": brighter(COLLINS, 0.8),
    "c3.jpg": encoded(pixels(COLLINS)[:, ::-1]),
    "h1.jpg": HOPPER.read_bytes(),
    "h2.jpg": brighter(HOPPER, 0.8),
    "sky.jpg": encoded(pixels(BUS)[:60, :60]),
    "notes.txt": b"-",
}


def group(client: httpx.Client, collection: str, files: Mapping[str, bytes] | None = None, **query: Any) -> str:
    """Groups a collection, with the pictures of an archive if there are some. Returns the address of the groups."""
    body = {} if files is None else {"content": zipped(files), "headers": ZIP}
    response = client.post(f"/collections/{collection}/groups", params=query, **body)
    assert response.status_code == 202, response.text
    job = finished_job(client, response.headers["location"])
    assert job["state"] == "done", job
    return f"/collections/{collection}/groups/{job['id']}"


def both() -> bytes:
    """Returns a picture of Collins and Hopper."""
    faces = [pixels(COLLINS)[:300, 100:400], pixels(HOPPER)[:600:2, 100:700:2][:300, :256]]
    height = min(face.shape[0] for face in faces)
    return encoded(np.hstack([face[:height] for face in faces]), "PNG")


def sizes(client: httpx.Client, address: str) -> list[int]:
    return [item["size"] for item in client.get(address).json()["groups"]]


def test_archive_is_grouped_and_groups_are_named(client: httpx.Client, collection_name: str) -> None:
    scope = {"collection": collection_name}
    address = group(client, collection_name, PICTURES)
    by_source = {row["source"]: row for row in rows(client, f"/jobs/{address.rpartition('/')[2]}?{_query(scope)}")}
    assert [by_source[name]["code"] for name in ("sky.jpg", "notes.txt")] == ["no_face", "image_unreadable"]
    assert by_source["groups"]["detail"] == "2 groups of 5 of 5 identities"
    first, second = client.get(address).json()["groups"]
    assert (first["number"], first["size"], first["names"], second["size"]) == (1, 3, [], 2)
    members = client.get(f"{address}/1").json()["members"]
    assert [item["position"] for item in members] == [1, 2, 3]
    assert members[0] == first["representative"]
    assert {item["metadata"]["picture"] for item in members} == {"c1.jpg", "c2.jpg", "c3.jpg"}
    assert all(not item["named"] and len(item["box"]) == 4 and item["similarity"] > 0.8 for item in members)
    unnamed = client.get("/identities", params=scope | {"named": False}).json()["identities"]
    assert len(unnamed) == 5
    assert client.get("/identities", params=scope | {"named": True}).json()["identities"] == []

    response = client.post(f"{address}/1/enrol", json={"external_id": "collins", "label": "Collins"})
    named = response.json()
    assert (named["external_id"], named["label"], named["named"], named["created"]) == (
        "collins",
        "Collins",
        True,
        True,
    )
    created_at, updated_at = (datetime.fromisoformat(named[name]) for name in ("created_at", "updated_at"))
    assert updated_at > created_at
    assert (named["template_count"], named["identities_merged"], named["identities_remaining"]) == (3, 3, 0)
    best = client.post("/search", params=scope, json={"image": b64(brighter(COLLINS, 0.9))}).json()
    candidate = best["results"][0]["candidates"][0]
    assert (candidate["external_id"], candidate["named"], candidate["match"]) == ("collins", True, True)
    assert sizes(client, address) == [2]
    assert client.post(f"{address}/1/enrol", json={"external_id": "x"}).json()["code"] == "group_not_found"
    entry = client.get("/audit", params=scope | {"action": "merge"}).json()["entries"][-1]
    assert entry["identity_id"] == named["id"]
    assert len(entry["details"]["identities"]) == 3


def test_new_pictures_join_a_named_identity_of_their_group(client: httpx.Client, collection_name: str) -> None:
    scope = {"collection": collection_name}
    client.post("/register", params=scope, json={"external_id": "hopper", "images": [b64(HOPPER.read_bytes())]})
    address = group(client, collection_name, {"a.jpg": brighter(HOPPER, 0.7), "b.jpg": brighter(HOPPER, 0.6)})
    (found,) = client.get(address).json()["groups"]
    assert (found["size"], found["names"]) == (3, ["hopper"])
    members = client.get(f"{address}/1").json()["members"]
    omitted = next(item["identity_id"] for item in members if item["metadata"].get("picture") == "b.jpg")
    named = client.post(f"{address}/1/enrol", json={"external_id": "hopper", "omit": [omitted]}).json()
    assert (named["created"], named["template_count"], named["identities_merged"]) == (False, 2, 1)
    assert sizes(client, address) == [2]


def test_every_face_of_a_picture_is_grouped(client: httpx.Client, collection_name: str) -> None:
    """A later job groups the same identities without pictures."""
    first = group(client, collection_name, {"both.png": both()})
    job_rows = rows(client, f"/jobs/{first.rpartition('/')[2]}?collection={collection_name}")
    assert [row["detail"] for row in job_rows] == ["2 of 2 faces are enrolled", "0 groups of 0 of 2 identities"]
    assert job_rows[0]["identity_id"] is None
    second = group(client, collection_name)
    assert sizes(client, first) == sizes(client, second) == []
    everyone = group(client, collection_name, threshold=-1)
    assert sizes(client, everyone) == [2]
    page = client.get(f"{everyone}/1", params={"limit": 1}).json()
    rest = client.get(f"{everyone}/1", params={"cursor": page["next_cursor"]}).json()
    assert [item["position"] for item in page["members"] + rest["members"]] == [1, 2]


def test_erased_identities_leave_their_groups(client: httpx.Client, collection_name: str) -> None:
    address = group(client, collection_name, PICTURES)
    member = client.get(f"{address}/1").json()["members"][0]
    path, scope = f"/identities/{member['identity_id']}", {"collection": collection_name}
    [membership] = client.get(f"{path}/export", params=scope).json()["group_memberships"]
    assert (membership["number"], membership["position"]) == (1, 1)
    assert client.delete(path, params=scope).json()["deleted"]["group_memberships"] == 1
    first = client.get(address).json()["groups"][0]
    assert (first["size"], first["representative"]["position"]) == (2, 2)
    job_rows = rows(client, f"/jobs/{address.rpartition('/')[2]}?collection={collection_name}")
    assert member["metadata"]["picture"] not in {row["source"] for row in job_rows}


def test_an_unnamed_identity_gets_a_name_once(client: httpx.Client, collection_name: str) -> None:
    scope = {"collection": collection_name}
    client.post("/register", params=scope, json={"external_id": "taken", "images": [b64(HOPPER.read_bytes())]})
    group(client, collection_name, {"c.jpg": PICTURES["c1.jpg"]})
    (unnamed,) = client.get("/identities", params=scope | {"named": False}).json()["identities"]
    address = f"/identities/{unnamed['id']}"
    assert unnamed["external_id"].startswith("unnamed-")
    assert client.patch(address, params=scope, json={"external_id": "taken"}).json()["code"] == "identity_exists"
    named = client.patch(address, params=scope, json={"external_id": "collins", "metadata": {}}).json()
    assert (named["external_id"], named["label"], named["named"]) == ("collins", "collins", True)
    assert client.patch(address, params=scope, json={"external_id": "x"}).json()["code"] == "conflict"


def test_a_search_remembers_an_unknown_face(client: httpx.Client, collection_name: str) -> None:
    scope = {"collection": collection_name}

    def search(data: bytes, **options: Any) -> dict[str, Any]:
        body = {"image": b64(data), "remember": True} | options
        response = client.post("/search", params=scope, json=body)
        assert response.status_code == 200, response.text
        return response.json()["results"][0]

    created = search(COLLINS.read_bytes())["remembered"]
    again = search(brighter(COLLINS, 0.8))
    assert again["remembered"] is None
    assert again["candidates"][0]["identity_id"] == created["identity_id"]
    assert (again["candidates"][0]["match"], again["candidates"][0]["named"]) == (True, False)
    small = encoded(pixels(HOPPER)[::12, ::12])
    refused = search(small)["remembered"]
    assert (refused["identity_id"], refused["code"]) == (None, "face_rejected")
    assert search(HOPPER.read_bytes(), remember=False)["remembered"] is None
    assert len(client.get("/identities", params=scope).json()["identities"]) == 1


def test_every_unknown_face_of_a_picture_is_remembered(client: httpx.Client, collection_name: str) -> None:
    scope = {"collection": collection_name}
    body = {"image": b64(both()), "face": "all", "remember": True}
    results = client.post("/search", params=scope, json=body).json()["results"]
    stored = {item["remembered"]["identity_id"] for item in results}
    assert len(stored) == 2
    identities = client.get("/identities", params=scope | {"named": False}).json()["identities"]
    assert {item["id"] for item in identities} == stored


def test_remember_compares_with_the_whole_collection(client: httpx.Client, collection_name: str) -> None:
    """A filter could hide the person, who would then be stored twice."""
    body = {"image": b64(COLLINS.read_bytes()), "remember": True, "filter": {"team": "x"}}
    response = client.post("/search", params={"collection": collection_name}, json=body)
    assert (response.status_code, response.json()["code"]) == (422, "invalid_request")


def test_remember_needs_the_scope_enrol(send: Callable[..., httpx.Response]) -> None:
    body = {"image": b64(COLLINS.read_bytes()), "remember": True}
    response = send(new_key(Scope.SEARCH), "POST", "/search", json=body)
    assert (response.status_code, response.json()["pointer"]) == (403, "/remember")


@pytest.mark.parametrize(
    ("query", "body", "status", "code"),
    [
        ({"fmr": 1e-9}, {}, 422, "rate_not_calibrated"),
        ({"fmr": 2}, {}, 422, "invalid_request"),
        ({"fmr": 1e-3, "threshold": 0.4}, {}, 422, "invalid_request"),
        ({}, {"content": b"-", "headers": {"content-type": "text/plain"}}, 415, "unsupported_media_type"),
        ({}, {"content": b"-", "headers": ZIP}, 422, "archive_unreadable"),
        ({}, {"json": {"folder": "../etc"}}, 422, "invalid_request"),
    ],
)
def test_bad_requests_start_no_job(
    client: httpx.Client, collection_name: str, query: dict[str, Any], body: dict[str, Any], status: int, code: str
) -> None:
    response = client.post(f"/collections/{collection_name}/groups", params=query, **body)
    assert (response.status_code, response.json()["code"]) == (status, code)
    assert client.get("/jobs", params={"collection": collection_name}).json()["jobs"] == []


def test_unknown_jobs_and_groups_are_not_found(client: httpx.Client, collection_name: str) -> None:
    address = f"/collections/{collection_name}/groups/{uuid.uuid4()}"
    assert client.get(address).json()["code"] == "job_not_found"
    address = group(client, collection_name)
    assert client.get(address).json() == {"groups": [], "next_cursor": None}
    assert client.get(f"{address}/1").json()["code"] == "group_not_found"


def _query(scope: Mapping[str, str]) -> str:
    return "&".join(f"{name}={value}" for name, value in scope.items())
