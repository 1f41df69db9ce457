"""Pictures without people, from installed packages. Every face that a detector reports in them is a false alarm."""

import importlib.util
from collections.abc import Iterator
from pathlib import Path

from service.vision.image import ImageLimits, Pixels, decode

FILES = {
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
"""Files by package. Each picture was inspected: none shows a person; chelsea.png shows a cat."""


def background_pictures() -> Iterator[tuple[str, Pixels]]:
    """Yields every picture of `FILES` and its four quarters, each with a name: 100 pictures in total.

    Raises:
        FileNotFoundError: scikit-image or scikit-learn is not installed.
    """
    for package, names in FILES.items():
        for name in names:
            pixels = decode(_package_file(package, name).read_bytes(), ImageLimits())
            stem = Path(name).stem
            yield stem, pixels
            height, width = pixels.shape[0] // 2, pixels.shape[1] // 2
            for row in range(2):
                for column in range(2):
                    top, left = row * height, column * width
                    yield f"{stem} {row}{column}", pixels[top : top + height, left : left + width]


def _package_file(package: str, name: str) -> Path:
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError(
            f"the package {package} is not installed; install the extra `trainer`, which includes it"
        )
    return Path(spec.submodule_search_locations[0]) / name
