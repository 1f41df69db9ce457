"""Bulk enrolment of embeddings from NumPy archives."""

import io
import json
import uuid
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import httpx
import numpy as np
import pytest

from service.gallery.access.scopes import Scope
from service.jobs.embedding_enrolment import (
    MAX_BYTES_PER_TRANSACTION,
    MAX_ROWS_PER_TRANSACTION,
    TRANSACTIONS,
    EmbeddingSession,
)
from service.jobs.sources.embeddings import MAX_PART_BYTES, EmbeddingArchive
from tests.contract.api_keys import new_key
from tests.contract.test_jobs import ZIP, finished_job, rows

DIM = 128


def unit(count: int, seed: int = 0) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(count, DIM)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def npz(**arrays: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def post(client: httpx.Client, collection: str, archive: bytes, **query: Any) -> httpx.Response:
    model = client.get("/models").json()["models"][0]
    params = {"collection": collection, "model_id": model["id"], "force": True} | query
    return client.post("/jobs/embedding-enrolments", params=params, content=archive, headers=ZIP)


def search(client: httpx.Client, collection: str, vector: np.ndarray) -> dict[str, Any]:
    model = client.get("/models").json()["models"][0]
    body = {"embedding": vector.tolist(), "model_id": model["id"]}
    return client.post("/search", params={"collection": collection}, json=body).json()["results"][0]["candidates"][0]


def test_embeddings_are_enrolled_with_their_labels_and_metadata(client: httpx.Client, collection_name: str) -> None:
    """The archive has more rows than one transaction stores."""
    vectors = unit(1_200)
    archive = npz(
        embeddings=vectors.astype(np.float64),
        external_id=np.array([f"p{number}" for number in range(1_200)]),
        label=np.array([f"Person {number}" if number % 2 else "" for number in range(1_200)]),
        metadata=np.array([json.dumps({"floor": number % 10}) for number in range(1_200)]),
    )
    response = post(client, collection_name, archive)
    assert response.status_code == 202, response.text
    job = finished_job(client, response.headers["location"])
    assert (job["kind"], job["counts"]["accepted"], job["total"]) == ("embedding-enrolment", 1_200, 1_200)
    for number in (0, 77, 1_199):
        best = search(client, collection_name, vectors[number])
        assert (best["external_id"], best["match"], best["template_count"]) == (f"p{number}", True, 1)
        assert best["score"] == pytest.approx(1, abs=1e-5)
        assert best["label"] == (f"Person {number}" if number % 2 else f"p{number}")
        assert best["metadata"] == {"floor": number % 10}
    row = rows(client, response.headers["location"], limit=1)[0]
    assert (row["source"], row["external_id"], row["status"]) == ("embeddings[0]", "p0", "accepted")
    identity = client.get(f"/identities/{row['identity_id']}", params={"collection": collection_name}).json()
    assert identity["external_id"] == "p0"
    page = client.get("/audit", params={"collection": collection_name, "limit": 1000}).json()["entries"]
    assert sum(entry["action"] == "enrol" for entry in page) >= 900


def test_unusable_rows_are_rejected_alone(client: httpx.Client, collection_name: str) -> None:
    vectors = unit(6)
    vectors[1] *= 2
    vectors[2, 0] = np.nan
    names = np.array(["a", "b", "c", "", "a", "x\x00"])
    metadata = np.array(["", "", "", "", "[" * 10_000, "[1]"])
    response = post(client, collection_name, npz(embeddings=vectors, external_id=names, metadata=metadata))
    job = finished_job(client, response.headers["location"])
    assert job["counts"] == {"accepted": 1, "duplicate": 0, "rejected": 5, "failed": 0}
    found = {row["number"]: (row["status"], row["code"]) for row in rows(client, response.headers["location"])}
    assert found == {
        0: ("accepted", None),
        1: ("rejected", "invalid_embedding"),
        2: ("rejected", "invalid_embedding"),
        3: ("rejected", "invalid_request"),
        4: ("rejected", "invalid_request"),
        5: ("rejected", "invalid_request"),
    }


def test_a_text_that_is_no_unicode_fails_the_job(client: httpx.Client, collection_name: str) -> None:
    names = array("<U1", (1,), (0x110000).to_bytes(4, "little"))
    archive = archive_of(embeddings=array("<f4", (1, DIM), unit(1).tobytes()), external_id=names)
    response = post(client, collection_name, archive)
    job = finished_job(client, response.headers["location"])
    assert (job["state"], "invalid text" in job["problem"]) == ("failed", True)


def test_large_texts_are_read_in_small_parts(tmp_path: Path) -> None:
    """Every text takes the 64 KB of the longest one, so that 5,000 rows would take 655 MB."""
    file = tmp_path / "texts.npz"
    count, length = 600, 16_000
    text = np.full(count, "x" * length)
    np.savez(file, embeddings=unit(count), external_id=np.arange(count), label=text, metadata=text)
    archive = EmbeddingArchive(file, 1_000)
    assert 0 < archive.part_rows * 2 * 4 * length <= MAX_PART_BYTES
    assert archive.texts("external_id", 598, 600) == ["598", "599"]
    archive.close()


@pytest.mark.parametrize("dim", [64, 512, 4_000])
def test_one_transaction_stores_a_bounded_size(dim: int, tmp_path: Path) -> None:
    file = tmp_path / "embeddings.npz"
    np.savez(file, embeddings=np.zeros((1, dim), np.float32), external_id=np.arange(1))
    archive = EmbeddingArchive(file, 1)
    session = EmbeddingSession(Mock(), Mock(), archive)
    size = session.rows_at_once // TRANSACTIONS
    assert 0 < size <= MAX_ROWS_PER_TRANSACTION
    assert size * dim * 4 <= MAX_BYTES_PER_TRANSACTION
    session.close()


def test_a_key_that_may_only_enrol_adds_matching_embeddings_only(
    send: Callable[..., httpx.Response], guarded: httpx.Client
) -> None:
    """It creates identities, but cannot add another face to an existing one, or change its label."""
    manager, enroller = new_key(Scope.MANAGE, Scope.ENROL), new_key(Scope.ENROL)
    collection = f"bulk-{uuid.uuid4().hex[:8]}"
    assert send(manager, "POST", "/collections", json={"name": collection, "quality": "off"}).status_code == 201
    model = send(manager, "GET", "/models").json()["models"][0]
    query = f"collection={collection}&model_id={model['id']}"

    def run(key: str, archive: bytes) -> dict[str, int]:
        response = send(key, "POST", f"/jobs/embedding-enrolments?{query}", content=archive, headers=ZIP)
        guarded.headers["x-api-key"] = key
        counts = finished_job(guarded, response.headers["location"])["counts"]
        del guarded.headers["x-api-key"]
        return counts

    first, other = unit(2)
    assert run(manager, npz(embeddings=first[None], external_id=np.array(["ada"])))["accepted"] == 1
    assert run(enroller, npz(embeddings=other[None], external_id=np.array(["ada"])))["rejected"] == 1
    changed = npz(embeddings=first[None], external_id=np.array(["ada"]), label=np.array(["Eve"]))
    assert run(enroller, changed)["rejected"] == 1
    assert run(enroller, npz(embeddings=other[None], external_id=np.array(["grace"])))["accepted"] == 1


def test_a_second_job_finds_duplicates_and_adds_to_existing_identities(
    client: httpx.Client, collection_name: str
) -> None:
    vectors = unit(4)
    names = np.array(["a", "b", "c", "d"])
    finished_job(
        client, post(client, collection_name, npz(embeddings=vectors[:2], external_id=names[:2])).headers["location"]
    )
    address = post(client, collection_name, npz(embeddings=vectors, external_id=names)).headers["location"]
    assert finished_job(client, address)["counts"] == {"accepted": 2, "duplicate": 2, "rejected": 0, "failed": 0}


def test_a_collection_with_quality_limits_needs_force(client: httpx.Client, collection_name: str) -> None:
    archive = npz(embeddings=unit(2), external_id=np.array(["a", "b"]))
    address = post(client, collection_name, archive, force=False).headers["location"]
    assert finished_job(client, address)["counts"]["rejected"] == 2
    assert rows(client, address)[0]["code"] == "face_rejected"


def test_duplicates_are_refused_if_the_collection_refuses_them(client: httpx.Client, collection_name: str) -> None:
    client.patch(f"/collections/{collection_name}", json={"duplicates": "reject"})
    vectors = unit(2)
    archive = npz(embeddings=vectors[[0, 1, 0]], external_id=np.array(["a", "b", "c"]))
    address = post(client, collection_name, archive).headers["location"]
    assert finished_job(client, address)["counts"]["rejected"] == 1
    assert rows(client, address)[2]["code"] == "duplicate_person"


def compressed() -> bytes:
    file = io.BytesIO()
    np.savez_compressed(file, embeddings=unit(2), external_id=np.array(["a", "b"]))
    return file.getvalue()


def pickled() -> bytes:
    file = io.BytesIO()
    np.savez(file, embeddings=unit(1), external_id=np.array([{"a": 1}], object))
    return file.getvalue()


def array(descr: str, shape: tuple[int, ...], data: bytes) -> bytes:
    """Returns an .npy file with this header and data."""
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": descr, "fortran_order": False, "shape": shape})
    return file.getvalue() + data


def archive_of(**arrays: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in arrays.items():
            archive.writestr(f"{name}.npy", data)
    return file.getvalue()


def truncated() -> bytes:
    """Returns an archive whose arrays have fewer values than their headers say."""
    count = 10**5
    names = array("<U1", (count,), b"a\0\0\0" * count)
    return archive_of(external_id=names, embeddings=array("<f4", (count, DIM), b""))


@pytest.mark.parametrize(
    "archive",
    [
        b"-",
        npz(embeddings=unit(2)),
        npz(embeddings=unit(2)[:, :64], external_id=np.array(["a", "b"])),
        npz(embeddings=unit(2), external_id=np.array(["a"])),
        npz(embeddings=unit(2)[0], external_id=np.array(["a", "b"])),
        npz(embeddings=np.ones((2, DIM), np.int32), external_id=np.array(["a", "b"])),
        npz(embeddings=unit(0), external_id=np.array([], "U1")),
        npz(embeddings=unit(2), external_id=np.array(["a", "b"]), names=np.array(["a", "b"])),
        npz(embeddings=np.asfortranarray(unit(2)), external_id=np.array(["a", "b"])),
        npz(embeddings=unit(1), external_id=np.array(["x" * 100_000])),
        compressed(),
        pickled(),
        truncated(),
    ],
)
def test_an_unusable_archive_starts_no_job(client: httpx.Client, collection_name: str, archive: bytes) -> None:
    response = post(client, collection_name, archive)
    assert (response.status_code, response.json()["code"]) == (422, "archive_unreadable"), response.text
    assert client.get("/jobs", params={"collection": collection_name}).json()["jobs"] == []


def test_the_model_must_be_that_of_the_collection(client: httpx.Client, collection_name: str) -> None:
    archive = npz(embeddings=unit(1), external_id=np.array(["a"]))
    response = post(client, collection_name, archive, model_id="other")
    assert (response.status_code, response.json()["pointer"]) == (422, "/model_id")
    assert post(client, f"none-{uuid.uuid4()}", archive).json()["code"] == "collection_not_found"
