"""Boxes that a client has drawn around faces that the detector misses, and pictures without their last rows."""

from typing import Any

import httpx
import numpy as np
import pytest

from service.inference.engine import FaceChoice, Observation, Picture
from service.inference.pipeline import FacePipeline
from service.runtime.engines import build_pipeline
from service.runtime.settings import load_settings
from tests.photos import COLLINS, HOPPER, b64, encoded, pixels


@pytest.fixture(scope="module")
def blind() -> FacePipeline:
    """The shipped models with a detector that finds nothing, as in a picture whose face it misses."""
    return build_pipeline(load_settings(detector={"min_score": 0.999999}))


def observed(pipeline: FacePipeline, picture: Picture) -> Observation:
    [result] = pipeline.observe_files([picture])
    assert isinstance(result, Observation), result
    return result


def box_of(client: httpx.Client, photo: bytes) -> list[float]:
    face = client.post("/embed", json={"image": b64(photo)}).json()["faces"][0]["face"]
    assert (face["manual"], face["warnings"]) == (False, [])
    return list(face["box"])


@pytest.mark.parametrize("scale", [0.8, 1.0, 1.25])
def test_a_drawn_box_gives_the_embedding_of_the_detected_face(blind: FacePipeline, scale: float) -> None:
    """Boxes of photo libraries are tighter or looser than those of the detector."""
    shipped = build_pipeline(load_settings())
    for photo in (COLLINS, HOPPER):
        data = photo.read_bytes()
        [expected] = observed(shipped, Picture(data)).faces
        x_min, y_min, x_max, y_max = expected.detection.box
        centre, half = ((x_min + x_max) / 2, (y_min + y_max) / 2), ((x_max - x_min) / 2, (y_max - y_min) / 2)
        (left, right), (top, bottom) = ((centre[i] - scale * half[i], centre[i] + scale * half[i]) for i in (0, 1))
        box = (left, top, right, bottom)
        observation = observed(blind, Picture(data, FaceChoice.BOX, box))
        [face] = observation.faces
        assert (face.detection.manual, observation.detections) == (True, [])
        np.testing.assert_allclose(face.detection.box, box, atol=0.01)
        assert float(face.embedding @ expected.embedding) > 0.97


def test_a_box_without_a_face_is_refused(client: httpx.Client, collection_name: str) -> None:
    """A face is in the picture, but not in the box."""
    body: dict[str, Any] = {"label": "ada", "image": b64(COLLINS.read_bytes()), "face": "box"}
    for box in ([0, 0, 60, 60], [-50, -50, 4, 4], [5000, 5000, 5100, 5100], [100, 100, 100, 100], [90, 90, 50, 50]):
        response = client.post("/register", params={"collection": collection_name}, json=body | {"boxes": [box]})
        assert (response.status_code, response.json()["code"]) == (422, "no_face"), box
        assert "no detected face overlaps the box" in response.json()["detail"]
        assert len(response.json()["faces"]) == 1


def test_a_detected_face_is_preferred_to_the_box(client: httpx.Client, collection_name: str) -> None:
    photo = COLLINS.read_bytes()
    body = {"label": "ada", "image": b64(photo), "face": "box", "boxes": [box_of(client, photo)]}
    outcome = client.post("/register", params={"collection": collection_name}, json=body).json()["images"][0]
    assert (outcome["status"], outcome["face"]["manual"]) == ("accepted", False)


def test_a_manual_template_is_marked(client: httpx.Client, collection_name: str) -> None:
    """A face that is too small for the detector in a picture of this size."""
    scope = {"collection": collection_name}
    x_min, y_min, x_max, y_max = (int(value) for value in box_of(client, COLLINS.read_bytes()))
    face = pixels(COLLINS)[y_min:y_max, x_min:x_max][::6, ::6]
    picture = np.full((2000, 2000, 3), 128, np.uint8)
    picture[1000 : 1000 + len(face), 1000 : 1000 + face.shape[1]] = face
    body = {"label": "ada", "image": b64(encoded(picture, "PNG", compress_level=1)), "force": True}
    assert client.post("/register", params=scope, json=body).json()["code"] == "no_face"
    box = [1000, 1000, 1000 + face.shape[1], 1000 + len(face)]
    created = client.post("/register", params=scope, json=body | {"face": "box", "boxes": [box]}).json()
    assert created["images"][0]["face"]["manual"] is True
    templates = client.get(f"/identities/{created['identity_id']}/templates", params=scope).json()["templates"]
    assert [template["manual"] for template in templates] == [True]
    found = client.post("/search", params=scope, json={"image": b64(COLLINS.read_bytes())}).json()["results"][0]
    assert found["candidates"][0]["score"] > 0.3


def test_a_jpeg_without_its_last_rows_is_enrolled_with_a_warning(client: httpx.Client, collection_name: str) -> None:
    whole = np.concatenate([pixels(COLLINS), np.zeros((200, 512, 3), np.uint8)])
    noise = np.random.default_rng(0).integers(0, 255, (200, 512, 3), dtype=np.uint8)
    whole[512:] = noise  # so that the last rows take many bytes
    data = encoded(whole, "JPEG", quality=90)
    scope = {"collection": collection_name}
    body = {"label": "ada", "image": b64(data[: int(0.7 * len(data))])}
    created = client.post("/register", params=scope, json=body)
    assert created.status_code == 201, created.text
    assert created.json()["images"][0]["face"]["warnings"] == ["picture_truncated"]
    found = client.post("/search", params=scope, json={"image": b64(COLLINS.read_bytes())}).json()["results"][0]
    assert (found["candidates"][0]["match"], found["face"]["warnings"]) == (True, [])


def test_a_face_in_missing_rows_is_refused(client: httpx.Client, collection_name: str) -> None:
    data = encoded(pixels(COLLINS), "JPEG", quality=90)
    codes = []
    for share in (0.08, 0.13, 0.18, 0.23):
        body = {"label": "ada", "image": b64(data[: int(share * len(data))])}
        response = client.post("/register", params={"collection": collection_name}, json=body)
        assert response.status_code == 422, (share, response.text)
        codes.append((response.json()["code"], response.json().get("reasons")))
    assert codes[0] == ("image_truncated", None)
    assert codes[-1][0] == "face_rejected"
    assert "cut_off" in codes[-1][1]
