"""`python -m trainer detector …`"""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, help="Train, evaluate and export the face detector.")

Data = Annotated[list[Path], typer.Option(help="Folder or zip archive in Ultralytics pose format; repeatable.")]
Work = Annotated[Path, typer.Option(help="Where archives are unpacked.")]


@app.command()
def train(
    data: Data,
    config: Annotated[Path, typer.Option(help="YAML with the run's settings.")] = Path("configs/detector.yaml"),
    initial: Annotated[Path | None, typer.Option(help="Checkpoint that initialises the model.")] = None,
    output: Annotated[Path, typer.Option(help="Run folder: checkpoints, curves, logs.")] = Path("runs/detector"),
    work: Work = Path("runs/data/detection"),
    resume: Annotated[bool, typer.Option(help="Go on from the run folder's last checkpoint.")] = False,
) -> None:
    """Fine-tune a YOLO pose model on faces with five landmarks."""
    from trainer.archives import unpack
    from trainer.detector import training
    from trainer.detector.config import DetectorConfig

    best = training.train(DetectorConfig.load(config), unpack(data, work), initial, output, resume)
    typer.echo(f"best checkpoint: {best}")


@app.command()
def evaluate(
    data: Data,
    bundle: Annotated[Path, typer.Option(help="Detector bundle.")] = Path("service/bundles/detector"),
    split: Annotated[list[str] | None, typer.Option(help="Splits to report on; repeatable.")] = None,
    image_size: Annotated[int | None, typer.Option(help="Input size; unset: chosen for each picture.")] = None,
    yunet: Annotated[Path | None, typer.Option(help="YuNet's ONNX file, measured beside it.")] = None,
    output: Annotated[Path, typer.Option(help="Where the curves go.")] = Path("runs/evaluation/detector"),
    work: Work = Path("runs/data/detection"),
) -> None:
    """Average precision and recall on human boxes, of the bundle as the service runs it."""
    from service.inference.detector import YoloFaceDetector
    from service.inference.graph import RuntimeOptions
    from trainer.archives import unpack
    from trainer.detector import evaluation

    folder = unpack(data, work)
    finders: dict[str, evaluation.FaceFinder] = {
        bundle.name: YoloFaceDetector(bundle, RuntimeOptions(), image_size, min_score=0.02)
    }
    if yunet is not None:
        finders["YuNet"] = evaluation.YuNet(yunet)
    output.mkdir(parents=True, exist_ok=True)
    for name in split or ["val"]:
        figures = {label: evaluation.evaluate(finder, folder, name) for label, finder in finders.items()}
        evaluation.plot(figures, output / f"{name}.png")
        for label, found in figures.items():
            typer.echo(
                f"{name}: {label}: {found.faces} faces, AP50 {found.ap50:.3f}, "
                f"recall {found.recall_at_precision_90:.3f} at precision 0.90"
            )


@app.command()
def export(
    checkpoint: Annotated[Path, typer.Option(help="Ultralytics checkpoint of a pose model with five landmarks.")],
    output: Annotated[Path, typer.Option(help="Bundle to write.")] = Path("service/bundles/detector"),
    model_id: Annotated[str, typer.Option(help="Name of this model, for good.")] = "yolo11n-face",
    config: Annotated[Path, typer.Option(help="YAML that trained it.")] = Path("configs/detector.yaml"),
    min_score: Annotated[float, typer.Option(help="Score from which on a detection counts; choose it on val.")] = 0.35,
    provenance: Annotated[Path, typer.Option(help="YAML: data, terms, initialised_from.")] = Path(
        "configs/provenance-detector.yaml"
    ),
) -> None:
    """Pack a checkpoint into a bundle that the service runs."""
    import yaml

    from trainer.detector import export as exporting

    manifest = exporting.export(checkpoint, output, model_id, config, min_score, yaml.safe_load(provenance.read_text()))
    typer.echo(f"{output}: {manifest.model_id}, {(output / manifest.graph).stat().st_size / 1e6:.1f} MB")
