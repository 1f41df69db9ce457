"""Bulk enrolment: from an archive or a folder to people who are found, with a result for every row."""

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


def start(client: httpx.Client, collection: str, files: Mapping[str, bytes] | bytes, **options: Any) -> str:
    """The address of a job that was taken."""
    body = files if isinstance(files, bytes) else zipped(files)
    answer = client.post("/jobs/enrolments", params={"collection": collection, **options}, content=body, headers=ZIP)
    assert answer.status_code == 202, answer.text
    return answer.headers["location"]


def ended(client: httpx.Client, address: str, seconds: float = 60) -> dict[str, Any]:
    deadline = time.monotonic() + seconds
    while (job := client.get(address).json())["state"] in ("waiting", "running"):
        assert time.monotonic() < deadline, job
        time.sleep(0.1)
    return job


def rows(client: httpx.Client, address: str, **query: Any) -> list[dict[str, Any]]:
    path, _, collection = address.partition("?")
    return client.get(f"{path}/rows", params={"collection": collection.partition("=")[2], **query}).json()["rows"]


def test_an_archive_becomes_people(client: httpx.Client, collection_name: str, settings: Settings) -> None:
    files = {f"people/{name}/1.jpg": data for name, data in PEOPLE.items()}
    files |= {"people/hopper/2.jpg": brighter(HOPPER, 0.8), "people/hopper/3.jpg": PEOPLE["hopper"]}
    files |= {"notes.txt": b"-", "__MACOSX/people/hopper/1.jpg": b"-", "people/hopper/.hidden.jpg": b"-"}
    files |= {"people/nobody/bus.jpg": b"not a picture", "people/crowd/bus.jpg": BUS.read_bytes()}
    address = start(client, collection_name, files)
    job = ended(client, address)
    assert (job["state"], job["total"], job["done"]) == ("done", 6, 6)
    assert job["counts"] == {"accepted": 3, "duplicate": 1, "rejected": 2, "failed": 0}
    by_source = {row["source"]: row for row in rows(client, address)}
    assert by_source["people/nobody/bus.jpg"]["code"] == "image_unreadable"
    assert by_source["people/crowd/bus.jpg"]["code"] == "several_faces"
    assert {by_source[f"people/hopper/{n}.jpg"]["status"] for n in (1, 3)} == {"accepted", "duplicate"}
    found = client.post(
        "/search", params={"collection": collection_name}, json={"image": b64(brighter(COLLINS, 0.7))}
    ).json()
    best = found["results"][0]["candidates"][0]
    assert (best["external_id"], best["match"]) == ("collins", True)
    assert best["identity_id"] == by_source["people/collins/1.jpg"]["identity_id"]
    assert list(settings.uploads_folder.glob("*-*")) == []


def test_a_manifest_says_who_is_who(client: httpx.Client, collection_name: str) -> None:
    table = (
        "file,external_id,label,metadata\r\n"
        'a.jpg,p1,"Collins, M.","{""team"": ""apollo""}"\r\n'
        "b.jpg,p2,,\r\n"
        "c.jpg,p3,,not json\r\n"
        "missing.jpg,p4,,\r\n"
        ",p5,,\r\n"
    )
    files = {"people.csv": ("\ufeff" + table).encode(), "a.jpg": PEOPLE["collins"], "b.jpg": PEOPLE["hopper"]}
    address = start(client, collection_name, files | {"c.jpg": PEOPLE["hopper"], "unnamed.jpg": PEOPLE["hopper"]})
    assert ended(client, address)["counts"] == {"accepted": 2, "duplicate": 0, "rejected": 3, "failed": 0}
    people = client.get("/identities", params={"collection": collection_name}).json()["identities"]
    assert {(one["external_id"], one["label"], json.dumps(one["metadata"])) for one in people} == {
        ("p1", "Collins, M.", '{"team": "apollo"}'),
        ("p2", "p2", "{}"),
    }
    assert all(row["detail"] for row in rows(client, address, status="rejected"))


def test_a_folder_of_the_server(client: httpx.Client, collection_name: str, import_root: Path) -> None:
    folder = import_root / uuid.uuid4().hex / "staff"
    (folder / "hopper").mkdir(parents=True)
    (folder / "hopper" / "1.jpg").write_bytes(PEOPLE["hopper"])
    (folder / "collins.jpg").write_bytes(PEOPLE["collins"])
    outside = import_root.parent / "outside.jpg"
    outside.write_bytes(PEOPLE["hopper"])
    (folder / "linked.jpg").symlink_to(outside)
    wish = {"folder": f"{folder.parent.name}/staff"}
    taken = client.post("/jobs/enrolments", params={"collection": collection_name}, json=wish)
    assert taken.status_code == 202
    address = taken.headers["location"]
    assert ended(client, address)["counts"]["accepted"] == 2
    assert [(row["external_id"], row["code"]) for row in rows(client, address, status="rejected")] == [
        ("linked", "image_unreadable")
    ]
    assert (folder / "collins.jpg").exists()


@pytest.mark.parametrize("folder", ["..", "../import", "/etc", "nowhere", "a\x00b", ""])
def test_no_other_folder(client: httpx.Client, collection_name: str, folder: str) -> None:
    answer = client.post("/jobs/enrolments", params={"collection": collection_name}, json={"folder": folder})
    assert answer.status_code == 422
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
def test_what_is_no_archive_is_refused_at_once(
    client: httpx.Client, collection_name: str, settings: Settings, body: bytes, headers: dict[str, str], status: int,
    code: str,
) -> None:  # fmt: skip
    answer = client.post("/jobs/enrolments", params={"collection": collection_name}, content=body, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert list(settings.uploads_folder.glob("*-*")) == []


@pytest.mark.parametrize(
    "files",
    [
        {"readme.txt": b"-"},
        {"people.csv": b"name,picture\na,b\n", "b": PEOPLE["hopper"]},
        {"people.csv": b"\xff\xfe\x00", "b.jpg": PEOPLE["hopper"]},
    ],
)
def test_an_archive_without_people_fails_and_says_why(
    client: httpx.Client, collection_name: str, files: dict[str, bytes]
) -> None:
    job = ended(client, start(client, collection_name, files))
    assert job["state"] == "failed"
    assert "people.csv" in job["problem"]


def test_pages_and_downloads_hold_every_row_once(client: httpx.Client, collection_name: str) -> None:
    address = start(client, collection_name, {f"p{number:02}.jpg": b"broken" for number in range(23)})
    ended(client, address)
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


def test_a_cancelled_job_ends(client: httpx.Client, collection_name: str, settings: Settings) -> None:
    picture = encoded(pixels(HOPPER), quality=90)
    address = start(client, collection_name, {f"p{number}.jpg": picture for number in range(400)})
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
    made = [start(client, collection_name, {"a.jpg": b"-"}).split("?")[0].rpartition("/")[2] for _ in range(5)]
    query: dict[str, Any] = {"collection": collection_name, "limit": 2}
    listed: list[str] = []
    cursor = None
    while True:
        page = client.get("/jobs", params=query | ({"cursor": cursor} if cursor else {})).json()
        listed += [job["id"] for job in page["jobs"]]
        if (cursor := page["next_cursor"]) is None:
            break
    assert listed == made[::-1]
    for job_id in made:
        ended(client, f"/jobs/{job_id}?collection={collection_name}")
    assert client.get("/jobs", params=query | {"state": "running"}).json()["jobs"] == []


def test_who_is_erased_stands_in_no_job_any_more(client: httpx.Client, collection_name: str) -> None:
    files = {"gone/1.jpg": PEOPLE["hopper"], "gone/2.jpg": b"broken", "stays/1.jpg": PEOPLE["collins"]}
    address = start(client, collection_name, files)
    ended(client, address)
    query = {"collection": collection_name, "external_id": "gone"}
    gone = client.get("/identities", params=query).json()["identities"][0]
    assert client.delete(f"/identities/{gone['id']}", params={"collection": collection_name}).status_code == 200
    assert [row["external_id"] for row in rows(client, address)] == ["stays"]


def test_a_job_of_another_collection_is_not_there(client: httpx.Client, collection_name: str) -> None:
    address = start(client, collection_name, {"a.jpg": b"-"})
    path = address.split("?")[0]
    for suffix in ("", "/rows", "/rows.csv", "/rows.jsonl"):
        assert client.get(f"{path}{suffix}").json()["code"] == "job_not_found"
    ended(client, address)


def test_a_deleted_collection_takes_its_jobs_along(client: httpx.Client) -> None:
    name = f"test-{uuid.uuid4().hex[:12]}"
    client.post("/collections", json={"name": name})
    start(client, name, {f"p{number}.jpg": PEOPLE["hopper"] for number in range(50)})
    assert client.delete(f"/collections/{name}").status_code == 200
    assert client.get("/jobs", params={"collection": name}).json()["code"] == "collection_not_found"


def test_a_collection_that_rejects_duplicates_rejects_rows(client: httpx.Client) -> None:
    name = f"test-{uuid.uuid4().hex[:12]}"
    client.post("/collections", json={"name": name, "duplicates": "reject"})
    address = start(
        client, name, {"a.jpg": PEOPLE["hopper"], "b.jpg": brighter(HOPPER, 0.9), "c.jpg": PEOPLE["collins"]}
    )
    assert ended(client, address)["counts"] == {"accepted": 2, "duplicate": 0, "rejected": 1, "failed": 0}
    [refused] = rows(client, address, status="rejected")
    assert refused["code"] == "duplicate_person"
    other = "a" if refused["external_id"] == "b" else "b"
    assert f"'{other}'" not in refused["detail"]


def test_a_row_that_shows_somebody_else_says_so(client: httpx.Client, collection_name: str) -> None:
    files = {"ann/1.jpg": COLLINS.read_bytes(), "ann/2.jpg": brighter(COLLINS, 0.8), "ann/3.jpg": HOPPER.read_bytes()}
    address = start(client, collection_name, files)
    ended(client, address)
    found = {row["source"]: (row["status"], row["detail"]) for row in rows(client, address)}
    assert found["ann/1.jpg"] == found["ann/2.jpg"] == ("accepted", None)
    assert found["ann/3.jpg"] == ("accepted", "outlier: it looks unlike the person's other pictures")
