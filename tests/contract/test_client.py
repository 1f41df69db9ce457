"""The Python client against the real API."""

import json
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import numpy as np
import pytest

from service.client import AsyncRegistry, Registry
from service.client import operations as op
from service.errors import CollectionNotFound, IdentityNotFound, NoFace, Unavailable
from tests.photos import COLLINS, HOPPER, brighter, encoded, zipped


@pytest.fixture
def registry(client: httpx.Client) -> Iterator[Registry]:
    with Registry(str(client.base_url)) as registry:
        yield registry


def test_a_persons_life(registry: Registry, collection_name: str, tmp_path: Path) -> None:
    made = registry.send(op.register("collins", [COLLINS], metadata={"floor": 3}, collection=collection_name))
    assert made.created
    other = registry.send(op.register("hopper", [str(HOPPER), brighter(HOPPER, 0.8)], collection=collection_name))
    found = registry.send(op.search(brighter(COLLINS, 0.7), collection=collection_name, fpir=0.01))
    assert (found.results[0].candidates[0].label, found.results[0].candidates[0].match) == ("collins", True)
    fused = registry.send(op.search(COLLINS, brighter(COLLINS, 0.8), collection=collection_name))
    assert fused.results[0].fused == 2
    filtered = registry.send(op.search(COLLINS, collection=collection_name, metadata={"floor": 4}))
    assert filtered.results[0].candidates == []
    assert not registry.send(op.verify(COLLINS, HOPPER)).match
    assert registry.send(op.verify(COLLINS, collection=collection_name, identity_id=made.identity_id)).match
    later = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    changes = {"label": "E. Collins", "retain_until": later}
    changed = registry.send(op.change_identity(made.identity_id, collection=collection_name, **changes))
    assert (changed.label, changed.retain_until is not None) == ("E. Collins", True)
    kept = registry.send(op.correct(made.identity_id, HOPPER, collection=collection_name))
    assert [one.id for one in registry.all(op.corrections(made.identity_id, collection=collection_name))] == [kept.id]
    registry.send(op.delete_correction(made.identity_id, kept.id, collection=collection_name))
    stored = list(registry.all(op.templates(other.identity_id, collection=collection_name)))
    apart = registry.send(op.split(other.identity_id, [stored[0].id], "grace", collection=collection_name))
    merged = registry.send(op.merge(other.identity_id, [apart.id], collection=collection_name))
    assert merged.template_count == 2
    registry.send(op.delete_template(other.identity_id, stored[0].id, collection=collection_name))
    assert registry.send(op.export(made.identity_id, collection=collection_name)).identity.label == "E. Collins"
    people = list(registry.all(op.identities(collection=collection_name)))
    assert [person.label for person in people] == ["E. Collins", "hopper"]
    fitting = registry.all(op.identities(collection=collection_name, metadata=json.dumps({"floor": 3})))
    assert [person.external_id for person in fitting] == ["collins"]
    gone = registry.send(op.erase(made.identity_id, collection=collection_name))
    assert gone.receipt is not None
    with pytest.raises(IdentityNotFound):
        registry.send(op.identity(made.identity_id, collection=collection_name))
    trail = list(registry.all(op.audit(collection=collection_name)))
    assert (
        trail[-1].code == gone.receipt.code == registry.send(op.audit_heads(collection=collection_name)).heads[0].code
    )


def test_an_archive(registry: Registry, collection_name: str, tmp_path: Path) -> None:
    archive = tmp_path / "people.zip"
    archive.write_bytes(zipped({"collins/1.jpg": COLLINS.read_bytes(), "broken/1.jpg": b"-"}))
    seen: list[int] = []
    job = registry.send(op.enrol_archive(archive, collection=collection_name))
    ended = registry.wait_for_job(job.id, collection_name, lambda detail: seen.append(detail.done))
    assert (ended.state, ended.counts["accepted"], ended.counts["rejected"]) == ("done", 1, 1)
    assert seen[-1] == 2
    [refused] = registry.all(op.job_rows(job.id, collection=collection_name, status="rejected"))
    assert refused.code == "image_unreadable"
    assert [one.id for one in registry.all(op.jobs(collection=collection_name))] == [job.id]


def test_problems_are_the_services_own_errors(registry: Registry) -> None:
    with pytest.raises(CollectionNotFound) as caught:
        registry.send(op.search(COLLINS, collection="nowhere"))
    assert caught.value.pointer == "/collection"
    with pytest.raises(NoFace):
        registry.send(op.search(encoded(np.full((200, 200, 3), 127, np.uint8))))


def test_collections_and_models(registry: Registry) -> None:
    name = f"test-{uuid.uuid4().hex[:12]}"
    assert registry.send(op.create_collection(name, quality="off")).quality == "off"
    assert registry.send(op.change_collection(name, duplicates="warn")).duplicates == "warn"
    assert registry.send(op.collection(name)).identity_count == 0
    assert name in {one.name for one in registry.all(op.collections(prefix="test-"))}
    assert registry.send(op.delete_collection(name)).identities_deleted == 0
    [model] = registry.send(op.models()).models
    assert registry.send(op.calibration(model.id)).model_id == model.id
    assert registry.send(op.embed(COLLINS)).dim == model.dim


@pytest.mark.anyio
async def test_the_same_with_asyncio(client: httpx.Client, collection_name: str, tmp_path: Path) -> None:
    archive = tmp_path / "people.zip"
    archive.write_bytes(zipped({"hopper/1.jpg": HOPPER.read_bytes()}))
    async with AsyncRegistry(str(client.base_url)) as registry:
        await registry.send(op.register("collins", [COLLINS], collection=collection_name))
        job = await registry.send(op.enrol_archive(archive, collection=collection_name))
        assert (await registry.wait_for_job(job.id, collection_name)).counts["accepted"] == 1
        people = [person.external_id async for person in registry.all(op.identities(collection=collection_name))]
        assert people == ["collins", "hopper"]
        with pytest.raises(IdentityNotFound):
            await registry.send(op.identity(uuid.uuid4(), collection=collection_name))


def test_nobody_there_is_told_after_some_tries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.client.answers.LONGEST_PAUSE_S", 0.05)
    with Registry("http://127.0.0.1:9") as registry, pytest.raises(Unavailable, match="can't be reached"):
        registry.send(op.delete_collection("x"))


def test_a_list_is_not_sent(registry: Registry) -> None:
    with pytest.raises(TypeError, match="page by page"):
        registry.send(op.collections())  # type: ignore[arg-type]
