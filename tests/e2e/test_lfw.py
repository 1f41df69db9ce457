"""Searches with other photos of the same people. Needs a folder in the layout of LFW: `make test LFW=folder`."""

import os
from pathlib import Path

import httpx
import pytest
from PIL import Image

from tests.photos import b64, encoded

FOLDER = os.environ.get("LFW", "")
ENROLLED, STRANGERS = 50, 500
pytestmark = pytest.mark.skipif(not FOLDER, reason="set LFW= to a folder of photos")


def test_searches_with_other_photos_return_the_right_person(client: httpx.Client, collection_name: str) -> None:
    people = {
        person.name: sorted(person.glob("*.jpg"))[:4]
        for person in sorted(Path(FOLDER).iterdir())
        if person.is_dir() and len(list(person.glob("*.jpg"))) >= 3
    }
    names = list(people)[:40]
    assert len(names) >= 5, "the folder needs at least five people with three photos each"
    query = {"collection": collection_name}
    for name in names:
        images = [b64(path.read_bytes()) for path in people[name][:2]]
        body = {"label": name, "face": "strongest", "images": images}
        assert client.post("/register", params=query, json=body).status_code == 201
    searches = correct = wrong = 0
    for name in names:
        for path in people[name][2:]:
            search = {"image": b64(path.read_bytes()), "top_k": 1, "fmr": 1e-2}
            best = client.post("/search", params=query, json=search).json()["results"][0]["candidates"][0]
            searches += 1
            correct += best["label"] == name and best["match"]
            wrong += best["label"] != name and best["match"]
    print(f"\nat FMR 1e-2, {correct} of {searches} searches return the right person and {wrong} a wrong one")
    assert correct >= 0.6 * searches
    assert wrong <= 0.1 * searches


def test_reduced_pictures_of_strangers_match_nobody(client: httpx.Client, collection_name: str) -> None:
    """The FPIR holds for faces of 20 px that were enlarged again, because the quality of the probe is checked."""
    pictures = [sorted(person.glob("*.jpg")) for person in sorted(Path(FOLDER).iterdir()) if person.is_dir()]
    enrolled, strangers = pictures[:ENROLLED], pictures[ENROLLED : ENROLLED + STRANGERS]
    assert len(strangers) == STRANGERS, f"the folder needs at least {ENROLLED + STRANGERS} people"
    query = {"collection": collection_name}
    for number, paths in enumerate(enrolled):
        body = {"external_id": str(number), "force": True, "face": "strongest", "images": [b64(paths[0].read_bytes())]}
        assert client.post("/register", params=query, json=body).status_code == 201
    false_positives = 0
    for paths in strangers:
        picture = Image.open(paths[0])  # the face is about 100 px wide
        reduced = picture.resize((picture.width // 5, picture.height // 5)).resize(picture.size)
        body = {"image": b64(encoded(reduced)), "face": "strongest", "fpir": 0.01}
        response = client.post("/search", params=query, json=body)
        found = response.json()["results"][0]["candidates"][0]["match"] if response.status_code == 200 else False
        false_positives += found
    print(f"\n{false_positives} of {STRANGERS} strangers of 20 px match somebody at fpir=0.01")
    assert false_positives <= 0.01 * STRANGERS
