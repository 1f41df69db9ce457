"""Tests of bulk enrolment from archives and server folders: jobs, their rows, cancellation and erasure."""

import csv
import io
import json
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.runtime.settings import Settings
from tests.photos import BUS, COLLINS, HOPPER, b64, brighter, encoded, pixels, zipped

ZIP = {"content-type": "application/zip"}
PEOPLE = {"collins": COLLINS.read_bytes(), "hopper": HOPPER.read_bytes()}


def submit(client: httpx.Client, collection: str, files: Mapping[str, bytes] | bytes, **options: Any) -> str:
    """Submits files as an archive and returns the address of the job, path and query."""
    body = files if isinstance(files, bytes) else zipped(files)
    response = client.post("/jobs/enrolments", params={"collection": collection, **options}, content=body, headers=ZIP)
    assert response.status_code == 202, response.text
    return response.headers["location"]


def finished_job(client: httpx.Client, address: str, headers: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Waits until a job has finished and returns it."""
    deadline = time.monotonic() + 60
    while (job := client.get(address, headers=headers).json())["state"] in ("waiting", "running"):
        assert time.monotonic() < deadline, job
        time.sleep(0.1)
    return job


def rows(client: httpx.Client, address: str, **query: Any) -> list[dict[str, Any]]:
    """Returns the first page of the rows of a job."""
    path, _, collection = address.partition("?")
    return client.get(f"{path}/rows", params={"collection": collection.partition("=")[2], **query}).json()["rows"]


def test_archive_is_enrolled_and_searchable(client: httpx.Client, collection_name: str, settings: Settings) -> None:
    files = {f"people/{name}/1.jpg": data for name, data in PEOPLE.items()}
    files |= {"people/hopper/2.jpg": brighter(HOPPER, 0.8), "people/hopper/3.jpg": PEOPLE["hopper"]}
    files |= {"notes.txt": b"-", "__MACOSX/people/hopper/1.jpg": b"-", "people/hopper/.hidden.jpg": b"-"}
    files |= {"people/nobody/bus.jpg": b"not a picture", "people/crowd/bus.jpg": BUS.read_bytes()}
    address = submit(client, collection_name, files)
    job = finished_job(client, address)
    assert (job["state"], job["total"], job["done"]) == ("done", 9, 9)
    assert job["counts"] == {"accepted": 3, "duplicate": 1, "rejected": 5, "failed": 0}
    by_source = {row["source"]: row for row in rows(client, address)}
    assert by_source["people/nobody/bus.jpg"]["code"] == "image_unreadable"
    assert by_source["people/crowd/bus.jpg"]["code"] == "several_faces"
    assert {by_source[f"people/hopper/{n}.jpg"]["status"] for n in (1, 3)} == {"accepted", "duplicate"}
    probe = {"image": b64(brighter(COLLINS, 0.7))}
    result = client.post("/search", params={"collection": collection_name}, json=probe).json()
    best = result["results"][0]["candidates"][0]
    assert (best["external_id"], best["match"]) == ("collins", True)
    assert best["identity_id"] == by_source["people/collins/1.jpg"]["identity_id"]
    assert list(settings.uploads_folder.glob("*-*")) == []


def test_manifest_assigns_pictures_to_identities(client: httpx.Client, collection_name: str) -> None:
    table = (
        "file,external_id,label,metadata\r\n"
        'a.jpg,p1,"Collins, M.","{""team"": ""apollo""}"\r\n'
        "b.jpg,p2,,\r\n"
        "c.jpg,p3,,not json\r\n"
        "missing.jpg,p4,,\r\n"
        ",p5,,\r\n"
    )
    files = {"people.csv": ("\ufeff" + table).encode(), "a.jpg": PEOPLE["collins"], "b.jpg": PEOPLE["hopper"]}
    address = submit(client, collection_name, files | {"c.jpg": PEOPLE["hopper"], "unnamed.jpg": PEOPLE["hopper"]})
    assert finished_job(client, address)["counts"] == {"accepted": 2, "duplicate": 0, "rejected": 4, "failed": 0}
    identities = client.get("/identities", params={"collection": collection_name}).json()["identities"]
    assert {(item["external_id"], item["label"], json.dumps(item["metadata"])) for item in identities} == {
        ("p1", "Collins, M.", '{"team": "apollo"}'),
        ("p2", "p2", "{}"),
    }
    assert all(row["detail"] for row in rows(client, address, status="rejected"))


def test_server_folder_is_enrolled_without_its_links(
    client: httpx.Client, collection_name: str, import_root: Path
) -> None:
    folder = import_root / uuid.uuid4().hex / "staff"
    (folder / "hopper").mkdir(parents=True)
    (folder / "hopper" / "1.jpg").write_bytes(PEOPLE["hopper"])
    (folder / "collins.jpg").write_bytes(PEOPLE["collins"])
    outside = import_root.parent / "outside.jpg"
    outside.write_bytes(PEOPLE["hopper"])
    (folder / "linked.jpg").symlink_to(outside)
    request = {"folder": f"{folder.parent.name}/staff"}
    response = client.post("/jobs/enrolments", params={"collection": collection_name}, json=request)
    assert response.status_code == 202
    address = response.headers["location"]
    assert finished_job(client, address)["counts"]["accepted"] == 2
    assert [(row["external_id"], row["code"]) for row in rows(client, address, status="rejected")] == [
        ("linked", "image_unreadable")
    ]
    assert (folder / "collins.jpg").exists()


@pytest.mark.parametrize("folder", ["..", "../import", "/etc", "nowhere", "a\x00b", ""])
def test_folder_outside_the_import_root_is_refused(client: httpx.Client, collection_name: str, folder: str) -> None:
    response = client.post("/jobs/enrolments", params={"collection": collection_name}, json={"folder": folder})
    assert response.status_code == 422
    assert client.get("/jobs", params={"collection": collection_name}).json()["jobs"] == []


@pytest.mark.parametrize(
    ("body", "headers", "status", "code"),
    [
        (b"not a zip", ZIP, 422, "archive_unreadable"),
        (b"", ZIP, 422, "archive_unreadable"),
        (zipped({"a/b.jpg": PEOPLE["hopper"]})[:-40], ZIP, 422, "archive_unreadable"),
        (b"x", {"content-type": "text/plain"}, 415, "unsupported_media_type"),
        (b"x", {}, 415, "unsupported_media_type"),
    ],
)
def test_invalid_archive_is_refused_without_a_job(
    client: httpx.Client,
    collection_name: str,
    settings: Settings,
    body: bytes,
    headers: dict[str, str],
    status: int,
    code: str,
) -> None:
    response = client.post("/jobs/enrolments", params={"collection": collection_name}, content=body, headers=headers)
    assert (response.status_code, response.json()["code"]) == (status, code)
    assert list(settings.uploads_folder.glob("*-*")) == []


@pytest.mark.parametrize(
    "files",
    [
        {"readme.txt": b"-"},
        {"people.csv": b"name,picture\na,b\n", "b": PEOPLE["hopper"]},
        {"people.csv": b"\xff\xfe\x00", "b.jpg": PEOPLE["hopper"]},
    ],
)
def test_job_without_rows_fails_with_a_problem(
    client: httpx.Client, collection_name: str, files: dict[str, bytes]
) -> None:
    job = finished_job(client, submit(client, collection_name, files))
    assert job["state"] == "failed"
    assert "people.csv" in job["problem"]


def test_pages_and_downloads_have_every_row_once(client: httpx.Client, collection_name: str) -> None:
    address = submit(client, collection_name, {f"p{number:02}.jpg": b"broken" for number in range(23)})
    finished_job(client, address)
    path, query = address.split("?")[0], {"collection": collection_name}
    numbers: list[int] = []
    cursor: str | None = ""
    while cursor is not None:
        page = client.get(f"{path}/rows", params=query | {"limit": 7} | ({"cursor": cursor} if cursor else {})).json()
        numbers += [row["number"] for row in page["rows"]]
        cursor = page["next_cursor"]
    assert numbers == list(range(23))
    lines = client.get(f"{path}/rows.jsonl", params=query).text.splitlines()
    assert [json.loads(line)["number"] for line in lines] == numbers
    table = list(csv.DictReader(io.StringIO(client.get(f"{path}/rows.csv", params=query).text)))
    assert [(int(row["number"]), row["code"]) for row in table] == [(n, "image_unreadable") for n in numbers]
    assert client.get(f"{path}/rows.csv", params=query | {"status": "accepted"}).text.count("\n") == 1


def test_cancelled_job_stops(client: httpx.Client, collection_name: str, settings: Settings) -> None:
    picture = encoded(pixels(HOPPER), quality=90)
    address = submit(client, collection_name, {f"p{number}.jpg": picture for number in range(400)})
    path, query = address.split("?")[0], {"collection": collection_name}
    cancelled = client.post(f"{path}/cancel", params=query)
    assert (cancelled.status_code, cancelled.json()["state"]) == (200, "cancelled")
    assert client.post(f"{path}/cancel", params=query).json()["code"] == "conflict"
    time.sleep(2)
    before = client.get(address).json()["done"]
    time.sleep(1)
    job = client.get(address).json()
    assert (job["state"], job["done"]) == ("cancelled", before)
    assert before < 400
    assert list(settings.uploads_folder.glob("*-*")) == []


def test_jobs_are_listed_newest_first(client: httpx.Client, collection_name: str) -> None:
    submitted = [submit(client, collection_name, {"a.jpg": b"-"}).split("?")[0].rpartition("/")[2] for _ in range(5)]
    query: dict[str, Any] = {"collection": collection_name, "limit": 2}
    listed: list[str] = []
    cursor = None
    while True:
        page = client.get("/jobs", params=query | ({"cursor": cursor} if cursor else {})).json()
        listed += [job["id"] for job in page["jobs"]]
        if (cursor := page["next_cursor"]) is None:
            break
    assert listed == submitted[::-1]
    for job_id in submitted:
        finished_job(client, f"/jobs/{job_id}?collection={collection_name}")
    assert client.get("/jobs", params=query | {"state": "running"}).json()["jobs"] == []


def test_erasure_deletes_job_rows_of_the_identity(client: httpx.Client, collection_name: str) -> None:
    files = {"erased/1.jpg": PEOPLE["hopper"], "erased/2.jpg": b"broken", "kept/1.jpg": PEOPLE["collins"]}
    address = submit(client, collection_name, files)
    finished_job(client, address)
    query = {"collection": collection_name, "external_id": "erased"}
    identity = client.get("/identities", params=query).json()["identities"][0]
    assert client.delete(f"/identities/{identity['id']}", params={"collection": collection_name}).status_code == 200
    assert [row["external_id"] for row in rows(client, address)] == ["kept"]


def test_job_is_not_found_in_another_collection(client: httpx.Client, collection_name: str) -> None:
    address = submit(client, collection_name, {"a.jpg": b"-"})
    path = address.split("?")[0]
    for suffix in ("", "/rows", "/rows.csv", "/rows.jsonl"):
        assert client.get(f"{path}{suffix}").json()["code"] == "job_not_found"
    finished_job(client, address)


def test_deleting_a_collection_deletes_its_jobs(client: httpx.Client) -> None:
    name = f"test-{uuid.uuid4().hex[:12]}"
    client.post("/collections", json={"name": name})
    submit(client, name, {f"p{number}.jpg": PEOPLE["hopper"] for number in range(50)})
    assert client.delete(f"/collections/{name}").status_code == 200
    assert client.get("/jobs", params={"collection": name}).json()["code"] == "collection_not_found"


def test_duplicates_are_rejected_without_naming_the_other_identity(client: httpx.Client) -> None:
    name = f"test-{uuid.uuid4().hex[:12]}"
    client.post("/collections", json={"name": name, "duplicates": "reject"})
    address = submit(
        client, name, {"a.jpg": PEOPLE["hopper"], "b.jpg": brighter(HOPPER, 0.9), "c.jpg": PEOPLE["collins"]}
    )
    assert finished_job(client, address)["counts"] == {"accepted": 2, "duplicate": 0, "rejected": 1, "failed": 0}
    [refused] = rows(client, address, status="rejected")
    assert refused["code"] == "duplicate_person"
    other = "a" if refused["external_id"] == "b" else "b"
    assert f"'{other}'" not in refused["detail"]


def test_row_of_an_outlier_has_a_detail(client: httpx.Client, collection_name: str) -> None:
    files = {"ann/1.jpg": COLLINS.read_bytes(), "ann/2.jpg": brighter(COLLINS, 0.8), "ann/3.jpg": HOPPER.read_bytes()}
    address = submit(client, collection_name, files)
    finished_job(client, address)
    outcomes = {row["source"]: (row["status"], row["detail"]) for row in rows(client, address)}
    assert outcomes["ann/1.jpg"] == outcomes["ann/2.jpg"] == ("accepted", None)
    assert outcomes["ann/3.jpg"] == ("accepted", "outlier: its similarity to the person's other pictures is low")
