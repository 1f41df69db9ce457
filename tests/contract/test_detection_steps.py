"""Detection at increasing sizes, in other orientations, and in pictures that are decoded at a lower resolution."""

import asyncio

import cv2
import numpy as np
import pytest

from service.inference.decoding.client import DecoderLimits
from service.inference.decoding.pool import DecoderPool
from service.inference.detector import YoloFaceDetector
from service.inference.embedder import FaceEmbedder
from service.inference.engine import Box, FaceChoice, Observation, Picture
from service.inference.graph import RuntimeOptions
from service.inference.local import LocalEngine
from service.inference.pipeline import FacePipeline, MorePixelsNeeded
from service.runtime.settings import BUNDLES
from service.vision.geometry import iou
from service.vision.image import ImageLimits, Pixels, decode_into, new_memory
from tests.photos import BUS, COLLINS, HOPPER, encoded, pixels


@pytest.fixture(scope="module")
def pipeline() -> FacePipeline:
    options = RuntimeOptions(precision="auto")
    return FacePipeline(YoloFaceDetector(BUNDLES / "detector", options), [FaceEmbedder(BUNDLES / "embedder", options)])


def observed(pipeline: FacePipeline, picture: Picture) -> Observation:
    [observation] = pipeline.observe_files([picture])
    assert isinstance(observation, Observation)
    return observation


def overlap(box: Box, other: Box) -> float:
    """Returns the intersection over union of two boxes."""
    return float(iou(np.array(box, np.float32), np.array([other], np.float32))[0])


def on_canvas(photo: Pixels, width: int, height: int, portion: float) -> Pixels:
    """Returns a grey picture with a photo in its centre that has a portion of the picture's height."""
    canvas = np.full((height, width, 3), 114, np.uint8)
    scale = portion * height / photo.shape[0]
    inner = cv2.resize(photo, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    top, left = (height - inner.shape[0]) // 2, (width - inner.shape[1]) // 2
    canvas[top : top + inner.shape[0], left : left + inner.shape[1]] = inner
    return canvas


@pytest.mark.parametrize("turns", [1, 2, 3])
@pytest.mark.parametrize("path", [COLLINS, HOPPER], ids=["Collins", "Hopper"])
def test_a_turned_face_has_an_upright_crop_and_the_same_embedding(
    path: object, turns: int, pipeline: FacePipeline
) -> None:
    upright = pixels(path)  # type: ignore[arg-type]
    turned = np.ascontiguousarray(np.rot90(upright, turns))
    [expected] = observed(pipeline, Picture(encoded(upright, "PNG"))).faces
    [face] = observed(pipeline, Picture(encoded(turned, "PNG"))).faces
    assert float(face.embedding @ expected.embedding) > 0.85
    landmarks = face.detection.landmarks
    assert landmarks is not None
    eyes, mouth = landmarks[:2, :2].mean(axis=0), landmarks[3:, :2].mean(axis=0)
    down = np.array([[0, 1], [1, 0], [0, -1], [-1, 0]])[turns]
    assert float((mouth - eyes) @ down) > 0.8 * float(np.linalg.norm(mouth - eyes))


@pytest.mark.parametrize("choice", [FaceChoice.STRONGEST, FaceChoice.LARGEST])
@pytest.mark.parametrize("path", [COLLINS, HOPPER, BUS], ids=["Collins", "Hopper", "bus"])
def test_the_chosen_face_is_the_one_of_a_complete_detection(
    path: object, choice: FaceChoice, pipeline: FacePipeline
) -> None:
    data = path.read_bytes()  # type: ignore[attr-defined]
    [quick] = observed(pipeline, Picture(data, choice)).faces
    everything = observed(pipeline, Picture(data, FaceChoice.ALL))
    nearest = max(everything.faces, key=lambda face: float(face.embedding @ quick.embedding))
    assert float(nearest.embedding @ quick.embedding) > 0.9
    assert overlap(nearest.detection.box, quick.detection.box) > 0.6


@pytest.mark.parametrize(("portion", "is_reduced"), [(0.9, True), (0.12, False)])
def test_a_large_jpeg_is_reduced_only_if_its_face_keeps_enough_pixels(
    portion: float, is_reduced: bool, pipeline: FacePipeline
) -> None:
    canvas = on_canvas(pixels(HOPPER), 4000, 3000, portion)
    data = encoded(canvas, "JPEG", quality=95)
    picture = Picture(data)
    reduced = decode_into(data, ImageLimits(), new_memory, pipeline.min_longer_side(picture))
    assert reduced.pixels.shape == (750, 1000, 3)
    [result] = pipeline.observe([picture], [reduced])
    assert isinstance(result, Observation if is_reduced else MorePixelsNeeded)
    complete = observed(pipeline, Picture(encoded(canvas, "PNG", compress_level=1)))
    observation = observed(pipeline, picture)
    assert (observation.width, observation.height) == (4000, 3000)
    [face], [expected] = observation.faces, complete.faces
    assert float(face.embedding @ expected.embedding) > 0.98
    assert overlap(face.detection.box, expected.detection.box) > 0.95
    assert face.quality.face_px == pytest.approx(expected.quality.face_px, rel=0.03)


def test_a_box_is_in_pixels_of_the_whole_picture(pipeline: FacePipeline) -> None:
    canvas = on_canvas(pixels(HOPPER), 4000, 3000, 0.9)
    data = encoded(canvas, "JPEG", quality=95)
    [found] = observed(pipeline, Picture(data)).faces
    [by_box] = observed(pipeline, Picture(data, FaceChoice.BOX, found.detection.box)).faces
    assert overlap(by_box.detection.box, found.detection.box) > 0.75


def test_a_face_at_the_edge_is_detected_and_flagged(pipeline: FacePipeline) -> None:
    whole = pixels(HOPPER)
    [face] = observed(pipeline, Picture(encoded(whole, "PNG"))).faces
    assert not face.quality.is_cut_off
    x_min, _, x_max, _ = face.detection.box
    cut = np.ascontiguousarray(whole[:, int(x_min + 0.4 * (x_max - x_min)) :])
    [at_edge] = observed(pipeline, Picture(encoded(cut, "PNG"))).faces
    assert at_edge.quality.is_cut_off


@pytest.mark.anyio
async def test_pictures_that_need_more_pixels_do_not_wait_for_each_others_buffers(pipeline: FacePipeline) -> None:
    """Each picture gives its buffer back before it is decoded again; otherwise all decoders waited for ever."""
    engine = LocalEngine(pipeline, DecoderPool(1, DecoderLimits()))
    data = encoded(on_canvas(pixels(HOPPER), 2600, 1950, 0.2), "JPEG", quality=90)
    await engine.start()
    try:
        async with asyncio.timeout(60):
            results = await asyncio.gather(*(engine.observe([Picture(data)]) for _ in range(12)))
    finally:
        await engine.stop()
    assert [len(result.faces) for [result] in results if isinstance(result, Observation)] == [1] * 12


def test_faces_of_the_second_pass_are_those_of_the_first(pipeline: FacePipeline) -> None:
    """The faces are detected once; their landmarks are located again in the pixels of the whole picture."""
    picture = Picture(encoded(on_canvas(pixels(HOPPER), 4000, 3000, 0.12), "JPEG", quality=95))
    reduced = decode_into(picture.data, ImageLimits(), new_memory, pipeline.min_longer_side(picture))
    complete = decode_into(picture.data, ImageLimits(), new_memory, None)
    [needed] = pipeline.observe([picture], [reduced])
    assert isinstance(needed, MorePixelsNeeded)
    [result] = pipeline.observe([picture], [complete], [needed.detections])
    assert isinstance(result, Observation)
    assert [face.box for face in result.detections] == [face.box for face in needed.detections]
    [face], [before] = result.faces, needed.detections
    assert face.detection.landmarks is not None
    assert before.landmarks is not None
    moved = np.linalg.norm(face.detection.landmarks[:, :2] - before.landmarks[:, :2], axis=1)
    assert 0 < moved.max() < 0.1 * face.quality.face_px
