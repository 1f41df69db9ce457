"""Another model for a collection, without enrolling anybody again: two real models, of 128 and of 160 dimensions."""

import asyncio
import base64
import io
import itertools
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image
from sqlalchemy import text

from service.errors import RegistryError
from service.gallery.access.audit_trail import AuditTrail
from service.gallery.enrolment.store import EnrolmentStore
from service.gallery.people.crop_cipher import CropCipher
from service.gallery.search.search import GallerySearch, GallerySizes
from service.gallery.storage.database import Database
from service.inference.bundle import read_embedder
from service.inference.engine import Observation, Picture
from service.inference.local import LocalEngine
from service.recognition.decision import DecisionPolicy, DecisionResolver
from service.recognition.enrolment import Enroller
from service.recognition.enrolment_records import Enrolment, EnrolmentRequest
from service.recognition.identification import IdentificationRequest, Identifier
from service.recognition.operating_point import OperatingPoint
from service.recognition.policies import QualityLimits
from service.recognition.read_audit import ReadAuditBuffer
from service.runtime.api import create_app
from service.runtime.engines import build_local
from service.runtime.settings import BUNDLES, CropSettings, Settings, load_settings
from tests.bundles import SECOND, turned
from tests.conftest import serving
from tests.photos import BUS, COLLINS, HOPPER, TRAINER, b64, brighter, encoded, pixels

OWN, SAME_DIM, OTHER = read_embedder(BUNDLES / "embedder").model_id, "turned-128", "turned-160"
KEY = "the key for the crops of the tests, long enough"


@pytest.fixture(scope="module")
def several(postgres_url: str, settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Three models, on the database of the session's service, which runs one."""
    folder = tmp_path_factory.mktemp("bundles")
    more = [turned(folder / OTHER, 160, OTHER), turned(folder / SAME_DIM, 128, SAME_DIM)]
    return load_settings(
        database={"url": postgres_url, "maintenance_interval_s": 2},
        embedder={"additional_bundles": more},
        audit={"key": settings.audit.key},
        crops={"key": KEY},
        jobs={"uploads": settings.jobs.uploads},
    )


@pytest.fixture(scope="module")
def both(several: Settings) -> Iterator[httpx.Client]:
    with serving(create_app(several)) as client:
        yield client


def make(client: httpx.Client, **rules: Any) -> str:
    name = f"test-{uuid.uuid4().hex[:12]}"
    answer = client.post("/collections", json={"name": name, **rules})
    assert answer.status_code == 201, answer.text
    return name


def register(client: httpx.Client, name: str, label: str, *pictures: bytes, **more: Any) -> dict[str, Any]:
    body = {"label": label, "images": [b64(picture) for picture in pictures], **more}
    answer = client.post("/register", params={"collection": name}, json=body)
    assert answer.is_success, answer.text
    return answer.json()


def search(client: httpx.Client, name: str, picture: bytes, **more: Any) -> dict[str, Any]:
    answer = client.post("/search", params={"collection": name}, json={"image": b64(picture), **more})
    assert answer.status_code == 200, answer.text
    return answer.json()


def best(answer: dict[str, Any]) -> dict[str, Any]:
    return answer["results"][0]["candidates"][0]


def change(client: httpx.Client, name: str, model_id: str = OTHER, **more: Any) -> httpx.Response:
    return client.post(f"/collections/{name}/model-migration", json={"model_id": model_id, **more})


def migration(client: httpx.Client, name: str) -> dict[str, Any]:
    answer = client.get(f"/collections/{name}/model-migration")
    assert answer.status_code == 200, answer.text
    return answer.json()


def wait(client: httpx.Client, name: str, condition: Any, seconds: float = 60) -> dict[str, Any]:
    deadline = time.monotonic() + seconds
    while not condition(view := migration(client, name)):
        assert time.monotonic() < deadline, view
        time.sleep(0.1)
    return view


def job_done(view: dict[str, Any]) -> bool:
    return view["job"] is not None and view["job"]["finished_at"] is not None


def people(count: int) -> dict[str, bytes]:
    """So many people, of whom some look like each other: what matters is that each picture finds itself."""
    photos = (COLLINS, HOPPER)
    return {f"p{number}": brighter(photos[number % 2], 0.6 + 0.04 * (number // 2)) for number in range(count)}


class Traffic:
    """Three who search for what is enrolled, and one who enrols, until it is told to stop."""

    def __init__(self, client: httpx.Client, name: str, enrolled: dict[str, bytes]) -> None:
        self._client, self._name, self._enrolled = client, name, enrolled
        self._stop = threading.Event()
        self.answers: list[dict[str, Any]] = []
        self.newcomers: dict[str, bytes] = {}

    def __enter__(self) -> "Traffic":
        self._threads = ThreadPoolExecutor(4)
        self._tasks = [self._threads.submit(self._search, number) for number in range(3)]
        self._tasks.append(self._threads.submit(self._register))
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for task in self._tasks:
            task.result()
        self._threads.shutdown()

    def _search(self, number: int) -> None:
        for picture in itertools.cycle(list(self._enrolled.values())[number::3]):
            if self._stop.is_set():
                return
            self.answers.append(search(self._client, self._name, picture))

    def _register(self) -> None:
        while not self._stop.is_set():
            number = len(self.newcomers)
            picture = brighter(HOPPER, 0.55 + 0.001 * number)
            register(self._client, self._name, f"new-{number}", picture)
            self.newcomers[f"new-{number}"] = picture


def test_a_collection_changes_its_model_under_traffic(both: httpx.Client) -> None:
    """Whoever searches finds the enrolled picture at a cosine of one, by the one model or by the other.

    Embeddings of two models have nothing in common: a comparison between them would score about zero.
    """
    name = make(both, store_crops=True)
    enrolled = people(24)
    for label, picture in enrolled.items():
        register(both, name, label, picture)
    with Traffic(both, name, enrolled) as traffic:
        time.sleep(1)
        answer = change(both, name)
        assert answer.status_code == 202, answer.text
        assert both.get(answer.headers["location"]).json()["kind"] == "re-embedding"
        wait(both, name, lambda view: view["model_id"] == OTHER)
        for model_id in (OWN, OTHER):  # back, and there again
            time.sleep(1)
            for _ in range(2):  # sent again it changes nothing
                changed = both.post(f"/collections/{name}/model-migration/activate", json={"model_id": model_id})
                assert (changed.status_code, changed.json()["model_id"]) == (200, model_id), changed.text
        time.sleep(1)
    assert {found["model_id"] for found in traffic.answers} == {OWN, OTHER}
    assert min(best(found)["score"] for found in traffic.answers) > 0.99
    everybody = enrolled | traffic.newcomers
    known = {"identities": len(everybody), "missing": 0, "partial": 0, "corrections_missing": 0}
    assert migration(both, name)["coverage"] == known
    for label, picture in list(everybody.items())[::5]:
        found = search(both, name, picture, top_k=50)
        assert found["model_id"] == OTHER
        assert label in {one["external_id"] for one in found["results"][0]["candidates"] if one["score"] > 0.999}
    other = both.delete(f"/collections/{name}/model-migration", params={"model_id": OTHER})
    assert (other.status_code, other.json()["code"]) == (409, "conflict")
    dropped = both.delete(f"/collections/{name}/model-migration", params={"model_id": OWN}).json()
    rows = {"templates": len(everybody), "centroids": len(everybody), "corrections": 0}
    assert dropped == {"model_id": OWN, "deleted": rows}
    assert migration(both, name)["secondary_model_id"] is None
    assert best(search(both, name, enrolled["p0"]))["score"] > 0.99
    trail = both.get("/audit", params={"collection": name, "limit": 1000}).json()["entries"]
    actions = [entry["action"] for entry in trail]
    assert [one for one in actions if one.startswith("model-")] == [
        "model-standby",
        *["model-activate"] * 3,
        "model-drop",
    ]


@pytest.mark.anyio
async def test_rows_are_of_one_model_each(both: httpx.Client, database: Database) -> None:
    name = make(both, store_crops=True)
    register(both, name, "collins", COLLINS.read_bytes(), brighter(COLLINS, 0.8))
    change(both, name, auto_activate=False)
    wait(both, name, job_done)
    register(both, name, "hopper", HOPPER.read_bytes())
    query = text(
        "SELECT t.model_id, t.dim, vector_dims(t.embedding), count(*) FROM template t JOIN collection c "
        "ON c.id = t.collection_id WHERE c.name = :name GROUP BY 1, 2, 3 ORDER BY 2"
    )
    async with database.transaction(all_collections=True) as connection:
        rows = [tuple(row) for row in await connection.execute(query, {"name": name})]
    assert rows == [(OWN, 128, 128, 3), (OTHER, 160, 160, 3)]
    assert migration(both, name)["model_id"] == OWN  # nobody asked for more
    found = both.get("/identities", params={"collection": name}).json()["identities"]
    assert [one["template_count"] for one in found] == [2, 1]


def test_who_has_no_crop_needs_a_new_photo(both: httpx.Client) -> None:
    name = make(both)
    photos = {"collins": COLLINS.read_bytes(), "hopper": HOPPER.read_bytes()}
    for label, picture in photos.items():
        register(both, name, label, picture)
    address = change(both, name).headers["location"]
    view = wait(both, name, job_done)
    assert view["job"]["counts"] == {"accepted": 0, "duplicate": 0, "rejected": 2, "failed": 0}
    path, _, query = address.partition("?")
    assert {row["code"] for row in both.get(f"{path}/rows?{query}").json()["rows"]} == {"crops_missing"}
    assert (view["model_id"], view["coverage"]["missing"]) == (OWN, 2)
    listed = both.get(f"/collections/{name}/model-migration/missing").json()["people"]
    assert [one["external_id"] for one in listed] == ["collins", "hopper"]
    refused = both.post(f"/collections/{name}/model-migration/activate", json={})
    assert (refused.status_code, refused.json()["code"], refused.json()["missing"]) == (409, "model_incomplete", 2)
    again = register(both, name, "collins", photos["collins"])  # the same picture does as well
    assert again["images"][0]["status"] == "duplicate"
    listed = both.get(f"/collections/{name}/model-migration/missing").json()["people"]
    assert [one["external_id"] for one in listed] == ["hopper"]
    register(both, name, "hopper", brighter(HOPPER, 0.9))
    wait(both, name, lambda view: view["model_id"] == OTHER)  # by itself
    for label, picture in photos.items():
        found = best(search(both, name, picture))
        assert (found["external_id"], found["match"]) == (label, True)


def test_people_may_be_left_behind_on_purpose(both: httpx.Client) -> None:
    name = make(both)
    register(both, name, "collins", COLLINS.read_bytes())
    change(both, name, auto_activate=False)
    wait(both, name, job_done)
    changed = both.post(f"/collections/{name}/model-migration/activate", json={"force": True})
    assert (changed.status_code, changed.json()["model_id"]) == (200, OTHER)
    assert search(both, name, COLLINS.read_bytes())["results"][0]["candidates"] == []
    refused = both.delete(f"/collections/{name}/model-migration")  # the only one that knows somebody
    assert (refused.status_code, refused.json()["code"], refused.json()["missing"]) == (409, "model_incomplete", 1)
    back = both.post(f"/collections/{name}/model-migration/activate", json={})
    assert (back.status_code, back.json()["model_id"]) == (200, OWN)
    assert best(search(both, name, COLLINS.read_bytes()))["match"]


def test_corrections_are_respected_by_the_other_model(both: httpx.Client) -> None:
    name = make(both, store_crops=True, quality="off")
    person = register(both, name, "hopper", HOPPER.read_bytes())["identity_id"]
    wrong = {"image": b64(COLLINS.read_bytes())}
    path = f"/identities/{person}/corrections"
    assert both.post(path, params={"collection": name}, json=wrong).status_code == 201
    change(both, name)
    wait(both, name, lambda view: view["model_id"] == OTHER)
    later = {"image": b64(TRAINER.read_bytes())}
    assert both.post(path, params={"collection": name}, json=later).status_code == 201
    listed = both.get(path, params={"collection": name}).json()["corrections"]
    assert [one["model_id"] for one in listed] == [OTHER, OTHER]
    for picture in (COLLINS, TRAINER):
        found = best(search(both, name, picture.read_bytes(), threshold=-1))
        assert (found["overruled_by_correction"], found["match"]) == (True, False)
    for one in listed:
        assert both.delete(f"{path}/{one['id']}", params={"collection": name}).status_code == 204
    both.post(f"/collections/{name}/model-migration/activate", json={"force": True})
    assert both.get(path, params={"collection": name}).json()["corrections"] == []  # under either model


def test_a_correction_without_a_crop_keeps_the_model_from_changing(both: httpx.Client) -> None:
    name = make(both, quality="off")
    person = register(both, name, "hopper", HOPPER.read_bytes())["identity_id"]
    path = f"/identities/{person}/corrections"
    made = both.post(path, params={"collection": name}, json={"image": b64(COLLINS.read_bytes())}).json()
    change(both, name)
    register(both, name, "hopper", HOPPER.read_bytes())
    view = wait(both, name, lambda view: job_done(view) and view["coverage"]["missing"] == 0)
    assert (view["model_id"], view["coverage"]["corrections_missing"]) == (OWN, 1)
    both.delete(f"{path}/{made['id']}", params={"collection": name})
    wait(both, name, lambda view: view["model_id"] == OTHER)


def test_crops_are_exported_and_erased(both: httpx.Client) -> None:
    name = make(both, store_crops=True)
    made = register(both, name, "collins", COLLINS.read_bytes(), brighter(COLLINS, 0.8))
    person = f"/identities/{made['identity_id']}"
    held = both.get(f"{person}/export", params={"collection": name}).json()
    assert {one["source_sha256"] for one in held["crops"]} == {one["source_sha256"] for one in held["templates"]}
    for one in held["crops"]:
        with Image.open(io.BytesIO(base64.b64decode(one["image"]))) as picture:
            assert (picture.size, picture.format) == ((112, 112), "PNG")
    template = made["images"][0]["template_id"]
    assert both.delete(f"{person}/templates/{template}", params={"collection": name}).status_code == 200
    held = both.get(f"{person}/export", params={"collection": name}).json()
    assert len(held["crops"]) == len(held["templates"]) == 1
    receipt = both.delete(person, params={"collection": name}).json()
    assert receipt["deleted"]["crops"] == 1


@pytest.mark.anyio
async def test_crops_are_encrypted_and_go_when_nobody_wants_them(both: httpx.Client, database: Database) -> None:
    name = make(both, store_crops=True)
    register(both, name, "collins", COLLINS.read_bytes())
    query = text("SELECT sealed FROM crop p JOIN collection c ON c.id = p.collection_id WHERE c.name = :name")

    async def stored() -> list[bytes]:
        async with database.transaction(all_collections=True) as connection:
            return list((await connection.execute(query, {"name": name})).scalars())

    (sealed,) = await stored()
    assert b"PNG" not in sealed
    assert b"IDAT" not in sealed
    assert both.patch(f"/collections/{name}", json={"store_crops": False}).json()["store_crops"] is False
    assert await stored() == []
    register(both, name, "hopper", HOPPER.read_bytes())
    assert await stored() == []


def test_what_belongs_to_a_face_stays_together(both: httpx.Client) -> None:
    """Merging, splitting, moving and deleting while two models know everybody."""
    name = make(both, store_crops=True)
    change(both, name, auto_activate=False)
    wait(both, name, job_done)
    query = {"collection": name}
    one = register(both, name, "one", COLLINS.read_bytes(), brighter(COLLINS, 0.8))
    two = register(both, name, "two", HOPPER.read_bytes(), COLLINS.read_bytes())
    merged = both.post(
        f"/identities/{one['identity_id']}/merge", params=query, json={"identities": [two["identity_id"]]}
    )
    assert merged.json()["template_count"] == 3
    hopper = two["images"][0]["template_id"]
    body = {"template_ids": [hopper], "external_id": "hopper"}
    made = both.post(f"/identities/{one['identity_id']}/split", params=query, json=body).json()
    assert made["template_count"] == 1
    target = make(both)
    both.post(f"/identities/{made['id']}/move", params=query, json={"to": target})
    assert migration(both, name)["coverage"] == {"identities": 1, "missing": 0, "partial": 0, "corrections_missing": 0}
    held = both.get(f"/identities/{made['id']}/export", params={"collection": target}).json()
    assert ([one["model_id"] for one in held["templates"]], held["crops"]) == ([OWN], [])
    listed = both.get(f"/identities/{one['identity_id']}/templates", params=query).json()["templates"]
    assert {item["model_id"] for item in listed} == {OWN}
    both.delete(f"/identities/{one['identity_id']}/templates/{listed[0]['id']}", params=query)
    held = both.get(f"/identities/{one['identity_id']}/export", params=query).json()
    assert (len(held["templates"]), len(held["centroids"]), len(held["crops"])) == (2, 2, 1)


def test_models_of_one_dimension_are_not_mixed_up(both: httpx.Client) -> None:
    """Nothing but the model's name tells these embeddings apart."""
    name = make(both, model_id=SAME_DIM, quality="off")
    made = {}
    for model_id in (OWN, SAME_DIM):
        answer = both.post("/embed", json={"image": b64(COLLINS.read_bytes()), "model_id": model_id}).json()
        assert (answer["model_id"], answer["dim"]) == (model_id, 128)
        made[model_id] = answer["faces"][0]["embedding"]
    vectors = [np.frombuffer(base64.b64decode(one), "<f4") for one in made.values()]
    assert abs(float(vectors[0] @ vectors[1])) < 0.5
    body = {"label": "collins", "embeddings": [made[OWN]], "model_id": OWN}
    refused = both.post("/register", params={"collection": name}, json=body)
    assert (refused.status_code, refused.json()["code"]) == (422, "invalid_embedding")
    body |= {"embeddings": [made[SAME_DIM]], "model_id": SAME_DIM}
    assert both.post("/register", params={"collection": name}, json=body).status_code == 201
    found = search(both, name, COLLINS.read_bytes())
    assert (found["model_id"], round(best(found)["score"], 3)) == (SAME_DIM, 1.0)
    mixed = {"embedding_a": made[SAME_DIM], "image_b": b64(brighter(COLLINS, 0.8)), "fmr": 1e-3}
    verified = both.post("/verify", json={**mixed, "model_id": SAME_DIM}).json()
    assert (verified["model_id"], verified["match"]) == (SAME_DIM, True)
    refused = both.post("/verify", params={"collection": "default"}, json={**mixed, "model_id": SAME_DIM, "fmr": None})
    assert (refused.status_code, refused.json()["code"]) == (422, "invalid_embedding")


def test_what_can_not_be_changed_is_said(both: httpx.Client, client: httpx.Client) -> None:
    name = make(both)

    def code(answer: httpx.Response) -> tuple[int, str]:
        return answer.status_code, answer.json()["code"]

    assert code(change(both, name, "nobody's")) == (409, "model_not_loaded")
    assert code(change(both, name, OWN)) == (409, "conflict")
    assert code(both.post(f"/collections/{name}/model-migration/activate", json={})) == (409, "conflict")
    assert code(both.delete(f"/collections/{name}/model-migration")) == (409, "conflict")
    assert code(change(both, "no-such-collection")) == (404, "collection_not_found")
    assert change(both, name, auto_activate=False).status_code == 202
    assert code(change(both, name, SAME_DIM)) == (409, "conflict")
    assert migration(both, name)["secondary_model_id"] == OTHER
    # The other service on this database runs one model only, and has no key for crops.
    assert code(client.post("/collections", json={"name": "x", "store_crops": True})) == (409, "crops_unavailable")
    wait(both, name, job_done)
    register(client, name, "hopper", HOPPER.read_bytes())
    assert migration(both, name)["coverage"]["missing"] == 1
    assert both.post(f"/collections/{name}/model-migration/activate", json={"force": True}).status_code == 200
    refused = client.post("/search", params={"collection": name}, json={"image": b64(HOPPER.read_bytes())})
    assert code(refused) == (409, "model_not_loaded")
    strict = make(both, fmr=1e-3)
    assert change(both, strict).status_code == 202


def test_a_re_embedding_is_sent_again_for_what_it_could_not_do(both: httpx.Client) -> None:
    name = make(both, store_crops=True)
    register(both, name, "collins", COLLINS.read_bytes())
    both.patch(f"/collections/{name}", json={"store_crops": False})
    both.patch(f"/collections/{name}", json={"store_crops": True})
    register(both, name, "collins", brighter(COLLINS, 0.7))
    change(both, name, auto_activate=False)
    view = wait(both, name, job_done)
    assert view["job"]["counts"]["accepted"] == 1
    assert (view["coverage"]["missing"], view["coverage"]["partial"]) == (0, 1)
    first = view["job"]["id"]
    assert change(both, name, auto_activate=False).status_code == 202
    view = wait(both, name, lambda view: job_done(view) and view["job"]["id"] != first)
    assert view["job"]["counts"]["rejected"] == 1  # nothing new could be made of it
    register(both, name, "collins", COLLINS.read_bytes())
    assert migration(both, name)["coverage"]["partial"] == 0


def test_a_crop_is_worth_its_photo(both: httpx.Client) -> None:
    """What another model makes of a stored crop is what it makes of the photo."""
    name = make(both, store_crops=True)
    photo = encoded(pixels(BUS)[:, :, :], "PNG")
    register(both, name, "rider", photo, face="largest", force=True)
    change(both, name)
    wait(both, name, lambda view: view["model_id"] == OTHER)
    assert best(search(both, name, photo, face="largest"))["score"] > 0.9999


def test_bundles_of_one_id_are_refused(tmp_path: Path) -> None:
    from service.errors import StartupError
    from service.runtime.parts import _read_bundles

    with pytest.raises(StartupError, match="same model id"):
        _read_bundles([SECOND, SECOND])


class ChangesMeanwhile:
    """An engine; while it looks at the first pictures, the collection's models change places."""

    def __init__(self, engine: LocalEngine, client: httpx.Client, name: str) -> None:
        self.model_id, self.dims = engine.model_id, engine.dims
        self._engine, self._client, self._name, self.asked = engine, client, name, 0

    async def observe(self, images: Sequence[Picture]) -> list[Observation | RegistryError]:
        self.asked += 1
        if self.asked == 1:
            path = f"/collections/{self._name}/model-migration/activate"
            answer = await asyncio.to_thread(self._client.post, path, json={"force": True})
            assert answer.status_code == 200, answer.text
        return self._engine.observe_now(images)


@pytest.mark.anyio
async def test_a_model_that_changes_under_a_request_is_noticed(
    both: httpx.Client, several: Settings, database: Database
) -> None:
    """Whoever looked at the pictures by one model begins anew: nothing of the other's is compared with it, or lost."""
    local = build_local(several)
    bundles = {read_embedder(folder).model_id: read_embedder(folder) for folder in several.embedder.bundles}
    default = OperatingPoint("fmr", 1e-3)
    policies = {name: DecisionPolicy(one.calibration, "f32", default) for name, one in bundles.items()}
    resolver, limits = DecisionResolver(policies), QualityLimits(32, 15, 0.75, 30, 235, 0.05)
    audit_trail, sizes = AuditTrail(None), GallerySizes()
    name = make(both, store_crops=True)
    register(both, name, "collins", COLLINS.read_bytes())
    change(both, name, auto_activate=False)
    wait(both, name, job_done)

    engine = ChangesMeanwhile(local, both, name)
    store = EnrolmentStore(database, audit_trail, sizes)
    enroller = Enroller(store, engine, limits, resolver, CropCipher([KEY.encode()]))
    made = await enroller.enrol(EnrolmentRequest(name, "hopper", None, None, [Picture(HOPPER.read_bytes())]))
    assert isinstance(made, Enrolment)
    view = migration(both, name)
    assert (view["model_id"], view["coverage"]["identities"], view["coverage"]["missing"]) == (OTHER, 2, 0)

    engine = ChangesMeanwhile(local, both, name)  # and back
    request = IdentificationRequest(name, [Picture(COLLINS.read_bytes())], None, 5)
    search_by = GallerySearch(database, sizes)
    found = await Identifier(search_by, engine, resolver, ReadAuditBuffer(database, audit_trail)).identify(request)
    assert (found.model_id, engine.asked) == (OWN, 2)
    assert found.matches[0].result.candidates[0].score > 0.999


def test_a_job_whose_model_was_dropped_ends(both: httpx.Client) -> None:
    name = make(both, store_crops=True)
    for label, picture in people(12).items():
        register(both, name, label, picture)
    address = change(both, name).headers["location"]
    both.delete(f"/collections/{name}/model-migration")
    deadline = time.monotonic() + 30
    while (job := both.get(address).json())["finished_at"] is None:
        assert time.monotonic() < deadline, job
        time.sleep(0.1)
    assert job["state"] == "failed"
    assert "does not stand by any more" in job["problem"]


@pytest.mark.anyio
async def test_merging_leaves_no_crop_that_nothing_is_of(both: httpx.Client, database: Database) -> None:
    """Two who are one: "this is not that person" is forgotten, and so is the picture that it was about."""
    name = make(both, store_crops=True, quality="off")
    query = {"collection": name}
    one = register(both, name, "one", COLLINS.read_bytes())["identity_id"]
    two = register(both, name, "two", brighter(COLLINS, 0.8))["identity_id"]
    wrong = {"image": b64(brighter(COLLINS, 0.9))}
    assert both.post(f"/identities/{two}/corrections", params=query, json=wrong).status_code == 201
    assert both.post(f"/identities/{one}/merge", params=query, json={"identities": [two]}).status_code == 200
    assert both.get(f"/identities/{one}/corrections", params=query).json()["corrections"] == []
    crops = text("SELECT count(*) FROM crop p JOIN collection c ON c.id = p.collection_id WHERE c.name = :name")
    async with database.transaction(all_collections=True) as connection:
        assert (await connection.execute(crops, {"name": name})).scalar() == 2


def test_a_lost_key_is_made_up_for_by_the_same_photo(both: httpx.Client, several: Settings) -> None:
    """Another service has another key: what it kept can't be read here, until the photo comes again."""
    elsewhere = several.model_copy(update={"crops": CropSettings(key="another key for the crops, also long enough")})
    name = make(both, store_crops=True)
    with serving(create_app(elsewhere)) as other:
        register(other, name, "collins", COLLINS.read_bytes())
    change(both, name)
    view = wait(both, name, job_done)
    assert view["job"]["counts"]["rejected"] == 1
    both.delete(f"/collections/{name}/model-migration")
    register(both, name, "collins", COLLINS.read_bytes())
    change(both, name)
    wait(both, name, lambda view: view["model_id"] == OTHER)
    assert migration(both, name)["coverage"]["missing"] == 0
