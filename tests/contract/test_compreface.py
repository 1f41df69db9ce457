"""CompreFace's REST API: documents, errors and rights, on a service with keys."""

import uuid
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest

from service.gallery.access.scopes import Scope
from service.runtime.api import create_app
from service.runtime.settings import load_settings
from tests.conftest import serving
from tests.contract.api_keys import new_key
from tests.contract.test_scenes import together
from tests.photos import BUS, COLLINS, HOPPER, b64, brighter, encoded, pixels

FACES, SUBJECTS = "/api/v1/recognition/faces", "/api/v1/recognition/subjects"
NO_FACE = encoded(np.full((300, 300, 3), 120, np.uint8))


@pytest.fixture(scope="module")
def compreface(postgres_url: str, database_url_variable: None, tmp_path_factory: Any) -> Iterator[httpx.Client]:
    settings = load_settings(
        database={"url": postgres_url},
        server={"require_keys": True, "compreface_api": True},
        jobs={"uploads": tmp_path_factory.mktemp("uploads")},
    )
    with serving(create_app(settings)) as client:
        yield client


@pytest.fixture
def face_service(compreface: httpx.Client) -> Iterator[httpx.Client]:
    """A client with the key of a new collection, like that of a recognition service of CompreFace."""
    name = f"compreface-{uuid.uuid4().hex[:8]}"
    everything = new_key()
    compreface.post("/collections", json={"name": name}, headers={"x-api-key": everything}).raise_for_status()
    key = new_key(collection=name)
    with httpx.Client(base_url=compreface.base_url, headers={"x-api-key": key}, timeout=30) as client:
        yield client


def add(client: httpx.Client, subject: str, photo: bytes) -> httpx.Response:
    return client.post(FACES, params={"subject": subject}, files={"file": ("a.jpg", photo, "image/jpeg")})


def names(client: httpx.Client) -> list[str]:
    return client.get(SUBJECTS).json()["subjects"]


def test_subjects_and_their_faces(face_service: httpx.Client) -> None:
    first = add(face_service, "ada/é", COLLINS.read_bytes())
    assert (first.status_code, first.json()["subject"]) == (201, "ada/é")
    as_base64 = face_service.post(FACES, params={"subject": "grace"}, json={"file": b64(HOPPER.read_bytes())})
    second = as_base64.json()["image_id"]
    page = face_service.get(FACES, params={"size": 1, "page": 1}).json()
    assert page == {
        "faces": [{"image_id": second, "subject": "grace"}],
        "page_number": 1,
        "page_size": 1,
        "total_pages": 2,
        "total_elements": 2,
    }
    assert face_service.get(FACES, params={"subject": "nobody"}).json()["total_elements"] == 0
    assert face_service.post(SUBJECTS, json={"subject": "empty"}).json() == {"subject": "empty"}
    assert names(face_service) == face_service.get(f"{SUBJECTS}/").json()["subjects"] == ["ada/é", "grace", "empty"]
    assert face_service.put(f"{SUBJECTS}/grace", json={"subject": "Grace"}).json() == {"updated": True}
    assert face_service.get(FACES, params={"subject": "Grace"}).json()["faces"][0]["image_id"] == second
    assert face_service.put(f"{SUBJECTS}/empty", json={"subject": "Grace"}).json() == {"updated": True}  # merged
    assert names(face_service) == ["ada/é", "Grace"]
    assert face_service.delete(f"{FACES}/{second}").json() == {"image_id": second, "subject": "Grace"}
    assert names(face_service) == ["ada/é"]
    assert face_service.delete(FACES, params={"subject": "ada/é"}).json() == {"deleted": 1}
    assert names(face_service) == []


def test_several_faces_and_all_subjects_are_deleted(face_service: httpx.Client) -> None:
    ids = [
        add(face_service, "ada", photo).json()["image_id"] for photo in (COLLINS.read_bytes(), brighter(COLLINS, 0.8))
    ]
    deleted = face_service.post(f"{FACES}/delete", json=[ids[0], str(uuid.uuid4())]).json()
    assert deleted == [{"image_id": ids[0], "subject": "ada"}]
    add(face_service, "grace", HOPPER.read_bytes())
    assert face_service.delete(f"{SUBJECTS}/grace").json() == {"subject": "grace"}
    assert face_service.delete(SUBJECTS).json() == {"deleted": 1}
    add(face_service, "ada", COLLINS.read_bytes())
    assert face_service.delete(FACES).json() == {"deleted": 1}
    assert names(face_service) == []


def test_faces_of_a_group_are_recognised_the_largest_first(face_service: httpx.Client) -> None:
    add(face_service, "collins", brighter(COLLINS, 0.8))
    add(face_service, "hopper", brighter(HOPPER, 0.8))
    group = encoded(together(pixels(COLLINS), pixels(HOPPER), pixels(BUS)[390:530, 80:340]), "PNG")
    answer = face_service.post(
        "/api/v1/recognition/recognize",
        params={"prediction_count": 2, "face_plugins": "landmarks,age", "limit": 0, "status": "true"},
        files={"file": group},
    ).json()
    best = [(item["subjects"] or [{"subject": None, "similarity": 0}])[0] for item in answer["result"]]
    assert {item["subject"] for item in best if item["similarity"] > 0.999} == {"collins", "hopper"}
    first = answer["result"][0]
    assert [len(first["subjects"]), len(first["landmarks"])] == [2, 5]
    assert all(isinstance(first["box"][name], int) for name in ("x_min", "y_min", "x_max", "y_max"))
    one = face_service.post("/api/v1/recognition/recognize", params={"limit": 1}, files={"file": group}).json()
    assert [item["box"] for item in one["result"]] == [first["box"]]
    assert "landmarks" not in one["result"][0]


def test_pictures_are_compared_with_a_face_and_with_each_other(face_service: httpx.Client) -> None:
    image_id = add(face_service, "ada", COLLINS.read_bytes()).json()["image_id"]
    photos = {name: file.read_bytes() for name, file in (("same", COLLINS), ("other", HOPPER))}
    scores = {}
    for name, photo in photos.items():
        [face] = face_service.post(f"{FACES}/{image_id}/verify", files={"file": photo}).json()["result"]
        files = {"source_image": COLLINS.read_bytes(), "target_image": photo}
        [pair] = face_service.post("/api/v1/verification/verify", files=files).json()["result"]
        assert pair["face_matches"][0]["similarity"] == pytest.approx(face["similarity"], abs=0.02)
        assert pair["source_image_face"]["box"]["probability"] > 0.5
        scores[name] = face["similarity"]
    assert scores["same"] > 0.9999
    assert scores["other"] < 0.999


@pytest.mark.parametrize(
    ("method", "path", "options", "status", "code"),
    [
        ("POST", f"{FACES}?subject=a", {"files": {"file": NO_FACE}}, 400, 28),
        ("POST", f"{FACES}?subject=a", {"files": {"file": b"text"}}, 400, 21),
        ("POST", f"{FACES}?subject=a", {"files": {"file": pixels}}, 400, 31),
        ("POST", FACES, {"files": {"file": NO_FACE}}, 400, 26),
        ("POST", "/api/v1/recognition/recognize", {"files": {"file": NO_FACE}}, 400, 28),
        ("POST", "/api/v1/recognition/recognize", {"json": {}}, 400, 26),
        ("DELETE", f"{SUBJECTS}/nobody", {}, 404, 42),
        ("DELETE", f"{FACES}/{uuid.UUID(int=0)}", {}, 404, 44),
        ("DELETE", f"{FACES}/x", {}, 400, 26),
        ("POST", f"{FACES}/delete", {"json": ["x"]}, 400, 26),
        ("GET", f"{FACES}?size=100000", {}, 400, 26),
    ],
)
def test_errors_have_a_message_and_a_code(
    face_service: httpx.Client, method: str, path: str, options: dict[str, Any], status: int, code: int
) -> None:
    if options.get("files", {}).get("file") is pixels:
        options = {"files": {"file": encoded(together(pixels(COLLINS), pixels(HOPPER)), "PNG")}}
    response = face_service.request(method, path, **options)
    assert (response.status_code, response.json()["code"]) == (status, code), response.text
    assert response.json()["message"]


def test_rights_and_collections_of_keys(compreface: httpx.Client, face_service: httpx.Client) -> None:
    name = f"compreface-{uuid.uuid4().hex[:8]}"
    compreface.post("/collections", json={"name": name}, headers={"x-api-key": new_key()}).raise_for_status()
    add(face_service, "ada", COLLINS.read_bytes())
    searches = {"x-api-key": new_key(Scope.SEARCH, collection=name)}
    files = {"file": COLLINS.read_bytes()}
    found = compreface.post("/api/v1/recognition/recognize", files=files, headers=searches).json()
    assert found["result"][0]["subjects"] == []  # of another collection
    refused = compreface.post(f"{FACES}?subject=x", files=files, headers=searches)
    assert (refused.status_code, refused.json()["code"]) == (403, 0)
    assert compreface.get(SUBJECTS).status_code == 401
    assert compreface.get(SUBJECTS, headers={"x-api-key": "00000000-0000-0000-0000-000000000002"}).status_code == 401


def test_the_api_is_off_by_default(client: httpx.Client) -> None:
    assert client.get(SUBJECTS).status_code == 404
