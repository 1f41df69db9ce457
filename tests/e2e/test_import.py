"""`identity-registry import`: people of folders and of CompreFace's face collections."""

import base64
import contextlib
import csv
import json
import pickle
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest

from tests.photos import BUS, COLLINS, HOPPER, encoded, pixels
from tests.server import RunningApi, running_api

PHOTOS = {name: encoded(pixels(photo), "JPEG", quality=92) for name, photo in (("ada", COLLINS), ("grace/h", HOPPER))}


class Source(BaseHTTPRequestHandler):
    """Another system; its subclasses answer."""

    def do_GET(self) -> None:
        self.answer()

    def answer(self) -> None:
        raise NotImplementedError

    def send(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None: ...


@contextlib.contextmanager
def serving(handler: type[Source]) -> Iterator[str]:
    """Yields the URL of another system."""
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


class CompreFace(Source):
    """The two operations of CompreFace that the import uses, with one face on each page."""

    FACES: ClassVar = {"1": ("ada", PHOTOS["ada"]), "2": ("grace/h", PHOTOS["grace/h"]), "3": ("gone", b"")}

    def answer(self) -> None:
        address = urlsplit(self.path)
        if self.headers["x-api-key"] != "secret":
            return self.send(401, b'{"message": "no", "code": 0}')
        if address.path == "/api/v1/recognition/faces":
            number = int(parse_qs(address.query)["page"][0])
            image_id = list(self.FACES)[number]
            faces = [{"image_id": image_id, "subject": self.FACES[image_id][0]}]
            return self.send(200, json.dumps({"faces": faces, "total_pages": len(self.FACES)}).encode())
        return self.send(200, self.FACES[address.path.split("/")[-2]][1])


@pytest.fixture
def compreface() -> Iterator[str]:
    with serving(CompreFace) as url:
        yield url


def imported(api: RunningApi, folder: Path, *arguments: str) -> tuple[int, str, list[dict[str, str]]]:
    """Runs a command; returns its status, its output, and the lines of the report."""
    report = folder / "report.csv"
    report.unlink(missing_ok=True)
    command = [sys.executable, "-m", "service", "import", *arguments, "--url", str(api.client.base_url)]
    done = subprocess.run([*command, "--report", str(report)], capture_output=True, text=True, timeout=120)
    lines = list(csv.DictReader(report.read_text().splitlines())) if report.exists() else []
    return done.returncode, done.stdout + done.stderr, lines


def enrolled(api: RunningApi) -> list[str]:
    return [item["external_id"] for item in api.client.get("/identities").json()["identities"]]


def test_people_of_other_systems_are_enrolled_once(data_folder: Path, compreface: str, tmp_path: Path) -> None:
    folder, key = tmp_path / "people", tmp_path / "key.txt"
    for name, data in {
        "ada/1.jpg": PHOTOS["ada"],
        "ada/2.JPG": b"not a picture",
        "other/ada/1.jpg": PHOTOS["grace/h"],
        "crowd/bus.jpg": BUS.read_bytes(),
        "ds_model_facenet.pkl": b"-",
        ".hidden/1.jpg": PHOTOS["ada"],
        "-top.jpg": PHOTOS["grace/h"],
    }.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    key.write_text("secret\n")
    with running_api(data_folder) as api:
        status, output, lines = imported(api, tmp_path, "folders", str(folder))
        assert (status, sorted(enrolled(api))) == (0, ["-top", "ada"]), output
        assert "2 of 3 people are enrolled" in output
        assert "2 pictures accepted" in output
        by_source = {line["source"]: line for line in lines}
        assert (by_source["'-top.jpg"]["person"], by_source["ada/1.jpg"]["status"]) == ("'-top", "accepted")
        assert by_source["ada/2.JPG"]["status"] == by_source["crowd/bus.jpg"]["status"] == "rejected"
        assert by_source["other/ada/1.jpg"]["status"] == "missing"
        assert "may belong to two people" in by_source["other/ada/1.jpg"]["detail"]
        assert len(lines) == 5
        _, output, _ = imported(api, tmp_path, "folders", str(folder))
        assert "2 pictures duplicate" in output
        source = ["compreface", compreface, "--source-key-file", str(key)]
        status, output, lines = imported(api, tmp_path, *source)
        assert (status, sorted(enrolled(api))) == (0, ["-top", "ada", "grace/h"]), output
        assert [(line["source"], line["status"]) for line in lines] == [
            ("gone/3", "missing"),
            ("ada/1", "duplicate"),
            ("grace/h/2", "accepted"),
        ]
        assert "has not stored this picture" in lines[0]["detail"]
        key.write_text("wrong")
        status, output, lines = imported(api, tmp_path, *source)
        assert (status, lines) == (1, [])
        assert "send the API key of a recognition service" in output
        empty = tmp_path / "empty"
        empty.mkdir()
        status, output, _ = imported(api, tmp_path, "folders", str(empty))
        assert (status, "there are no pictures" in output) == (1, True)


def test_embeddings_of_other_programs_are_enrolled_without_pictures(data_folder: Path, tmp_path: Path) -> None:
    """The files are those that DeepFace.find and numpy.savez write; the vectors are of the registry's model."""
    with running_api(data_folder) as api:
        model = api.client.get("/models").json()["models"][0]["id"]
        vectors = {}
        for name, photo in PHOTOS.items():
            found = api.client.post("/embed", files={"image": photo}).json()["faces"][0]["embedding"]
            vectors[name] = np.frombuffer(base64.b64decode(found), "<f4")
        rows = [
            {"identity": f"db\\{name}\\1.jpg", "hash": "x", "embedding": (7 * vector).tolist(), "target_x": 1}
            for name, vector in vectors.items()
        ]
        (tmp_path / "ds_model.pkl").write_bytes(pickle.dumps([*rows, {"identity": "db/no/1.jpg", "embedding": None}]))
        np.savez(tmp_path / "gallery.npz", features=np.stack(list(vectors.values())), names=np.array(["x", "y"]))
        np.save(tmp_path / "gallery.npy", np.stack(list(vectors.values())))
        (tmp_path / "names.txt").write_text("u\nv\n")
        options = ["--model-id", model]
        status, output, lines = imported(api, tmp_path, "embeddings", str(tmp_path / "ds_model.pkl"), *options)
        assert (status, {line["status"] for line in lines}) == (0, {"rejected"})  # without a picture, no quality
        assert "`force`" in lines[0]["detail"], output
        by_name = {
            "one": next(iter(vectors.values())).tolist(),
            "two": [vector.tolist() for vector in vectors.values()],
        }
        (tmp_path / "by_name.pkl").write_bytes(pickle.dumps(by_name, protocol=4))
        (tmp_path / "newest.pkl").write_bytes(pickle.dumps({"three": by_name["one"]}, protocol=5))
        for file, more in (
            ("by_name.pkl", []),
            ("newest.pkl", []),
            ("ds_model.pkl", []),
            ("gallery.npz", []),
            ("gallery.npy", ["--names", "names.txt"]),
        ):
            extra = [str(tmp_path / item) if item.endswith("txt") else item for item in more]
            arguments = ["embeddings", str(tmp_path / file), *options, *extra, "--force"]
            status, output, lines = imported(api, tmp_path, *arguments)
            assert (status, {line["status"] for line in lines}) == (0, {"accepted"}), output
        assert {"ada", "h", "x", "y", "u", "v", "one", "two", "three"} == set(enrolled(api))
        probe = api.client.post("/search", files={"image": PHOTOS["ada"]}, data={"top_k": "9"}).json()["results"][0]
        assert {item["external_id"] for item in probe["candidates"] if item["match"]} == {
            "ada",
            "x",
            "u",
            "one",
            "two",
            "three",
        }
        refused = ["embeddings", str(tmp_path / "gallery.npz"), "--model-id", "another", "--force"]
        status, output, _ = imported(api, tmp_path, *refused)
        assert (status, "uses the model" in output) == (1, True)
        (tmp_path / "code.pkl").write_bytes(pickle.dumps({"a": next(iter(vectors.values()))}))
        status, output, _ = imported(api, tmp_path, "embeddings", str(tmp_path / "code.pkl"), *options)
        assert (status, "only lists and numbers are read" in output) == (1, True)
