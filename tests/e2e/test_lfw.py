"""Different photos of one person, where a folder in LFW's layout is named: `make test LFW=folder`."""

import os
from pathlib import Path

import httpx
import pytest

from tests.photos import b64

FOLDER = os.environ.get("LFW", "")
pytestmark = pytest.mark.skipif(not FOLDER, reason="no folder of photos is named with LFW=")


def test_people_are_found_by_other_photos_of_theirs(client: httpx.Client, collection_name: str) -> None:
    people = {
        person.name: sorted(person.glob("*.jpg"))[:4]
        for person in sorted(Path(FOLDER).iterdir())
        if person.is_dir() and len(list(person.glob("*.jpg"))) >= 3
    }
    names = list(people)[:40]
    assert len(names) >= 5, "the folder needs at least five people with three photos each"
    for name in names:
        body = {"label": name, "collection": collection_name, "face": "strongest"}
        images = [b64(path.read_bytes()) for path in people[name][:2]]
        assert client.post("/register", json={**body, "images": images}).status_code == 201
    right = tried = wrong = 0
    for name in names:
        for path in people[name][2:]:
            body = {"image": b64(path.read_bytes()), "collection": collection_name, "top_k": 1, "fmr": 1e-2}
            best = client.post("/search", json=body).json()["results"][0]["candidates"][0]
            tried += 1
            right += best["label"] == name and best["match"]
            wrong += best["label"] != name and best["match"]
    print(f"\n{right} of {tried} photos found the right person, {wrong} a wrong one, at FMR 1e-2")
    assert right >= 0.6 * tried
    assert wrong <= 0.1 * tried
