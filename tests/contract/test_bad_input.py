"""Tests of invalid input: each kind has its own problem code, and nothing is stored."""

import json
import uuid
from collections.abc import Callable

import httpx
import numpy as np
import pytest
from PIL import Image, ImageFilter

from tests.photos import BUS, COLLINS, HOPPER, b64, encoded, pixels
from tests.unit.test_image import _png_header

FACE = COLLINS.read_bytes()
NO_FACE = encoded(np.full((300, 300, 3), 120, np.uint8))
JPEG = encoded(pixels(COLLINS), quality=90)


def assert_problem(response: httpx.Response, status: int, code: str) -> dict[str, object]:
    """Checks a problem document (RFC 9457) and returns it."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    document: dict[str, object] = response.json()
    assert document["code"] == code, document
    assert document["status"] == status
    assert document["type"] == f"urn:identity-registry:problem:{code}"
    assert document["detail"]
    assert document["request_id"] == response.headers["x-request-id"]
    return document


BAD_IMAGES: list[tuple[str, bytes, int, str]] = [
    ("not an image", b"this is no picture at all", 422, "image_unreadable"),
    ("truncated JPEG", JPEG[: len(JPEG) // 2], 422, "image_truncated"),
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
    assert count(client, collection_name) == 0


def count(client: httpx.Client, collection_name: str) -> int:
    """Returns the number of identities of a collection."""
    collections = client.get("/collections").json()["collections"]
    return next(item["identity_count"] for item in collections if item["name"] == collection_name)


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
    ("path", "body", "status", "code"),
    [
        ("/search", {"image": b64(FACE), "top_k": 0}, 422, "invalid_request"),
        ("/search", {"image": b64(FACE), "top_k": 10_000}, 422, "invalid_request"),
        ("/search", {"image": b64(FACE), "top_k": "many"}, 422, "invalid_request"),
        ("/search", {"image": 5}, 422, "invalid_request"),
        ("/search", {"image": "*** not base64 ***"}, 422, "invalid_base64"),
        ("/search", {"image": ""}, 422, "invalid_base64"),
        ("/search", {"image": "data:image/png;base64,"}, 422, "invalid_base64"),
        ("/search", {}, 422, "invalid_request"),
        ("/search", [1, 2], 422, "invalid_request"),
        ("/search", {"image": b64(FACE), "surprise": 1}, 422, "invalid_request"),
        ("/search", {"image": b64(FACE), "fmr": 0.01, "threshold": 0.5}, 422, "invalid_request"),
        ("/search", {"image": b64(FACE), "fmr": 0.01, "fpir": 0.01}, 422, "invalid_request"),
        ("/search", {"image": b64(FACE), "fpir": 0.01, "threshold": 0.5}, 422, "invalid_request"),
        ("/search", {"image": b64(FACE), "fpir": 0}, 422, "invalid_request"),
        ("/search", {"image": b64(FACE), "fpir": 1}, 422, "invalid_request"),
        ("/search", {"image": b64(FACE), "fpir": 1e-12}, 422, "rate_not_calibrated"),
        ("/verify", {"image_a": b64(FACE), "image_b": b64(FACE), "fmr": 1e-9}, 422, "rate_not_calibrated"),
        ("/verify", {"image_a": b64(FACE), "image_b": b64(FACE), "fmr": 0.5}, 422, "rate_not_calibrated"),
        ("/verify", {"image_a": b64(FACE), "image_b": b64(FACE), "fmr": 1, "fpir": 1}, 422, "invalid_request"),
        ("/collections", {"name": "both", "fmr": 0.01, "fpir": 0.01}, 422, "invalid_request"),
        ("/collections", {"name": "never", "fmr": 1e-12}, 422, "rate_not_calibrated"),
        ("/verify?collection=no-such", {"image_a": b64(FACE), "image_b": b64(FACE)}, 404, "collection_not_found"),
        ("/search", {"image": b64(FACE), "fmr": 0}, 422, "invalid_request"),
        ("/search", {"image": b64(FACE), "fmr": 2}, 422, "invalid_request"),
        ("/search", {"image": b64(FACE), "fmr": 1e-12}, 422, "rate_not_calibrated"),
        ("/search", {"image": b64(FACE), "threshold": 1.5}, 422, "invalid_request"),
        ("/search", {"image": b64(FACE), "face": "box"}, 422, "invalid_request"),
        ("/search", {"image": b64(FACE), "face": "prettiest"}, 422, "invalid_request"),
        ("/search", {"image": b64(FACE), "box": [1, 2, 3, 4]}, 422, "invalid_request"),
        ("/search", {"image": b64(FACE), "face": "box", "box": [1, 2, 3]}, 422, "invalid_request"),
        ("/search", {"image": b64(FACE), "face": "box", "box": [0, 0, 9, 9]}, 422, "no_face"),
        ("/search", {"image": b64(FACE), "detector": "dlib"}, 422, "invalid_request"),
        ("/search?collection=no-such", {"image": b64(FACE)}, 404, "collection_not_found"),
        ("/search?collection=../x", {"image": b64(FACE)}, 422, "invalid_request"),
        ("/register", {"label": "x", "images": []}, 422, "invalid_request"),
        ("/register", {"label": "x"}, 422, "invalid_request"),
        ("/register", {"images": [b64(FACE)]}, 422, "invalid_request"),
        ("/register", {"label": "", "images": [b64(FACE)]}, 422, "invalid_request"),
        ("/register", {"label": "a\u0000b", "images": [b64(FACE)]}, 422, "invalid_request"),
        ("/register", {"label": "x", "metadata": {"a": ["b\u0000"]}, "images": [b64(FACE)]}, 422, "invalid_request"),
        ("/register", {"label": "x", "metadata": {"a": "b" * 20_000}, "images": [b64(FACE)]}, 422, "invalid_request"),
        ("/register", {"label": "x", "metadata": "text", "images": [b64(FACE)]}, 422, "invalid_request"),
        ("/register", {"label": "x", "images": [b64(JPEG)] * 33}, 422, "invalid_request"),
        ("/register", {"label": "x", "images": [b64(FACE)], "face": "all"}, 422, "invalid_request"),
        ("/register?collection=no-such", {"label": "x", "images": [b64(FACE)]}, 404, "collection_not_found"),
        ("/register", {"label": "x", "images": [b64(FACE)], "face": "box", "boxes": []}, 422, "invalid_request"),
        ("/verify", {"image_a": b64(FACE)}, 422, "invalid_request"),
        ("/verify", {"image_a": b64(FACE), "image_b": b64(FACE), "external_id": "x"}, 422, "invalid_request"),
        ("/verify", {"image_a": b64(FACE), "external_id": "nobody"}, 404, "identity_not_found"),
        ("/verify", {"image_a": b64(FACE), "image_b": b64(FACE), "face": "all"}, 422, "invalid_request"),
        ("/collections", {"name": "bad name"}, 422, "invalid_request"),
        ("/collections", {"name": "default"}, 409, "collection_exists"),
    ],
)
def test_invalid_body_is_refused(client: httpx.Client, path: str, body: object, status: int, code: str) -> None:
    document = assert_problem(client.post(path, json=body), status, code)
    assert b64(FACE)[:40] not in json.dumps(document)


@pytest.mark.parametrize(
    "fields",
    ['"metadata": {"a": NaN}', '"metadata": {"\\ud800": 1}', '"external_id": "\\ud800"', '"boxes": [[0, 0, NaN, 1]]'],
)
def test_values_that_postgresql_cannot_store_are_refused(
    client: httpx.Client, collection_name: str, fields: str
) -> None:
    body = f'{{"label": "x", "images": ["{b64(FACE)}"], {fields}}}'
    response = client.post(
        "/register", params={"collection": collection_name}, content=body, headers={"content-type": "application/json"}
    )
    assert response.status_code in {400, 422}, response.text
    assert response.json()["code"] in {"invalid_request", "malformed_body"}
    assert count(client, collection_name) == 0


def test_problem_of_several_faces_lists_their_boxes(client: httpx.Client, collection_name: str) -> None:
    duo = np.concatenate([pixels(COLLINS), pixels(HOPPER)[:512]], axis=1)
    body = {"label": "two", "images": [b64(encoded(duo))]}
    document = assert_problem(
        client.post("/register", params={"collection": collection_name}, json=body), 422, "several_faces"
    )
    faces = document["faces"]
    assert isinstance(faces, list)
    assert len(faces) == 2
    assert count(client, collection_name) == 0
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
    assert count(client, collection_name) == 0


def test_problem_lists_every_rejected_picture(client: httpx.Client, collection_name: str) -> None:
    body = {"label": "x", "images": [b64(NO_FACE), b64(b"nonsense nonsense")]}
    document = assert_problem(
        client.post("/register", params={"collection": collection_name}, json=body), 422, "no_image_accepted"
    )
    codes = [item["code"] for item in document["images"]]  # type: ignore[attr-defined]
    assert codes == ["no_face", "image_unreadable"]
    assert count(client, collection_name) == 0


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
    unknown = "00000000-0000-4000-8000-000000000000"
    assert_problem(client.get(f"/identities/{unknown}"), 404, "identity_not_found")
    assert_problem(client.delete(f"/identities/{unknown}"), 404, "identity_not_found")
    assert_problem(client.get(f"/identities/{unknown}?collection=no-such"), 404, "collection_not_found")
    assert_problem(client.get("/identities/not-a-uuid"), 422, "invalid_request")


def test_invalid_request_id_is_replaced(client: httpx.Client) -> None:
    assert client.get("/healthz", headers={"x-request-id": "abc-1"}).headers["x-request-id"] == "abc-1"
    assert client.get("/healthz", headers={"x-request-id": "a b;c"}).headers["x-request-id"] != "a b;c"


def test_small_faces_of_a_street_scene_are_detected(client: httpx.Client, collection_name: str) -> None:
    body = {"image": b64(BUS.read_bytes()), "face": "all", "threshold": 0.5}
    assert client.post("/search", params={"collection": collection_name}, json=body).json()["faces_found"] >= 2


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
    assert count(client, collection_name) == 0


def test_request_from_the_own_origin_is_accepted(client: httpx.Client) -> None:
    own = str(client.base_url).rstrip("/")
    assert client.get("/readyz", headers={"origin": own}).status_code == 200


def test_response_to_many_faults_is_short(client: httpx.Client) -> None:
    many_boxes = client.post("/register", json={"label": "x", "images": [b64(JPEG)], "boxes": [0] * 100_000})
    assert_problem(many_boxes, 422, "invalid_request")
    many_fields = client.post("/search", json={f"field{number}": 1 for number in range(100_000)})
    assert_problem(many_fields, 422, "invalid_request")
    assert len(many_boxes.content) + len(many_fields.content) < 10_000


@pytest.mark.parametrize("depth", [300, 5_000])
def test_deeply_nested_metadata_in_a_form_is_refused(client: httpx.Client, collection_name: str, depth: int) -> None:
    deep = '{"a":' + "[" * depth + "]" * depth + "}"
    fields = {"label": "x", "metadata": deep}
    response = client.post(
        "/register", params={"collection": collection_name}, data=fields, files={"images": ("x", FACE)}
    )
    assert_problem(response, 400, "malformed_body")


def test_text_that_resembles_an_escape_is_stored_unchanged(client: httpx.Client, collection_name: str) -> None:
    metadata = {"folder": "C:\\u0000dir"}
    body = {"label": "x", "images": [b64(FACE)], "metadata": metadata}
    registered = client.post("/register", params={"collection": collection_name}, json=body).json()
    path = f"/identities/{registered['identity_id']}?collection={collection_name}"
    assert client.get(path).json()["metadata"] == metadata


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


def test_missing_body_is_refused(client: httpx.Client) -> None:
    response = client.post("/register")
    assert (response.status_code, response.json()["detail"]) == (422, "send `external_id`, `label`, or both")


def test_root_redirects_to_the_documentation(client: httpx.Client) -> None:
    response = client.get("/")
    assert (response.status_code, response.headers["location"]) == (307, "/docs")
