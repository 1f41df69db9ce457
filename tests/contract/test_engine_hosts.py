"""What every engine promises, on both of its hosts: in the process itself, and behind HTTP in a real worker."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import numpy as np
import pytest

from service.errors import FaceRejected, ImageTooSmall, ImageUnreadable, RegistryError, error_class
from service.inference.bundle import read_embedder
from service.inference.engine import FaceChoice, HostedEngine, Picture, Observation
from service.inference.local import LocalEngine
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
        engine = build_remote(remote_settings(worker.url), [read_embedder(BUNDLES / "embedder")])
    await engine.start()
    yield engine
    await engine.stop()


def seen(result: Observation | RegistryError) -> Observation:
    assert isinstance(result, Observation), result
    return result


async def test_it_says_what_it_runs(hosted: HostedEngine) -> None:
    manifest = read_embedder(BUNDLES / "embedder")
    assert (hosted.model_id, hosted.dims, hosted.problem) == (
        manifest.model_id,
        {manifest.model_id: manifest.embedding_dim},
        None,
    )


async def test_a_bad_picture_fails_alone(hosted: HostedEngine) -> None:
    images = [
        Picture(COLLINS.read_bytes()),
        Picture(b"nothing of the kind"),
        Picture(BUS.read_bytes(), FaceChoice.ALL),
        Picture(encoded(np.zeros((64, 64, 3), np.uint8), "PNG")),
        Picture(encoded(np.zeros((8, 8, 3), np.uint8), "PNG")),
    ]
    first, second, third, fourth, fifth = await hosted.observe(images)
    assert len(seen(first).faces) == 1
    assert type(second) is ImageUnreadable
    assert len(seen(third).faces) == len(seen(third).detections) >= 2
    assert (seen(fourth).faces, seen(fourth).detections) == ([], [])
    assert type(fifth) is ImageTooSmall
    assert fifth.detail


async def test_nothing_asked_nothing_answered(hosted: HostedEngine) -> None:
    assert await hosted.observe([]) == []


async def test_the_chosen_face_is_embedded(hosted: HostedEngine) -> None:
    everybody = seen((await hosted.observe([Picture(BUS.read_bytes(), FaceChoice.ALL)]))[0])
    for face in everybody.faces:
        choice = Picture(BUS.read_bytes(), FaceChoice.BOX, face.detection.box)
        (chosen,) = seen((await hosted.observe([choice]))[0]).faces
        assert chosen.detection.box == pytest.approx(face.detection.box, abs=0.05)
        assert float(chosen.embedding @ face.embedding) >= 0.9999
        assert float(np.linalg.norm(chosen.embedding)) == pytest.approx(1, abs=1e-5)


async def test_a_cropped_face_is_taken_whole(hosted: HostedEngine) -> None:
    image = Picture(encoded(np.full((112, 112, 3), 90, np.uint8), "PNG"), cropped=True)
    observation = seen((await hosted.observe([image]))[0])
    assert observation.faces[0].detection.box == (0, 0, 112, 112)
    assert observation.faces[0].detection.landmarks is None


async def test_landmarks_lie_in_their_face(hosted: HostedEngine) -> None:
    detection = seen((await hosted.observe([Picture(HOPPER.read_bytes())]))[0]).faces[0].detection
    assert detection.landmarks is not None
    assert detection.landmarks.shape == (5, 3)
    x, y = detection.landmarks[:, 0], detection.landmarks[:, 1]
    assert x[0] < x[2] < x[1]
    assert y[:2].max() < y[2] < y[3:].min()
    assert detection.box[0] < x.min()
    assert y.max() < detection.box[3]


async def test_many_at_once_get_their_own(hosted: HostedEngine) -> None:
    paths = [COLLINS, HOPPER, TRAINER] * 5
    alone = {path: seen((await hosted.observe([Picture(path.read_bytes())]))[0]) for path in set(paths)}
    together = await asyncio.gather(*(hosted.observe([Picture(path.read_bytes())]) for path in paths))
    for path, (result,) in zip(paths, together, strict=True):
        assert float(seen(result).faces[0].embedding @ alone[path].faces[0].embedding) >= 0.9999


async def test_both_hosts_see_the_same(worker: RunningWorker, engine: LocalEngine) -> None:
    """To the last bit for the same batch: the wire rounds nothing."""
    images = [Picture(path.read_bytes(), FaceChoice.ALL) for path in (COLLINS, HOPPER, BUS)]
    remote = build_remote(remote_settings(worker.url), [read_embedder(BUNDLES / "embedder")])
    await remote.start()
    theirs = await remote.observe(images)
    await remote.stop()
    for one, other in zip(engine.observe_now(images), theirs, strict=True):
        ours, far = seen(one), seen(other)
        assert (ours.width, ours.height) == (far.width, far.height)
        assert len(ours.faces) == len(far.faces) > 0
        for here, there in zip(ours.faces, far.faces, strict=True):
            np.testing.assert_array_equal(here.embedding, there.embedding)
            np.testing.assert_array_equal(here.detection.landmarks, there.detection.landmarks)
            assert (here.detection.box, here.detection.score) == (there.detection.box, there.detection.score)
            assert here.quality == there.quality


def test_every_error_keeps_its_class() -> None:
    from service.inference.wire import pack_results, unpack_results

    error = FaceRejected("too dark", pointer="/images/1", reasons=["too_dark"], faces=[{"box": [1, 2, 3, 4]}])
    (back,) = unpack_results(pack_results([error]))
    assert type(back) is FaceRejected
    assert (back.detail, back.pointer, back.extensions) == (error.detail, error.pointer, error.extensions)
    assert error_class("of a later release").code == "internal_error"


@pytest.mark.parametrize(
    "body", [b"", b"\xc1", b"\x93\x01\x02\x03", b"\x91\x94\xa1x\xa1y\xc0\xc2", Path(__file__).read_bytes()]
)
def test_a_body_that_holds_no_pictures_is_malformed(body: bytes) -> None:
    from service.errors import MalformedBody
    from service.inference.wire import unpack_images

    with pytest.raises(MalformedBody):
        unpack_images(body)
