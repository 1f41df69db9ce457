"""`identity-registry import insightface-server`: its REST API, whose answers version 0.2.0 gave, and its database."""

import base64
import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar
from urllib.parse import parse_qs, unquote, urlsplit

import httpx
import numpy as np
import pytest

from service.transfer import rest
from service.transfer.insightface_server import SYSTEM, in_insightface_server, read_insightface_database
from service.transfer.rest import SourceError
from tests.e2e.test_import import PHOTOS, Source, enrolled, imported, serving
from tests.server import running_api

KEY = "Bearer secret"
PEOPLE = "/v1/collections/employees/persons"


class InsightFaceServer(Source):
    """The operations that the import uses, with one person on each page."""

    PEOPLE: ClassVar = [
        {"id": "a/1", "name": "Ada Lovelace", "external_id": "HR/1", "face_count": 1, "metadata": {}},
        {"id": "grace", "name": None, "external_id": None, "face_count": 1, "metadata": {}},
        {"id": "gone", "name": "Gone", "external_id": "", "face_count": 2, "metadata": {}},
    ]
    FACES: ClassVar = {
        "a/1": [{"id": "f1", "has_crop": True}],
        "grace": [{"id": "f2", "has_crop": True}],
        "gone": [{"id": "f3", "has_crop": False}, {"id": "f4", "has_crop": True}],
    }
    PICTURES: ClassVar = {"f1": PHOTOS["ada"], "f2": PHOTOS["grace/h"]}

    def answer(self) -> None:
        address = urlsplit(self.path)
        if self.headers["authorization"] != KEY:
            return self.send(401, b'{"error": {"code": "unauthorized"}}')
        if not address.path.startswith(PEOPLE):
            return self.send(404, b'{"error": {"code": "resource_not_found"}}')
        parts = [unquote(part) for part in address.path.removeprefix(PEOPLE).split("/")[1:]]
        if len(parts) == 4:
            data = self.PICTURES.get(parts[2])
            return self.send(200, data) if data else self.send(404, b"{}")
        if parts:
            return self.send(200, json.dumps({"faces": self.FACES[parts[0]], "next_cursor": None}).encode())
        number = int(parse_qs(address.query).get("cursor", ["0"])[0])
        following = str(number + 1) if number + 1 < len(self.PEOPLE) else None
        document = {"persons": [self.PEOPLE[number]], "next_cursor": following, "request_id": "x"}
        return self.send(200, json.dumps(document).encode())


@pytest.fixture
def source() -> Iterator[str]:
    with serving(InsightFaceServer) as url:
        yield url


def database(file: Path, rows: list[tuple[str, str | None, str | None, bytes]]) -> Path:
    """Writes the tables that version 0.2.0 creates, with the columns that the import reads."""
    with sqlite3.connect(file) as connection:
        connection.executescript(
            "CREATE TABLE collections (id TEXT PRIMARY KEY);"
            "CREATE TABLE persons (collection_id TEXT, id TEXT, name TEXT, external_id TEXT);"
            "CREATE TABLE face_samples (id TEXT, collection_id TEXT, person_id TEXT, embedding BLOB);"
            "INSERT INTO collections VALUES ('employees');"
        )
        for number, (person, name, external_id, embedding) in enumerate(rows):
            connection.execute("INSERT INTO persons VALUES ('employees', ?, ?, ?)", (person, name, external_id))
            sample = f"face-{number}", "employees", person, embedding
            connection.execute("INSERT INTO face_samples VALUES (?, ?, ?, ?)", sample)
    connection.close()
    return file


def test_people_of_insightface_server_are_enrolled_once(data_folder: Path, source: str, tmp_path: Path) -> None:
    key = tmp_path / "key.txt"
    key.write_text("secret\n")
    arguments = ["insightface-server", source, "--source-collection", "employees", "--source-key-file", str(key)]
    with running_api(data_folder) as api:
        status, output, lines = imported(api, tmp_path, *arguments)
        assert (status, sorted(enrolled(api))) == (0, ["HR/1", "grace"]), output
        assert [(line["source"], line["person"], line["status"]) for line in lines] == [
            ("gone/f3", "gone", "missing"),
            ("gone/f4", "gone", "missing"),
            ("a/1/f1", "HR/1", "accepted"),
            ("grace/f2", "grace", "accepted"),
        ]
        assert "save_face_crops" in lines[0]["detail"]
        assert lines[1]["detail"] == "InsightFace Server answers 404"
        labels = {item["external_id"]: item["label"] for item in api.client.get("/identities").json()["identities"]}
        assert labels == {"HR/1": "Ada Lovelace", "grace": "grace"}
        _, output, _ = imported(api, tmp_path, *arguments)
        assert "2 pictures duplicate" in output
        for wrong in (["--source-collection", "others"], ["--source-key-file", str(tmp_path / "wrong.txt")]):
            (tmp_path / "wrong.txt").write_text("wrong")
            status, output, _ = imported(api, tmp_path, *arguments, *wrong)
            assert (status, "check the URL, --source-collection and the API key" in output) == (1, True)


def test_embeddings_of_insightface_server_are_enrolled_for_the_same_model(data_folder: Path, tmp_path: Path) -> None:
    with running_api(data_folder) as api:
        model = api.client.get("/models").json()["models"][0]["id"]
        vectors = []
        for photo in PHOTOS.values():
            found = api.client.post("/embed", files={"image": photo}).json()["faces"][0]["embedding"]
            vectors.append(base64.b64decode(found))
        people = [("a1", "Ada Lovelace", "HR/1", vectors[0]), ("grace", None, None, vectors[1])]
        file = database(tmp_path / "insightface-server.db", people)
        arguments = ["insightface-server", str(file), "--source-collection", "employees", "--force"]
        status, output, _ = imported(api, tmp_path, *arguments)
        assert (status, "need --model-id" in output) == (1, True)
        status, output, _ = imported(api, tmp_path, *arguments, "--model-id", "another")
        assert (status, "embeddings of another model cannot be compared" in output) == (1, True)
        status, output, lines = imported(api, tmp_path, *arguments, "--model-id", model)
        assert (status, [line["status"] for line in lines]) == (0, ["accepted", "accepted"]), output
        best = api.client.post("/search", files={"image": PHOTOS["ada"]}).json()["results"][0]["candidates"][0]
        assert (best["external_id"], best["label"], best["match"]) == ("HR/1", "Ada Lovelace", True)


def test_other_files_and_collections_are_refused(tmp_path: Path) -> None:
    (tmp_path / "text.db").write_text("no database, but long enough to be read as one" * 20)
    for file in (tmp_path / "text.db", tmp_path / "absent.db"):
        with pytest.raises(SourceError, match="is not a database of InsightFace Server"):
            read_insightface_database(file, "employees")
    one = np.ones(4, "<f4").tobytes()
    file = database(tmp_path / "good.db", [("a", None, None, one), ("b", None, None, one + one)])
    with pytest.raises(SourceError, match="no faces in the collection 'x'; its collections are employees"):
        read_insightface_database(file, "x")
    with pytest.raises(SourceError, match="different lengths"):
        read_insightface_database(file, "employees")
    with pytest.raises(SourceError, match="different lengths"):
        read_insightface_database(database(tmp_path / "odd.db", [("a", None, None, b"12345")]), "employees")
    with pytest.raises(SourceError, match="length 0"):
        read_insightface_database(database(tmp_path / "zero.db", [("a", None, None, bytes(16))]), "employees")


@pytest.mark.parametrize("persons", ['[{"id": "a"}]', "[]"])
def test_a_list_without_an_end_is_refused(persons: str) -> None:
    class Endless(Source):
        def answer(self) -> None:
            if "/faces" in self.path:
                return self.send(200, b'{"faces": [], "next_cursor": null}')
            return self.send(200, f'{{"persons": {persons}, "next_cursor": "1"}}'.encode())

    refused = pytest.raises(SourceError, match="no list 'persons' with an end")
    with serving(Endless) as url, httpx.Client(base_url=url) as client, refused:
        list(in_insightface_server(client, "employees"))


def test_an_answer_that_is_too_large_is_not_read_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rest, "MAX_BYTES", 1_000)

    class Large(Source):
        def answer(self) -> None:
            self.send(200, b"[" + b" " * 2_000 + b"]")

    with serving(Large) as url, httpx.Client(base_url=url) as client:
        assert rest.Download(client, "/picture", SYSTEM)() == "the picture is too large"
        with pytest.raises(SourceError, match="does not answer like InsightFace Server"):
            rest.get_json(client, "/list", {}, SYSTEM)
