"""The commands `identity-trainer detector prepare`, `complete` and `compose`."""

from pathlib import Path
from typing import Annotated

import typer

from trainer.detector.commands.options import WORK, Checkpoint, Data, Yunet, labelling_detector
from trainer.options import DETECTOR_BUNDLE, DetectorBundle, Unpacked


def prepare(
    pictures: Annotated[Path, typer.Option(help="Folder of pictures, searched recursively.")],
    output: Annotated[
        Path, typer.Option(help="Folder of the data set: images, labels, dataset.yaml, prepared.csv, samples.jpg.")
    ],
    boxes: Annotated[
        Path | None,
        typer.Option(help="Folder of boxes drawn by people: <picture's path without suffix>.txt in YOLO format."),
    ] = None,
    bundle: DetectorBundle = DETECTOR_BUNDLE,
    yunet: Yunet = None,
    checkpoint: Checkpoint = None,
    min_score: Annotated[float, typer.Option(min=0, max=1, help="Minimum score of a detected face.")] = 0.6,
    validation_share: Annotated[
        float, typer.Option(min=0, max=1, help="Share of pictures in the split `val`, which selects checkpoints.")
    ] = 0.1,
) -> None:
    """Label a folder of pictures with a detector, keep the boxes that people drew, and split the set.

    --bundle labels the pictures unless --yunet or --checkpoint is set. Labels of a detector contain errors: check
    samples.jpg before you train on them. prepared.csv has one row per picture, with the reason if it was left out.
    """
    from trainer.detector import preparation

    detector = labelling_detector(bundle, yunet, checkpoint)
    rows = preparation.prepare(pictures, boxes, detector, output, min_score, validation_share)
    used = [row for row in rows if row.split]
    for row in rows:
        if row.problem:
            typer.echo(f"left out {row.picture}: {row.problem}", err=True)
    typer.echo(
        f"{len(used)} pictures ({sum(row.split == 'val' for row in used)} in val), "
        f"{sum(row.human_boxes for row in used)} faces labelled by people, "
        f"{sum(row.machine_boxes for row in used)} by the detector, "
        f"{sum(row.with_landmarks for row in used)} with landmarks, {len(rows) - len(used)} pictures left out. "
        f"Check {output / 'samples.jpg'}; {output / 'prepared.csv'} lists all pictures."
    )


def complete(
    data: Data,
    yunet: Annotated[Path, typer.Option(help="ONNX file of YuNet, the second detector; its landmarks are used.")],
    output: Annotated[Path, typer.Option(help="Folder for the split; name it as the last --data when you train.")],
    split: Annotated[str, typer.Option(help="Split to complete; not one that you report on.")] = "train",
    bundle: DetectorBundle = DETECTOR_BUNDLE,
    min_score: Annotated[float, typer.Option(min=0, max=1, help="Minimum score of the bundle's detection.")] = 0.2,
    yunet_min_score: Annotated[float, typer.Option(min=0, max=1, help="Minimum score of YuNet's detection.")] = 0.5,
    work: Unpacked = WORK,
) -> None:
    """Add labels for faces that a data set lacks: those that the bundle and YuNet both detect.

    Check added.jpg before you train on the result.
    """
    from service.inference.detector import YoloFaceDetector
    from service.inference.graph import RuntimeOptions
    from trainer.archives import unpack
    from trainer.detector import label_completion
    from trainer.finders import YuNet

    bundled = YoloFaceDetector(bundle, RuntimeOptions(precision="auto"), min_score=min_score)
    detectors = label_completion.DetectorPair(bundled, min_score, YuNet(yunet, yunet_min_score), yunet_min_score)
    added = label_completion.complete(unpack(data, work), split, detectors, output)
    typer.echo(f"{output}: {added} faces added. Check {output / 'added.jpg'} before you train on them.")


def compose(
    crops: Annotated[
        list[Path],
        typer.Option(
            help="Folder or zip archive of pictures that show one face each, such as aligned crops; repeatable."
        ),
    ],
    output: Annotated[Path, typer.Option(help="Folder of the data set; name it as a further --data when you train.")],
    scenes: Annotated[
        Path | None, typer.Option(help="Folder of pictures whose parts without a face fill some of the tiles.")
    ] = None,
    count: Annotated[int, typer.Option(min=1, help="Number of composed pictures.")] = 400,
    at_most: Annotated[int, typer.Option(min=1, help="Number of pictures drawn at random from each folder.")] = 20_000,
    bundle: DetectorBundle = DETECTOR_BUNDLE,
    yunet: Yunet = None,
    checkpoint: Checkpoint = None,
    tiles: Annotated[
        list[int] | None,
        typer.Option(min=1, help="Tiles along a side of a composite, one drawn for each; repeatable. Default: 3 to 6."),
    ] = None,
    min_asymmetry: Annotated[
        float, typer.Option(min=0, max=1, help="Minimum asymmetry of the faces; 0.6 selects profiles.")
    ] = 0,
    seed: Annotated[int, typer.Option(help="Seed of the random composition.")] = 0,
    work: Unpacked = Path("runs/data/crops"),
) -> None:
    """Compose training pictures of many faces, rotated by any angle and partly occluded, with known landmarks."""
    from trainer.archives import unpack
    from trainer.detector import composites

    config = composites.CompositeConfig(seed=seed, min_asymmetry=min_asymmetry)
    if tiles:
        config = config.model_copy(update={"tiles": tuple(tiles)})
    detector = labelling_detector(bundle, yunet, checkpoint)
    faces = composites.compose(unpack(crops, work), scenes, detector, output, count, at_most, config)
    typer.echo(f"{output}: {count} pictures with {faces} faces")
