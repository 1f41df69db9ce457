"""`python -m tools.measure_non_faces`: measures how many pictures without a person could be enrolled.

For example photos of animals, statues, cartoons, coins and food. A picture could be enrolled if a face is detected in
it and the standard limits of quality accept the face.
"""

from collections import Counter
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from service.errors import RegistryError
from service.inference.engine import Picture
from service.recognition.policies import QualityMode
from service.recognition.samples import outcome
from service.runtime.engines import build_pipeline
from service.runtime.parts import quality_limits
from service.runtime.settings import load_settings
from trainer.pictures import pictures_below
from trainer.tables import table


def main(
    photos: Annotated[Path, typer.Option(help="Folder of pictures, in a folder for each kind.")],
    limit: Annotated[int | None, typer.Option(help="Number of pictures, chosen at random.", show_default="all")] = None,
    seed: Annotated[int, typer.Option(help="Seed of the choice.")] = 1,
) -> None:
    """Print detected faces and enrolled pictures by kind, and the names of the enrolled ones."""
    files = sorted(pictures_below(photos))
    if limit is not None:
        files = [files[index] for index in np.random.default_rng(seed).permutation(len(files))[:limit]]
    pipeline, limits = (
        build_pipeline(load_settings()),
        quality_limits(load_settings().recognition)[QualityMode.STANDARD],
    )
    total, detected, enrolled = Counter[str](), Counter[str](), Counter[str]()
    names = []
    for file in files:
        kind = file.relative_to(photos).parts[0]
        picture = Picture(file.read_bytes())
        [result] = pipeline.observe_files([picture])
        total[kind] += 1
        if isinstance(result, RegistryError) or not result.faces:
            continue
        detected[kind] += 1
        if outcome(limits, picture, result, "", force=False).status == "accepted":
            enrolled[kind] += 1
            names.append(f"{file.relative_to(photos)} (detection score {result.faces[0].detection.score:.2f})")
    lines = [(kind, total[kind], detected[kind], enrolled[kind]) for kind in sorted(total)]
    lines.append(("all", total.total(), detected.total(), enrolled.total()))
    typer.echo(table(("kind", "pictures", "with a detected face", "enrolled"), lines))
    typer.echo("\n".join(names))


if __name__ == "__main__":
    typer.run(main)
