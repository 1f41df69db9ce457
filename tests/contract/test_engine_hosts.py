"""Tests of the Engine protocol for the local engine and for the remote engine with a real worker process."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import numpy as np
import pytest

from service.errors import FaceRejected, ImageTooSmall, ImageUnreadable, RegistryError, error_class
from service.inference.bundle import read_embedder
from service.inference.engine import FaceChoice, HostedEngine, Observation, Picture
from service.inference.pipeline import FacePipeline
from service.runtime.engines import build_remote
from service.runtime.settings import BUNDLES, Settings, load_settings
from tests.photos import BUS, COLLINS, HOPPER, TRAINER, encoded
from tests.server import TOKEN, RunningWorker

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningWorker]:
    worker = RunningWorker(tmp_path_factory.mktemp("worker") / "log")
    worker.start()
    yield worker
    worker.stop()


def remote_settings(*urls: str, token: str = TOKEN) -> Settings:
    return load_settings(inference={"worker_url": ",".join(urls), "worker_token": token})


@pytest.fixture(params=["local", "remote"])
async def hosted(request: pytest.FixtureRequest, settings: Settings) -> AsyncIterator[HostedEngine]:
    if request.param == "local":
        from service.runtime.engines import build_local

        engine: HostedEngine = build_local(settings)
    else:
        worker = request.getfixturevalue("worker")
        engine = build_remote(remote_settings(worker.url), read_embedder(BUNDLES / "embedder").models)
    await engine.start()
    yield engine
    await engine.stop()


def observed(result: Observation | RegistryError) -> Observation:
    assert isinstance(result, Observation), result
    return result


async def test_engine_reports_its_models(hosted: HostedEngine) -> None:
    manifest = read_embedder(BUNDLES / "embedder")
    assert (hosted.model_id, hosted.dims, hosted.problem) == (
        manifest.model_id,
        {model.model_id: model.embedding_dim for model in manifest.models},
        None,
    )


async def test_unreadable_picture_does_not_affect_the_others(hosted: HostedEngine) -> None:
    images = [
        Picture(COLLINS.read_bytes()),
        Picture(b"no picture"),
        Picture(BUS.read_bytes(), FaceChoice.ALL),
        Picture(encoded(np.zeros((64, 64, 3), np.uint8), "PNG")),
        Picture(encoded(np.zeros((8, 8, 3), np.uint8), "PNG")),
    ]
    first, second, third, fourth, fifth = await hosted.observe(images)
    assert len(observed(first).faces) == 1
    assert type(second) is ImageUnreadable
    assert len(observed(third).faces) == len(observed(third).detections) >= 2
    assert (observed(fourth).faces, observed(fourth).detections) == ([], [])
    assert type(fifth) is ImageTooSmall
    assert fifth.detail


async def test_no_pictures_give_no_results(hosted: HostedEngine) -> None:
    assert await hosted.observe([]) == []


async def test_chosen_face_is_embedded(hosted: HostedEngine) -> None:
    all_faces = observed((await hosted.observe([Picture(BUS.read_bytes(), FaceChoice.ALL)]))[0])
    for face in all_faces.faces:
        choice = Picture(BUS.read_bytes(), FaceChoice.BOX, face.detection.box)
        (chosen,) = observed((await hosted.observe([choice]))[0]).faces
        assert chosen.detection.box == pytest.approx(face.detection.box, abs=0.05)
        assert float(chosen.embedding @ face.embedding) >= 0.9999
        assert float(np.linalg.norm(chosen.embedding)) == pytest.approx(1, abs=1e-5)


async def test_cropped_face_is_not_detected_again(hosted: HostedEngine) -> None:
    image = Picture(encoded(np.full((112, 112, 3), 90, np.uint8), "PNG"), cropped=True)
    observation = observed((await hosted.observe([image]))[0])
    assert observation.faces[0].detection.box == (0, 0, 112, 112)
    assert observation.faces[0].detection.landmarks is None


async def test_landmarks_are_inside_the_box_in_order(hosted: HostedEngine) -> None:
    detection = observed((await hosted.observe([Picture(HOPPER.read_bytes())]))[0]).faces[0].detection
    assert detection.landmarks is not None
    assert detection.landmarks.shape == (5, 3)
    x, y = detection.landmarks[:, 0], detection.landmarks[:, 1]
    assert x[0] < x[2] < x[1]
    assert y[:2].max() < y[2] < y[3:].min()
    assert detection.box[0] < x.min()
    assert y.max() < detection.box[3]


async def test_concurrent_requests_get_their_own_results(hosted: HostedEngine) -> None:
    paths = [COLLINS, HOPPER, TRAINER] * 5
    alone = {path: observed((await hosted.observe([Picture(path.read_bytes())]))[0]) for path in set(paths)}
    together = await asyncio.gather(*(hosted.observe([Picture(path.read_bytes())]) for path in paths))
    for path, (result,) in zip(paths, together, strict=True):
        assert float(observed(result).faces[0].embedding @ alone[path].faces[0].embedding) >= 0.9999


async def test_remote_results_equal_local_results(worker: RunningWorker, engine: FacePipeline) -> None:
    """The wire format does not round. The product with the cohort's centres depends on the batch in its last bit."""
    images = [Picture(path.read_bytes(), FaceChoice.ALL) for path in (COLLINS, HOPPER, BUS)]
    remote = build_remote(remote_settings(worker.url), read_embedder(BUNDLES / "embedder").models)
    await remote.start()
    remote_results = await remote.observe(images)
    await remote.stop()
    for local_result, remote_result in zip(engine.observe_files(images), remote_results, strict=True):
        local, far = observed(local_result), observed(remote_result)
        assert (local.width, local.height) == (far.width, far.height)
        assert len(local.faces) == len(far.faces) > 0
        for here, there in zip(local.faces, far.faces, strict=True):
            np.testing.assert_allclose(here.embedding, there.embedding, atol=1e-6)
            np.testing.assert_array_equal(here.detection.landmarks, there.detection.landmarks)
            assert (here.detection.box, here.detection.score) == (there.detection.box, there.detection.score)
            assert here.quality == there.quality


def test_error_is_transferred_with_its_class() -> None:
    from service.inference.wire import pack_results, unpack_results

    error = FaceRejected("too dark", pointer="/images/1", reasons=["too_dark"], faces=[{"box": [1, 2, 3, 4]}])
    (received,) = unpack_results(pack_results([error]))
    assert type(received) is FaceRejected
    assert (received.detail, received.pointer, received.extensions) == (error.detail, error.pointer, error.extensions)
    assert error_class("unknown_code").code == "internal_error"


@pytest.mark.parametrize(
    "body", [b"", b"\xc1", b"\x93\x01\x02\x03", b"\x91\x94\xa1x\xa1y\xc0\xc2", Path(__file__).read_bytes()]
)
def test_invalid_body_raises_malformed_body(body: bytes) -> None:
    from service.errors import MalformedBody
    from service.inference.wire import unpack_images

    with pytest.raises(MalformedBody):
        unpack_images(body)
