"""`python -m trainer train`"""

from pathlib import Path
from typing import Annotated

import typer


def train(
    identities: Annotated[
        list[Path], typer.Option(help="Folder or zip of <identity>/<picture> with 160 px canvases; repeatable.")
    ],
    nameless: Annotated[
        Path | None, typer.Option(help="Folder or zip of canvases of people without names, for distillation.")
    ] = None,
    nameless_folder: Annotated[str, typer.Option(help="Only this folder of --nameless.")] = ".",
    teacher: Annotated[Path | None, typer.Option(help="ONNX embedder to distil from.")] = None,
    config: Annotated[Path, typer.Option(help="YAML with the run's settings.")] = Path("configs/train.yaml"),
    initial: Annotated[Path | None, typer.Option(help="Checkpoint to start the first stage from.")] = None,
    output: Annotated[Path, typer.Option(help="Run folder; the same command resumes it.")] = Path("runs/embedder"),
    work: Annotated[Path, typer.Option(help="Where archives are unpacked and decoded.")] = Path("runs/data"),
) -> None:
    """Train the face embedder stage by stage; batch-hard triplet mining is the last."""
    from trainer.archives import unpack
    from trainer.embedder import training
    from trainer.embedder.canvases import load_canvases
    from trainer.embedder.config import EmbedderConfig

    named = unpack(identities, work / "identities")
    others = unpack([nameless], work / "nameless") / nameless_folder if nameless else None
    canvases = load_canvases(named, others, work / "cache")
    best = training.train(EmbedderConfig.load(config), canvases, teacher, work / "cache", output, initial)
    typer.echo(f"best checkpoint: {best}")


def export(
    checkpoint: Annotated[Path, typer.Option(help="Checkpoint of a training run.")],
    model_id: Annotated[str, typer.Option(help="Name of this model, for good; embeddings carry it.")],
    output: Annotated[Path, typer.Option(help="Bundle to write.")] = Path("service/bundles/embedder"),
    provenance: Annotated[Path, typer.Option(help="YAML: data, terms, initialised_from.")] = Path(
        "configs/provenance-embedder.yaml"
    ),
) -> None:
    """Pack a checkpoint into a bundle that the service runs; both runtimes are checked against the model."""
    import yaml

    from trainer.embedder import export as exporting

    manifest = exporting.export(checkpoint, output, model_id, yaml.safe_load(provenance.read_text()))
    typer.echo(f"{output}: {manifest.model_id}, {(output / manifest.graph).stat().st_size / 1e6:.1f} MB")


def calibrate(
    identities: Annotated[list[Path], typer.Option(help="The same as in training: its held-out people are taken.")],
    nameless: Annotated[Path | None, typer.Option(help="Pictures of people without names that did not train.")] = None,
    nameless_folder: Annotated[str, typer.Option(help="Only this folder of --nameless.")] = ".",
    bundle: Annotated[Path, typer.Option(help="Bundle whose manifest gets the table.")] = Path(
        "service/bundles/embedder"
    ),
    config: Annotated[Path, typer.Option(help="YAML that trained it, for the split of people.")] = Path(
        "configs/train.yaml"
    ),
    precision: Annotated[str, typer.Option(help="f32 or bf16; thresholds of one are not those of the other.")] = "f32",
    work: Annotated[Path, typer.Option(help="Where archives are unpacked and decoded.")] = Path("runs/data"),
) -> None:
    """Measure the threshold of each false match rate on people that the model never saw."""
    from service.inference.bundle import write_manifest
    from service.inference.embedder import FaceEmbedder
    from service.inference.graph import RuntimeOptions
    from trainer.archives import unpack
    from trainer.embedder import calibration
    from trainer.embedder.canvases import load_canvases
    from trainer.embedder.config import EmbedderConfig

    split = EmbedderConfig.load(config).split
    embedder = FaceEmbedder(bundle, RuntimeOptions(precision=precision))  # type: ignore[arg-type]
    named = load_canvases(unpack(identities, work / "identities"), None, work / "cache")
    samples = [calibration.named_sample(named, split)]
    data = f"{len(set(samples[0].identities))} held-out people of the training archives"
    if nameless is not None:
        folder = unpack([nameless], work / "nameless") / nameless_folder
        samples.append(calibration.nameless_sample(load_canvases(folder, None, work / "cache", named=False)))
        data += f"; {len(samples[1].rows)} people of {nameless.stem}/{nameless_folder}"
    table = calibration.calibrate(embedder, samples, precision, data)
    write_manifest(bundle, embedder.manifest.model_copy(update={"calibration": table}))
    typer.echo(f"{table.impostor_pairs:,} impostor and {table.genuine_pairs:,} genuine pairs; {data}")
    for point in table.points:
        typer.echo(f"FMR {point.fmr:8g}  threshold {point.threshold:.4f}  FNMR {point.fnmr:.4f}")


def evaluate(
    pairs: Annotated[Path, typer.Option(help="Folder or zip with pairs.csv and <identity>/<photo>.jpg.")],
    bundle: Annotated[Path, typer.Option(help="Embedder bundle.")] = Path("service/bundles/embedder"),
    detector: Annotated[Path, typer.Option(help="Detector bundle.")] = Path("service/bundles/detector"),
    face: Annotated[str, typer.Option(help="Which face of a photo: strongest or largest.")] = "strongest",
    record: Annotated[bool, typer.Option(help="Write the figures into the embedder's manifest.")] = False,
    output: Annotated[Path, typer.Option(help="Where figures and plots go.")] = Path("runs/evaluation/embedder"),
    work: Annotated[Path, typer.Option(help="Where archives are unpacked.")] = Path("runs/data/pairs"),
) -> None:
    """1:1 accuracy, TAR at FMR and measured FMR on photos, through the engine as the service runs it."""
    import json

    from service.inference.bundle import write_manifest
    from service.inference.detector import YoloFaceDetector
    from service.inference.embedder import FaceEmbedder
    from service.inference.engine import FaceChoice
    from service.inference.graph import RuntimeOptions
    from service.inference.local import LocalEngine
    from service.vision.image import ImageLimits
    from trainer.archives import unpack
    from trainer.embedder import evaluation

    embedder = FaceEmbedder(bundle, RuntimeOptions())
    finder = YoloFaceDetector(detector, RuntimeOptions())
    engine = LocalEngine(finder, embedder, ImageLimits())
    folder = next(path.parent for path in unpack([pairs], work).rglob("pairs.csv"))
    figures = evaluation.evaluate(engine, folder, embedder.manifest.calibration, FaceChoice(face))
    output.mkdir(parents=True, exist_ok=True)
    evaluation.plot(figures, output / "scores.png")
    (output / "figures.json").write_text(json.dumps(figures.summary(), indent=2) + "\n")
    if record:
        write_manifest(bundle, embedder.manifest.model_copy(update={"evaluation": figures.summary()}))
    for name, value in figures.summary().items():
        typer.echo(f"{name:40} {value:g}")


def prepare(
    photos: Annotated[list[Path], typer.Option(help="Folder or zip of <identity>/<photo>; repeatable.")],
    output: Annotated[Path, typer.Option(help="Where the canvases go; give it to `train --identities`.")],
    detector: Annotated[Path, typer.Option(help="Detector bundle.")] = Path("service/bundles/detector"),
    face: Annotated[str, typer.Option(help="Which face of a photo: strongest, largest or only.")] = "strongest",
    work: Annotated[Path, typer.Option(help="Where archives are unpacked.")] = Path("runs/data/photos"),
) -> None:
    """Find and align the faces of your own photos, for `train` to learn from."""
    from service.inference.detector import YoloFaceDetector
    from service.inference.engine import FaceChoice
    from service.inference.graph import RuntimeOptions
    from trainer.archives import unpack
    from trainer.embedder import preparation

    finder = YoloFaceDetector(detector, RuntimeOptions())
    result = preparation.prepare(unpack(photos, work), output, finder, FaceChoice(face))
    typer.echo(
        f"{result.written} canvases in {output}; {len(result.failures)} photos without one: failures.csv says why"
    )
