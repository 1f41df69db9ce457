"""Bulk enrolment of faces whose boxes people.csv, COCO annotations or the XMP of the pictures name."""

import json
from typing import Any

import httpx
import numpy as np

from tests.contract.test_jobs import finished_job, rows, submit
from tests.photos import COLLINS, HOPPER, b64, encoded, pixels
from tests.unit.test_face_regions import item, packet


def group_photo() -> tuple[np.ndarray, dict[str, list[float]]]:
    """Two people side by side, and the boxes of their halves."""
    left, right = pixels(COLLINS), pixels(HOPPER)
    height = min(len(left), len(right))
    both = np.concatenate([left[:height], right[:height]], axis=1)
    return both, {"collins": [0, 0, left.shape[1], height], "hopper": [left.shape[1], 0, both.shape[1], height]}


def boxes_of(client: httpx.Client) -> tuple[np.ndarray, dict[str, list[float]]]:
    """Returns the photo, and the boxes of the faces by person."""
    picture, halves = group_photo()
    answer = client.post("/embed", json={"image": b64(encoded(picture, "PNG")), "face": "all"}).json()
    found = [face["face"]["box"] for face in answer["faces"]]
    return picture, {
        name: next(box for box in found if half[0] <= (box[0] + box[2]) / 2 <= half[2]) for name, half in halves.items()
    }


def people(client: httpx.Client, collection: str) -> dict[str, str]:
    """Returns the best candidate for each of two single photos."""
    found = {}
    for name, photo in (("collins", COLLINS), ("hopper", HOPPER)):
        body = {"image": b64(photo.read_bytes())}
        result = client.post("/search", params={"collection": collection}, json=body).json()["results"][0]
        found[name] = result["candidates"][0]["external_id"]
    return found


def enrolled(client: httpx.Client, collection: str, files: dict[str, bytes], **options: str) -> list[dict[str, Any]]:
    address = submit(client, collection, files, **options)
    job = finished_job(client, address)
    assert job["state"] == "done", job
    return rows(client, address)


def test_people_csv_with_boxes(client: httpx.Client, collection_name: str) -> None:
    picture, boxes = boxes_of(client)
    lines = [f'both.png,{name},"{" ".join(map(str, box))}"' for name, box in boxes.items()]
    lines += ['both.png,nobody,"1 2 3"', 'both.png,empty,"5 5 5 9"', 'both.png,wall,"0 0 30 30"', "both.png,several,"]
    files = {"both.png": encoded(picture, "PNG"), "people.csv": "\n".join(["file,external_id,box", *lines]).encode()}
    by_name = {row["external_id"]: row for row in enrolled(client, collection_name, files)}
    assert [by_name[name]["status"] for name in ("collins", "hopper")] == ["accepted", "accepted"], by_name
    assert by_name["collins"]["box"] == boxes["collins"]
    assert by_name["nobody"]["detail"] == "`box` is not four numbers: x_min y_min x_max y_max"
    assert "x_min < x_max" in by_name["empty"]["detail"]
    assert (by_name["wall"]["code"], by_name["several"]["code"]) == ("no_face", "several_faces")
    assert people(client, collection_name) == {"collins": "collins", "hopper": "hopper"}


def test_coco_annotations(client: httpx.Client, collection_name: str) -> None:
    picture, boxes = boxes_of(client)
    names = list(boxes)
    document = {
        "info": {"year": 2026},
        "images": [{"id": 7, "file_name": "set/both.png", "width": 1, "height": 1}, {"id": 8, "file_name": "no.png"}],
        "categories": [{"id": number, "name": name, "supercategory": "face"} for number, name in enumerate(names)],
        "annotations": [
            {"id": number, "image_id": 7, "category_id": number, "bbox": [x, y, u - x, v - y], "area": 1, "iscrowd": 0}
            for number, (x, y, u, v) in enumerate(boxes.values())
        ]
        + [{"image_id": 8, "category_id": 0, "bbox": [0, 0, 1, 1]}],
    }
    files = {"set/both.png": encoded(picture, "PNG"), "annotations.json": json.dumps(document).encode()}
    found = enrolled(client, collection_name, files)
    assert sorted((row["source"], row["status"]) for row in found) == [
        ("no.png", "rejected"),
        ("set/both.png", "accepted"),
        ("set/both.png", "accepted"),
    ]
    assert people(client, collection_name) == {"collins": "collins", "hopper": "hopper"}
    broken = {"annotations.json": b'{"images": [{"id": 1}]}', "a.png": b"-"}
    job = finished_job(client, submit(client, collection_name, broken))
    assert (job["state"], "not in the COCO format: images/0/file_name" in job["problem"]) == ("failed", True)


def test_face_regions_of_photo_libraries(client: httpx.Client, collection_name: str) -> None:
    """The folder is a place; the people are in the pictures' metadata. Boxes are larger than those of the detector."""
    picture, boxes = boxes_of(client)
    height, width = picture.shape[:2]
    items = []
    for name, (x, y, u, v) in boxes.items():
        area = f"{(x + u) / 2 / width} {(y + v) / 2 / height} {1.2 * (u - x) / width} {1.2 * (v - y) / height}"
        items.append(item(name=name, area=area))
    files = {
        "2026 Rome/both.jpg": encoded(picture, "JPEG", quality=95, xmp=packet(*items)),
        "2026 Rome/none.jpg": encoded(picture, "JPEG"),
        "2026 Rome/none.JPG.xmp": packet(item(name="another file")),
        "with a sidecar/1.jpg": encoded(pixels(COLLINS), "JPEG", quality=90),
        "with a sidecar/1.xmp": packet(item(name="eileen", area="0.437 0.238 0.24 0.28")),
        "with a sidecar/2.png": encoded(pixels(HOPPER), "PNG"),
        "with a sidecar/2.png.xmp": packet(item(name="grace", area="0.5 0.5 1 1")),
        "2026 Rome/notes.txt": b"-",
    }
    found = enrolled(client, collection_name, files, people="regions")
    assert {row["external_id"]: row["status"] for row in found if row["status"] == "accepted"} == {
        "collins": "accepted",
        "hopper": "accepted",
        "eileen": "accepted",
        "grace": "accepted",
    }
    by_source = {row["source"]: row for row in found}
    assert "no named face region" in by_source["2026 Rome/none.jpg"]["detail"]
    assert by_source["2026 Rome/notes.txt"]["status"] == "rejected"
    assert not any(source.endswith(".xmp") for source in by_source)


def test_a_request_may_name_the_box_as_shares(client: httpx.Client, collection_name: str) -> None:
    picture, boxes = boxes_of(client)
    height, width = picture.shape[:2]
    x, y, u, v = boxes["hopper"]
    body = {"label": "grace", "image": b64(encoded(picture, "PNG")), "face": "box"}
    body |= {"boxes": [[x / width, y / height, u / width, v / height]]}  # type: ignore[dict-item]
    created = client.post("/register", params={"collection": collection_name}, json=body).json()
    np.testing.assert_allclose(created["images"][0]["face"]["box"], boxes["hopper"], atol=1)
