"""Pictures without a face, from packages that are installed anyway: whatever is found in them is a false alarm."""

import importlib.util
from collections.abc import Iterator
from pathlib import Path

from service.vision.image import ImageLimits, Pixels, decode

SCENES = {
    "skimage": [
        f"data/{name}"
        for name in (
            "brick.png", "cell.png", "chelsea.png", "clock_motion.png", "coffee.png", "color.png", "grass.png",
            "gravel.png", "hubble_deep_field.jpg", "ihc.png", "logo.png", "moon.png", "motorcycle_left.png",
            "motorcycle_right.png", "page.png", "retina.jpg", "rocket.jpg", "text.png",
        )
    ],
    "sklearn": ["datasets/images/china.jpg", "datasets/images/flower.jpg"],
}  # fmt: skip
"""Looked at one by one: no person is to be seen in any of them (a cat is, and so are bricks)."""


def background() -> Iterator[tuple[str, Pixels]]:
    """Every scene whole and in its four quarters, each with a name."""
    for package, names in SCENES.items():
        for name in names:
            pixels = decode(_in_package(package, name).read_bytes(), ImageLimits())
            stem = Path(name).stem
            yield stem, pixels
            height, width = pixels.shape[0] // 2, pixels.shape[1] // 2
            for row in range(2):
                for column in range(2):
                    top, left = row * height, column * width
                    yield f"{stem} {row}{column}", pixels[top : top + height, left : left + width]


def _in_package(package: str, name: str) -> Path:
    found = importlib.util.find_spec(package)
    if found is None or not found.submodule_search_locations:
        raise FileNotFoundError(f"the package {package} is not installed; its pictures are needed here")
    return Path(found.submodule_search_locations[0]) / name
