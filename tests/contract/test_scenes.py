"""Pictures of several people, of animals and of things."""

from importlib.util import find_spec
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

from tests.photos import BUS, COLLINS, HOPPER, TRAINER, b64, brighter, encoded, pixels

HEIGHT = 500
THINGS = {
    "skimage": ["chelsea.png", "coins.png", "coffee.png", "rocket.jpg", "brick.png", "moon.png", "page.png"],
    "sklearn": ["china.jpg", "flower.jpg"],
    "gradio": ["lion.jpg", "tower.jpg", "cheetah1.jpg", "groot.jpeg", "bus.png"],
}


def together(*photos: np.ndarray) -> np.ndarray:
    """Returns one picture of several, each with the same height, in two rows of the same width."""
    parts = [Image.fromarray(photo) for photo in photos]
    scaled = [np.asarray(part.resize((round(part.width * HEIGHT / part.height), HEIGHT))) for part in parts]
    rows = [np.concatenate(scaled[start::2], axis=1) for start in (0, 1)]
    width = max(row.shape[1] for row in rows)
    return np.concatenate([np.pad(row, ((0, 0), (0, width - row.shape[1]), (0, 0))) for row in rows])


def package_pictures() -> list[Path]:
    """Returns the pictures of animals and things that installed packages contain."""
    found = []
    for package, names in THINGS.items():
        spec = find_spec(package)
        assert spec is not None and spec.origin is not None  # noqa: PT018  for the type checker
        found += [file for file in Path(spec.origin).parent.rglob("*") if file.name in names]
    return found


@pytest.mark.parametrize("alter", [None, "greyscale"])
def test_exactly_the_enrolled_people_of_a_group_match(
    client: httpx.Client, collection_name: str, alter: str | None
) -> None:
    scope = {"collection": collection_name}
    for name, photo in (("collins", COLLINS), ("hopper", HOPPER)):
        body = {"label": name, "images": [b64(brighter(photo, 0.8))]}
        assert client.post("/register", params=scope, json=body).status_code == 201
    group = together(pixels(COLLINS), pixels(TRAINER), pixels(HOPPER), pixels(BUS)[390:530, 80:340])
    if alter is not None:
        group = np.repeat(np.asarray(Image.fromarray(group).convert("L"))[..., None], 3, axis=2)
    body = {"image": b64(encoded(group, "PNG")), "face": "all"}
    results = client.post("/search", params=scope, json=body).json()["results"]
    assert len(results) >= 5
    matches = [candidate["label"] for item in results for candidate in item["candidates"] if candidate["match"]]
    assert sorted(matches) == ["collins", "hopper"]
    assert all(item["shares_match_with"] == [] for item in results)


def test_animals_and_things_are_not_enrolled(client: httpx.Client, collection_name: str) -> None:
    files = package_pictures()
    assert len(files) >= 10
    body = {"label": "x", "images": [b64(encoded(pixels(file), "PNG")) for file in files[:10]], "face": "largest"}
    response = client.post("/register", params={"collection": collection_name}, json=body)
    assert (response.status_code, response.json()["code"]) == (422, "no_image_accepted")
