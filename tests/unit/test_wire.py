"""Tests of bodies between API and worker that do not come from the other side, or that it altered."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import msgpack
import numpy as np
import pytest

from service.errors import ImageUnreadable, MalformedBody
from service.inference.engine import Detection, Face, FaceChoice, Observation, Picture
from service.inference.wire import pack_images, pack_results, unpack_images, unpack_results
from service.vision.sample import Quality

PICTURE: list[Any] = [b"data", "only", None, False, None, False, False]
VECTOR = np.eye(1, 8, dtype=np.float32)[0]
POINTS = np.ones((5, 3), np.float32)
DETECTION = Detection((1.0, 2.0, 30.0, 40.0), 0.9, POINTS)
FACE = Face(DETECTION, Quality(29, 100, 0.1, 90, 0.9, None), VECTOR, b"crop")
OBSERVATION = Observation(64, 48, [DETECTION, replace(DETECTION, landmarks=None)], [FACE], "it is dark")


def with_field(index: int, value: object) -> list[Any]:
    return [*PICTURE[:index], value, *PICTURE[index + 1 :]]


def test_pictures_are_returned_unchanged() -> None:
    pictures = [Picture(b"a", FaceChoice.BOX, (1.0, 2.0, 3.0, 4.0), True, "model", True, True), Picture(b"")]
    assert unpack_images(pack_images(pictures)) == pictures


def test_results_are_returned_unchanged() -> None:
    error = ImageUnreadable("damaged", pointer="/image", bytes=3)
    observation, fault = unpack_results(pack_results([OBSERVATION, error]))
    assert isinstance(observation, Observation)
    assert (observation.width, observation.height) == (64, 48)
    assert observation.faces[0].quality == FACE.quality
    np.testing.assert_array_equal(observation.faces[0].embedding, VECTOR)
    np.testing.assert_array_equal(observation.detections[0].landmarks, POINTS)  # type: ignore[arg-type]
    assert observation.detections[1].landmarks is None
    assert isinstance(fault, ImageUnreadable)
    assert (fault.detail, fault.pointer, fault.extensions) == ("damaged", "/image", {"bytes": 3})


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xc1",
        b"\xdd\xff\xff\xff\xff",
        b"\x91" * 100_000,
        b"\xdd\x00\x10\x00\x00" + b"\x90" * 2**20,
        b"\x91\x97" + b"\xd9\x02\xff\xfe" * 7,
        msgpack.packb(5),
        msgpack.packb({"a": 1}),
        msgpack.packb([PICTURE] * 2000),
        msgpack.packb([with_field(0, "text")]),
        msgpack.packb([with_field(0, None)]),
        msgpack.packb([with_field(1, "prettiest")]),
        msgpack.packb([with_field(1, 5)]),
        msgpack.packb([with_field(1, ["only"])]),
        msgpack.packb([with_field(1, "box")]),
        msgpack.packb([with_field(2, [float("nan"), 0, 1, 1])]),
        msgpack.packb([with_field(2, [0, 0, 1])]),
        msgpack.packb([with_field(2, {"x": 1})]),
        msgpack.packb([with_field(3, 1)]),
        msgpack.packb([with_field(4, ["unhashable"])]),
        msgpack.packb([with_field(4, 7)]),
        msgpack.packb([with_field(4, msgpack.ExtType(5, b"x"))]),
        msgpack.packb([with_field(4, msgpack.Timestamp(2**40))]),
        msgpack.packb([PICTURE[:-1]]),
        msgpack.packb([PICTURE]) + b"\x00",
    ],
    ids=range(25),
)
def test_body_that_is_not_a_list_of_pictures_is_refused(body: bytes) -> None:
    with pytest.raises(MalformedBody, match="list of pictures"):
        unpack_images(body)


def altered(change: Callable[[dict[str, Any]], object]) -> bytes:
    """Returns a packed observation after a change of its document."""
    document = msgpack.unpackb(pack_results([OBSERVATION]))[0]
    change(document)
    return msgpack.packb([document])


def fault(**members: object) -> bytes:
    document = {"code": "image_unreadable", "detail": "x", "pointer": None, "extensions": {}}
    return msgpack.packb([document | members])


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xc1",
        b"\x91" * 100_000,
        msgpack.packb([5]),
        msgpack.packb([None]),
        altered(lambda item: item.update(surprise=1)),
        altered(lambda item: item.update(size=[0, 5])),
        altered(lambda item: item.update(size=[2**40, 5])),
        altered(lambda item: item.update(size="ab")),
        altered(lambda item: item.update(faces={})),
        altered(lambda item: item.pop("detections")),
        altered(lambda item: item["detections"].append([1, 2, 3, 4, 0.5])),
        altered(lambda item: item["detections"].append([float("nan"), 2, 3, 4, 0.5, None])),
        altered(lambda item: item["detections"].append([1, 2, 3, 4, 0.5, b"\x00" * 56])),
        altered(lambda item: item["detections"].append([1, 2, 3, 4, 0.5, b"\x00" * 61])),
        altered(lambda item: item["detections"].append([1, 2, 3, 4, 0.5, b"\xff" * 60])),
        altered(lambda item: item["faces"][0].update(embedding=b"\xff" * 32)),
        altered(lambda item: item["faces"][0].update(embedding=b"\x00" * 32)),
        altered(lambda item: item["faces"][0].update(embedding="text")),
        altered(lambda item: item["faces"][0].update(crop=5)),
        altered(lambda item: item["faces"][0].update(quality=[1, 2, 3])),
        altered(lambda item: item["faces"][0].update(quality=[1, 2, 3, float("inf"), None])),
        altered(lambda item: item["faces"][0].update(supplied=True)),
        fault(code=["image_unreadable"]),
        fault(code=5),
        fault(detail=None),
        fault(detail="x" * 5000),
        fault(pointer=5),
        fault(extensions=None),
        fault(extensions={"detail": "other"}),
        fault(extensions={"status": 200}),
        fault(extensions={"self": float("nan")}),
        fault(extensions={5: 1}),
    ],
    ids=range(33),
)
def test_body_that_is_not_a_list_of_results_is_refused(body: bytes) -> None:
    with pytest.raises(ValueError):
        unpack_results(body)
