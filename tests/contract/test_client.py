"""The Python client against the real API."""

import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import numpy as np
import pytest

from identity_registry import AsyncRegistry, Registry
from identity_registry.errors import (
    CollectionNotFound,
    Conflict,
    IdentityNotFound,
    NoFace,
    NoImageAccepted,
    Unauthorized,
)
from identity_registry.responses import JobDetail
from tests.photos import BUS, COLLINS, HOPPER, brighter, encoded, zipped


@pytest.fixture
def registry(client: httpx.Client) -> Iterator[Registry]:
    with Registry(str(client.base_url)) as registry:
        yield registry


def test_recognition(registry: Registry, collection_name: str) -> None:
    with COLLINS.open("rb") as file:
        registered = registry.register("collins", file, metadata={"floor": 3}, collection=collection_name)
    assert (registered.created, registered.images[0].status, registered.collection) == (
        True,
        "accepted",
        collection_name,
    )
    again = registry.register("collins", [brighter(COLLINS, 0.8)], collection=collection_name)
    assert (again.created, again.template_count) == (False, 2)
    assert again.images[0].similarity == pytest.approx(1, abs=0.1)
    response = registry.search(brighter(COLLINS, 0.7), collection=collection_name, fpir=0.01, explain=True)
    [result] = response.results
    assert (result.candidates[0].label, result.candidates[0].match) == ("collins", True)
    assert result.explain is not None
    assert (response.fpir, result.candidates[0].overruled_by_correction) == (pytest.approx(0.01, rel=0.2), False)
    fused = registry.search([COLLINS, brighter(COLLINS, 0.8)], collection=collection_name).results[0]
    assert fused.fused == 2
    assert fused.lowest_similarity is not None
    filtered = registry.search(str(COLLINS), collection=collection_name, metadata_filter={"floor": {"$gt": 3}})
    assert filtered.results[0].candidates == []
    assert len(registry.search(BUS, collection=collection_name, face="all", top_k=1).results) > 1
    assert not registry.verify(COLLINS, HOPPER, fmr=0.001).match
    verified = registry.verify(COLLINS, collection=collection_name, identity_id=registered.identity_id)
    assert verified.match
    assert verified.identity is not None
    assert verified.identity.external_id == "collins"


def test_embeddings(registry: Registry, collection_name: str) -> None:
    embedded = registry.embed(COLLINS)
    [face] = embedded.faces
    assert (len(face.vector), np.linalg.norm(face.vector)) == (embedded.dim, pytest.approx(1, abs=1e-3))
    assert face.embedding not in repr(embedded)
    model_id = embedded.model_id
    registry.register("a", embeddings=[face.vector], model_id=model_id, collection=collection_name, force=True)
    assert registry.verify(COLLINS, embedding_b=face.embedding, model_id=model_id).match
    found = registry.search(embedding=face.embedding, model_id=model_id, collection=collection_name)
    assert found.results[0].candidates[0].match
    box = face.face.box
    assert registry.search(COLLINS, face="box", box=box, collection=collection_name).results[0].candidates[0].match


def test_identities(registry: Registry, collection_name: str) -> None:
    collins = registry.register("collins", COLLINS, metadata={"floor": 3}, collection=collection_name).identity_id
    hopper = registry.register("hopper", [HOPPER, brighter(HOPPER, 0.8)], collection=collection_name).identity_id
    later = datetime.now(UTC) + timedelta(days=1)
    changed = registry.update_identity(collins, collection=collection_name, label="E. Collins", retain_until=later)
    assert (changed.label, changed.retain_until, changed.metadata) == ("E. Collins", later, {"floor": 3})
    assert registry.update_identity(collins, collection=collection_name, retain_until=None).retain_until is None
    correction = registry.create_correction(collins, HOPPER, collection=collection_name)
    assert [one.id for one in registry.list_corrections(collins, collection=collection_name)] == [correction.id]
    registry.delete_correction(collins, correction.id, collection=collection_name)
    first, _ = registry.list_templates(hopper, collection=collection_name, page_size=1)
    split = registry.split_identity(hopper, [first.id], "grace", collection=collection_name)
    merged = registry.merge_identities(hopper, [split.id], collection=collection_name)
    assert (merged.template_count, merged.templates_moved) == (2, 1)
    assert registry.delete_template(hopper, first.id, collection=collection_name).templates_left == 1
    exported = registry.export_identity(collins, collection=collection_name)
    assert (exported.identity.label, len(exported.templates[0].vector) > 0) == ("E. Collins", True)
    assert exported.stored_responses[0]
    identities = list(registry.list_identities(collection=collection_name, page_size=1))
    assert [identity.label for identity in identities] == ["E. Collins", "hopper"]
    [filtered] = registry.list_identities(collection=collection_name, metadata_filter={"floor": 3})
    assert filtered.external_id == "collins"


def test_a_move_an_erasure_and_the_audit_trail(registry: Registry, collection_name: str) -> None:
    identity_id = registry.register("collins", COLLINS, collection=collection_name).identity_id
    target = f"{collection_name}-2"
    registry.create_collection(target)
    registry.move_identity(identity_id, target, collection=collection_name)
    assert registry.read_identity(identity_id, collection=target).external_id == "collins"
    erased = registry.erase_identity(identity_id, collection=target)
    assert erased.receipt is not None
    with pytest.raises(IdentityNotFound):
        registry.read_identity(identity_id, collection=target)
    entries = list(registry.list_audit_entries(collection=target, identity_id=identity_id, page_size=1))
    [head] = registry.list_audit_heads(collection=target)
    assert entries[-1].mac == erased.receipt.mac == head.mac


def test_an_archive(registry: Registry, collection_name: str, tmp_path: Path) -> None:
    archive = tmp_path / "people.zip"
    archive.write_bytes(zipped({"collins/1.jpg": COLLINS.read_bytes(), "broken/1.jpg": b"-"}))
    progress: list[JobDetail] = []
    job = registry.enrol_archive(archive, collection=collection_name)
    ended = registry.wait_for_job(job.id, collection=collection_name, progress=progress.append, poll_s=0.1)
    assert (ended.state, ended.counts["accepted"], ended.counts["rejected"]) == ("done", 1, 1)
    assert (progress[-1].done, progress[-1].finished) == (2, True)
    [rejected] = registry.list_job_rows(job.id, collection=collection_name, status="rejected")
    assert rejected.code == "image_unreadable"
    assert [one.id for one in registry.list_jobs(collection=collection_name)] == [job.id]
    with pytest.raises(Conflict, match="already done"):
        registry.cancel_job(job.id, collection=collection_name)


def test_a_folder(registry: Registry, collection_name: str, import_root: Path) -> None:
    (import_root / collection_name / "hopper").mkdir(parents=True)
    (import_root / collection_name / "hopper" / "1.jpg").write_bytes(HOPPER.read_bytes())
    job = registry.enrol_folder(collection_name, collection=collection_name)
    ended = registry.wait_for_job(job.id, collection=collection_name, timeout_s=60)
    assert (ended.counts["accepted"], ended.problem) == (1, None)
    with pytest.raises(TimeoutError):
        registry.wait_for_job(
            registry.enrol_folder(".", collection=collection_name).id, collection=collection_name, timeout_s=0
        )


def test_errors_have_the_class_of_their_code(registry: Registry) -> None:
    with pytest.raises(CollectionNotFound) as caught:
        registry.search(COLLINS, collection="nowhere")
    assert (caught.value.status, caught.value.pointer) == (404, "/collection")
    assert caught.value.request_id in str(caught.value)
    blank = encoded(np.full((200, 200, 3), 127, np.uint8))
    with pytest.raises(NoFace):
        registry.search(blank)
    with pytest.raises(NoImageAccepted) as rejected:
        registry.register("nobody", [blank, BUS])
    assert [image["code"] for image in rejected.value.extensions["images"]] == ["no_face", "several_faces"]


def test_collections_and_models(registry: Registry) -> None:
    name = f"test-{uuid.uuid4().hex[:12]}"
    assert registry.create_collection(name, quality="off", fmr=0.001).quality == "off"
    changed = registry.update_collection(name, duplicates="warn", fmr=None)
    assert (changed.duplicates, changed.fmr) == ("warn", None)
    assert registry.read_collection(name).identity_count == 0
    assert name in {one.name for one in registry.list_collections(prefix="test-", page_size=1)}
    migration = registry.read_model_migration(name)
    assert (migration.secondary_model_id, migration.coverage) == (None, None)
    assert registry.delete_collection(name).identities_deleted == 0
    model = next(iter(registry.list_models()))
    assert registry.read_calibration(model.id).calibration.points[0].fmr > 0
    assert "<svg" in registry.read_det_curve(model.id)


def test_health(registry: Registry) -> None:
    assert registry.healthz().status == "alive"
    assert registry.readyz().inference == "ready"
    assert "registry_" in registry.read_metrics()


def test_an_api_key_is_sent(client: httpx.Client) -> None:
    with Registry(str(client.base_url), "ir_unknown") as registry, pytest.raises(Unauthorized, match="unknown"):
        list(registry.list_models())


@pytest.mark.anyio
async def test_the_asynchronous_client(client: httpx.Client, collection_name: str, tmp_path: Path) -> None:
    archive = tmp_path / "people.zip"
    archive.write_bytes(zipped({"hopper/1.jpg": HOPPER.read_bytes()}))
    async with AsyncRegistry(str(client.base_url)) as registry:
        await registry.register("collins", [COLLINS], collection=collection_name)
        job = await registry.enrol_archive(archive, collection=collection_name)
        ended = await registry.wait_for_job(job.id, collection=collection_name, timeout_s=60, poll_s=0.1)
        assert ended.counts["accepted"] == 1
        identities = registry.list_identities(collection=collection_name, page_size=1)
        assert [identity.external_id async for identity in identities] == ["collins", "hopper"]
        response = await registry.search(COLLINS, collection=collection_name, fpir=0.01)
        assert response.results[0].candidates[0].label == "collins"
        with pytest.raises(IdentityNotFound):
            await registry.read_identity(uuid.uuid4(), collection=collection_name)
