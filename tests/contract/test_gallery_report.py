"""Tests of `GET /collections/{name}/report` with real pictures."""

from collections.abc import Callable

import httpx
import pytest

from service.gallery.access.scopes import Scope
from tests.contract.api_keys import new_key
from tests.contract.enrolment import register
from tests.photos import COLLINS, HOPPER, b64, brighter


def report(client: httpx.Client, collection: str, **query: object) -> httpx.Response:
    return client.get(f"/collections/{collection}/report", params=query)


def test_the_report_of_an_empty_or_unknown_collection(client: httpx.Client, collection_name: str) -> None:
    assert report(client, "nowhere").json()["code"] == "collection_not_found"
    assert report(client, collection_name, threshold=2).status_code == 422
    empty = report(client, collection_name).json()
    assert (empty["identities"], empty["compared_templates"], empty["measured_fpir"]) == (0, 0, 0)
    assert empty["duplicates"] == empty["outliers"] == []


def test_the_report_lists_a_person_enrolled_twice_and_a_misplaced_picture(
    client: httpx.Client, collection_name: str
) -> None:
    register(client, collection_name, "Eileen", COLLINS.read_bytes())
    twice = register(client, collection_name, "Collins", brighter(COLLINS, 0.7)).json()
    hopper = register(client, collection_name, "Hopper", HOPPER.read_bytes()).json()["identity_id"]
    for factor in (0.7, 0.8):
        body = {"external_id": "Hopper", "image": b64(brighter(HOPPER, factor))}
        client.post("/register", params={"collection": collection_name}, json=body)
    body = {"external_id": "Hopper", "image": b64(brighter(COLLINS, 1.1)), "force": True}
    misplaced = client.post("/register", params={"collection": collection_name}, json=body).json()

    found = report(client, collection_name).json()
    assert (found["identities"], found["templates"], found["compared_templates"]) == (3, 6, 6)
    pairs = [{pair["first"]["label"], pair["second"]["label"]} for pair in found["duplicates"] if pair["candidate"]]
    assert {"Eileen", "Collins"} in pairs
    assert found["duplicate_count"] == len(pairs)
    outlier = found["outliers"][0]
    assert outlier["person"]["identity_id"] == hopper
    assert outlier["template_id"] == misplaced["images"][0]["template_id"]
    assert outlier["nearest"]["label"] in {"Eileen", "Collins"}
    assert outlier["nearest_similarity"] > outlier["similarity"]
    assert found["measured_fpir"] == pytest.approx(3 / 6)  # the three pictures of Collins match each other

    client.delete(f"/identities/{twice['identity_id']}", params={"collection": collection_name})
    assert report(client, collection_name, threshold=0.99).json()["threshold"] == 0.99
    query = {"collection": collection_name, "action": "gallery-report"}
    entries = client.get("/audit", params=query).json()["entries"]
    assert [entry["details"] for entry in entries] == [{"templates": 6}, {"templates": 5}]


@pytest.mark.usefixtures("database_url_variable")
def test_a_key_of_one_collection_reads_no_other_report(
    send: Callable[..., httpx.Response], collection_name: str
) -> None:
    key = new_key(Scope.MANAGE, collection=collection_name)
    assert send(key, "GET", f"/collections/{collection_name}/report").status_code == 200
    refused = send(key, "GET", "/collections/default/report")
    assert (refused.status_code, refused.json()["code"]) == (403, "not_allowed")
    assert send(new_key(Scope.SEARCH), "GET", f"/collections/{collection_name}/report").status_code == 403
