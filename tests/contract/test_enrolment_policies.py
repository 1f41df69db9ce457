"""Tests of the enrolment policies of a collection: quality, duplicates and outliers."""

from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np

from tests.contract.enrolment import count, create_collection, register
from tests.photos import COLLINS, HOPPER, b64, brighter, encoded, pixels


def test_quality_off_accepts_a_dark_face_that_standard_refuses(client: httpx.Client) -> None:
    dark = encoded((pixels(HOPPER) * 0.12).astype(np.uint8), "PNG")
    refused = register(client, create_collection(client), "hopper", dark, detector="none")
    assert refused.status_code == 422
    assert "too_dark" in refused.json()["reasons"]
    assert (
        register(client, create_collection(client, quality="off"), "hopper", dark, detector="none").status_code == 201
    )


def test_strict_quality_requires_a_larger_face_than_standard(client: httpx.Client) -> None:
    name = create_collection(client, quality="strict")
    small = encoded(pixels(COLLINS)[30:230:2, 120:340:2], "PNG")
    refused = register(client, name, "collins", small)
    assert refused.status_code == 422, refused.text
    assert "too_small" in refused.json()["reasons"]
    assert register(client, create_collection(client), "collins", small).status_code == 201


def test_force_enrols_a_refused_face_and_returns_the_reasons(client: httpx.Client) -> None:
    dark = encoded((pixels(HOPPER) * 0.12).astype(np.uint8), "PNG")
    response = register(client, create_collection(client), "hopper", dark, detector="none", force=True)
    assert response.status_code == 201
    (image,) = response.json()["images"]
    assert image["status"] == "accepted"
    assert "too_dark" in image["reasons"]


def test_duplicate_is_rejected_and_not_stored(client: httpx.Client) -> None:
    name = create_collection(client, duplicates="reject")
    assert register(client, name, "collins", COLLINS.read_bytes()).status_code == 201
    second = register(client, name, "another label", brighter(COLLINS, 0.8))
    assert second.status_code == 409, second.text
    assert second.json()["code"] == "duplicate_person"
    assert [one["external_id"] for one in second.json()["duplicates"]] == ["collins"]
    assert count(client, name) == 1
    assert register(client, name, "hopper", HOPPER.read_bytes()).json()["duplicate_candidates"] == []
    assert register(client, name, "collins", brighter(COLLINS, 0.8)).status_code == 200


def test_duplicate_is_enrolled_with_a_warning(client: httpx.Client) -> None:
    name = create_collection(client, duplicates="warn")
    first = register(client, name, "collins", COLLINS.read_bytes()).json()
    assert first["duplicate_candidates"] == []
    second = register(client, name, "another label", brighter(COLLINS, 0.8))
    assert second.status_code == 201
    (candidate,) = second.json()["duplicate_candidates"]
    assert candidate["identity_id"] == first["identity_id"]
    assert candidate["score"] > 0.8


def test_patch_changes_the_sent_policies_only(client: httpx.Client) -> None:
    name = create_collection(client, fmr=0.0001)
    changed = client.patch(f"/collections/{name}", json={"duplicates": "warn"}).json()
    assert (changed["duplicates"], changed["quality"], changed["fmr"]) == ("warn", "standard", 0.0001)
    changed = client.patch(f"/collections/{name}", json={"fmr": None, "quality": "off"}).json()
    assert (changed["duplicates"], changed["quality"], changed["fmr"]) == ("warn", "off", None)
    assert client.patch(f"/collections/{name}", json={"quality": "high"}).status_code == 422


def test_one_of_two_concurrent_duplicates_is_rejected(client: httpx.Client) -> None:
    """The two requests have different labels and pictures. Ten repetitions expose races."""
    for _ in range(10):
        name = create_collection(client, duplicates="reject")
        pictures = {"ada": COLLINS.read_bytes(), "grace": brighter(COLLINS, 0.85)}
        with ThreadPoolExecutor(2) as pool:
            responses = list(pool.map(lambda item, name=name: register(client, name, *item), pictures.items()))
        assert sorted(response.status_code for response in responses) == [201, 409]
        assert count(client, name) == 1


def test_outlier_is_enrolled_and_marked(client: httpx.Client, collection_name: str) -> None:
    """An outlier is not refused, because two photos of one person can also differ by this much."""
    (first,) = register(client, collection_name, "John", COLLINS.read_bytes()).json()["images"]
    assert (first["similarity"], first["outlier"]) == (None, None)
    (same,) = register(client, collection_name, "John", brighter(COLLINS, 0.8)).json()["images"]
    assert same["similarity"] > 0.9
    assert not same["outlier"]
    response = register(client, collection_name, "John", HOPPER.read_bytes()).json()
    (other,) = response["images"]
    assert (response["template_count"], other["status"], other["outlier"]) == (3, "accepted", True)
    assert other["similarity"] < 0.3


def test_outlier_within_one_request_is_marked(client: httpx.Client, collection_name: str) -> None:
    pictures = [b64(data) for data in (COLLINS.read_bytes(), brighter(COLLINS, 0.7), HOPPER.read_bytes())]
    body = {"label": "two", "images": pictures}
    images = client.post("/register", params={"collection": collection_name}, json=body).json()["images"]
    assert [image["outlier"] for image in images] == [False, False, True]
