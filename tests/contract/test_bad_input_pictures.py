"""Tests of invalid and unusual pictures: each fault has its own problem code, and nothing is stored."""

from collections.abc import Callable

import httpx
import numpy as np
import pytest
from PIL import Image, ImageFilter

from tests.contract.enrolment import FACE, JPEG, identity_count
from tests.contract.problem_documents import assert_problem
from tests.photos import BUS, COLLINS, HOPPER, b64, encoded, pixels
from tests.unit.test_image import _png_header

NO_FACE = encoded(np.full((300, 300, 3), 120, np.uint8))

BAD_IMAGES: list[tuple[str, bytes, int, str]] = [
    ("not an image", b"this is no picture at all", 422, "image_unreadable"),
    ("truncated JPEG", JPEG[: len(JPEG) // 10], 422, "image_truncated"),
    ("one pixel", encoded(np.zeros((1, 1, 3), np.uint8), "PNG"), 422, "image_too_small"),
    ("20,000 x 20,000 declared", _png_header(20_000, 20_000), 413, "image_too_large"),
    ("no face", NO_FACE, 422, "no_face"),
]


@pytest.mark.parametrize(("name", "data", "status", "code"), BAD_IMAGES, ids=[item[0] for item in BAD_IMAGES])
@pytest.mark.parametrize("as_json", [True, False], ids=["json", "multipart"])
def test_invalid_picture_is_refused_by_every_operation(
    client: httpx.Client, collection_name: str, name: str, data: bytes, status: int, code: str, as_json: bool
) -> None:
    scope = {"collection": collection_name}

    def post(path: str, fields: dict[str, str], images: dict[str, bytes]) -> httpx.Response:
        if as_json:
            encoded_images: dict[str, object] = {field: b64(image) for field, image in images.items()}
            if "images" in encoded_images:
                encoded_images["images"] = [encoded_images["images"]]
            return client.post(path, params=scope, json={**fields, **encoded_images})
        return client.post(
            path, params=scope, data=fields, files={field: ("x", image) for field, image in images.items()}
        )

    for path, fields, images, pointer in (
        ("/register", {"label": "x"}, {"images": data}, "/images/0"),
        ("/verify", {}, {"image_a": FACE, "image_b": data}, "/image_b"),
        ("/verify", {}, {"image_a": data, "image_b": FACE}, "/image_a"),
        ("/search", {}, {"image": data}, "/image"),
    ):
        document = assert_problem(post(path, fields, images), status, code)
        assert document["pointer"] == pointer
    assert identity_count(client, collection_name) == 0


def exif_rotated() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    rotated = Image.fromarray(pixels(COLLINS)).transpose(Image.Transpose.ROTATE_90)
    return encoded(rotated, quality=92, exif=exif)


UNUSUAL: dict[str, Callable[[], bytes]] = {
    "CMYK JPEG": lambda: encoded(Image.fromarray(pixels(COLLINS)).convert("CMYK"), quality=92),
    "palette PNG": lambda: encoded(Image.fromarray(pixels(COLLINS)).convert("P"), "PNG"),
    "16-bit PNG": lambda: encoded(
        Image.fromarray(np.asarray(Image.fromarray(pixels(COLLINS)).convert("L")).astype(np.uint16) * 257), "PNG"
    ),
    "RGBA PNG": lambda: encoded(Image.fromarray(pixels(COLLINS)).convert("RGBA"), "PNG"),
    "grey JPEG": lambda: encoded(Image.fromarray(pixels(COLLINS)).convert("L"), quality=92),
    "HEIC": lambda: encoded(pixels(COLLINS), "HEIF", quality=90),
    "WebP": lambda: encoded(pixels(COLLINS), "WEBP", quality=90),
    "BMP": lambda: encoded(pixels(COLLINS), "BMP"),
    "EXIF-rotated JPEG": exif_rotated,
}


@pytest.mark.parametrize("kind", UNUSUAL)
def test_unusual_format_gives_the_same_face_at_the_same_place(client: httpx.Client, kind: str) -> None:
    response = client.post("/verify", json={"image_a": b64(FACE), "image_b": b64(UNUSUAL[kind]()), "threshold": 0.6})
    assert response.status_code == 200, response.text
    document = response.json()
    assert document["match"], document["score"]
    np.testing.assert_allclose(document["face_b"]["box"], document["face_a"]["box"], atol=12)


def test_data_url_is_accepted(client: httpx.Client) -> None:
    body = {"image_a": f"data:image/png;base64,{b64(FACE)}", "image_b": b64(FACE), "threshold": 0.9}
    assert client.post("/verify", json=body).json()["score"] == pytest.approx(1, abs=1e-4)


def test_problem_of_several_faces_lists_their_boxes(client: httpx.Client, collection_name: str) -> None:
    duo = np.concatenate([pixels(COLLINS), pixels(HOPPER)[:512]], axis=1)
    body = {"label": "two", "images": [b64(encoded(duo))]}
    document = assert_problem(
        client.post("/register", params={"collection": collection_name}, json=body), 422, "several_faces"
    )
    faces = document["faces"]
    assert isinstance(faces, list)
    assert len(faces) == 2
    assert identity_count(client, collection_name) == 0
    chosen = client.post(
        "/register", params={"collection": collection_name}, json={**body, "face": "box", "boxes": [faces[0]["box"]]}
    )
    assert chosen.status_code == 201
    np.testing.assert_allclose(chosen.json()["images"][0]["face"]["box"], faces[0]["box"], atol=0.2)


def test_covered_face_is_not_enrolled(client: httpx.Client, collection_name: str) -> None:
    covered = pixels(HOPPER).copy()
    covered[225:400, 130:430] = (40, 160, 70)  # A green area covers everything below the eyes.
    body = {"label": "x", "images": [b64(encoded(covered, "PNG"))], "face": "largest"}
    document = assert_problem(
        client.post("/register", params={"collection": collection_name}, json=body), 422, "face_rejected"
    )
    assert document["reasons"] == ["hard_to_recognise"]
    assert "(minimum 0.05)" in str(document["detail"])


def test_small_or_blurred_face_is_not_enrolled(client: httpx.Client, collection_name: str) -> None:
    small = Image.fromarray(pixels(COLLINS)).resize((128, 128), Image.Resampling.LANCZOS)
    blurred = Image.fromarray(pixels(COLLINS)).filter(ImageFilter.GaussianBlur(3))
    for picture, reason in ((small, "too_small"), (blurred, "too_blurred")):
        body = {"label": "x", "images": [b64(encoded(picture, "PNG"))], "face": "largest"}
        document = assert_problem(
            client.post("/register", params={"collection": collection_name}, json=body), 422, "face_rejected"
        )
        assert reason in document["reasons"]  # type: ignore[operator]
    assert identity_count(client, collection_name) == 0


def test_problem_lists_every_rejected_picture(client: httpx.Client, collection_name: str) -> None:
    body = {"label": "x", "images": [b64(NO_FACE), b64(b"nonsense nonsense")]}
    document = assert_problem(
        client.post("/register", params={"collection": collection_name}, json=body), 422, "no_image_accepted"
    )
    codes = [item["code"] for item in document["images"]]  # type: ignore[attr-defined]
    assert codes == ["no_face", "image_unreadable"]
    assert identity_count(client, collection_name) == 0


def test_small_faces_of_a_street_scene_are_detected(client: httpx.Client, collection_name: str) -> None:
    body = {"image": b64(BUS.read_bytes()), "face": "all", "threshold": 0.5}
    assert client.post("/search", params={"collection": collection_name}, json=body).json()["faces_detected"] >= 2
