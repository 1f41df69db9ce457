"""`identity-trainer classifier …` and `identity-trainer predict`"""

import re
from pathlib import Path
from typing import Annotated

import typer

from trainer.choices import DeviceName
from trainer.options import (
    BUNDLE,
    CONFIGS,
    DETECTOR_BUNDLE,
    WORK,
    Bundle,
    DetectorBundle,
    Device,
    Identities,
    Provenance,
    Work,
)

app = typer.Typer(
    no_args_is_help=True, help="Train and measure a classifier of a closed set of people on an embedder's embeddings."
)

Config = Annotated[Path, typer.Option(help="YAML file with the settings.")]
Classifier = Annotated[Path, typer.Option(help="Classifier folder that `classifier fit` wrote.")]
CONFIG, OUTPUT = CONFIGS / "classifier.yaml", Path("runs/classifier")


@app.command()
def fit(
    identities: Identities,
    bundle: Bundle = BUNDLE,
    config: Config = CONFIG,
    name: Annotated[str, typer.Option(help="Name of the classifier; responses carry it.")] = "people-1",
    output: Annotated[Path, typer.Option(help="Folder for classifier and report.")] = OUTPUT,
    work: Work = WORK,
) -> None:
    """Fit a classifier of these people, and measure it on held-out pictures of them.

    The service serves it at `POST /predict` if REGISTRY_CLASSIFIER__BUNDLE names the folder.
    """
    from service.inference.bundle import embedding_fingerprint
    from service.inference.classifier import NAME, write_classifier
    from service.inference.classifier import Classifier as Fitted
    from service.inference.embedder import FaceEmbedder
    from service.inference.graph import RuntimeOptions
    from trainer.archives import unpack
    from trainer.classifier import fitting
    from trainer.classifier.config import ClassifierConfig
    from trainer.classifier.report import Measurement, write_report
    from trainer.configuration import ConfigError
    from trainer.embedder.aligned_crops import load_aligned_crops
    from trainer.embedder.embedding import embed_crops

    if re.match(NAME, name) is None:
        raise ConfigError(f"--name {name!r}: use 3 to 64 lower-case letters, digits, dots and dashes")
    settings = ClassifierConfig.load(config)
    crops = load_aligned_crops(unpack(identities, work / "identities"), None, work / "cache")
    division = fitting.divide(crops, settings)
    embedder = FaceEmbedder(bundle, RuntimeOptions())
    weights, bias = fitting.fit(embedder, crops, division, settings)
    fingerprint, model_id = embedding_fingerprint(embedder.manifest), embedder.manifest.model_id
    write_classifier(output, name, model_id, fingerprint, division.labels, weights, bias, {})
    probabilities = Fitted(output).probabilities(embed_crops(embedder, crops, division.measure)[0])
    measured = Measurement(probabilities, division.numbers[division.measure], division.labels)
    figures = {"accuracy": measured.accuracy, f"top_{settings.top_k}": measured.top(settings.top_k)}
    write_classifier(output, name, model_id, fingerprint, division.labels, weights, bias, figures)
    typer.echo(f"{write_report(measured, settings.top_k, output, 'held-out pictures')}: {output / 'report.md'}")


@app.command()
def train(
    identities: Identities,
    config: Annotated[Path, typer.Option(help="YAML file with the settings of the run.")] = CONFIGS / "closed-set.yaml",
    initial: Annotated[
        Path | None,
        typer.Option(help="Initial weights. Unset: the shipped embedder's for backbone mobilefacenet, else random."),
    ] = None,
    name: Annotated[str, typer.Option(help="Name of classifier and embedder; responses carry it.")] = "people-1",
    provenance: Provenance = None,
    output: Annotated[Path, typer.Option(help="Run folder; the same command resumes the run.")] = Path(
        "runs/closed-set"
    ),
    device: Device = DeviceName.AUTO,
    work: Work = WORK,
) -> None:
    """Train a network that classifies these people, on a part of each person's pictures; measure the other part.

    The log and the report show loss and accuracy of the held-out pictures by epoch; the epoch with the best accuracy
    is kept. The command writes an embedder bundle and a classifier that the service serves together.
    """
    from trainer.archives import unpack
    from trainer.classifier import closed_set
    from trainer.classifier.report import write_training_report
    from trainer.embedder.aligned_crops import load_aligned_crops
    from trainer.embedder.config import EmbedderConfig
    from trainer.provenance import complete, load_stated, origins_of

    settings = EmbedderConfig.load(config)
    closed_set.require_closed_set(settings)
    if initial is None and settings.backbone == "mobilefacenet":
        initial = BUNDLE / "model.onnx"
    crops = load_aligned_crops(unpack(identities, work / "identities"), None, work / "cache")
    stated = None if provenance is None else load_stated(provenance)
    terms = complete(stated, origins_of(initial, published=settings.published_weights))
    trained = closed_set.train(settings, crops, name, terms, output, work / "cache", initial, device)
    typer.echo(write_training_report(trained.classifier, trained.centroids, output / "run", output / "report"))
    if trained.centroids.accuracy > trained.classifier.accuracy:
        typer.echo(
            "The nearest centroid is better: use a search instead, or `classifier fit`, or train with more pictures."
        )
    bundle, fitted = output / "bundle", output / "classifier"
    typer.echo(f"report: {output / 'report' / 'report.html'}")
    typer.echo(f"Try it:\n  identity-trainer predict PHOTO --classifier {fitted} --bundle {bundle}")
    typer.echo(
        f"Serve it:\n  REGISTRY_EMBEDDER__BUNDLE={bundle} REGISTRY_CLASSIFIER__BUNDLE={fitted} identity-registry serve"
    )


@app.command()
def evaluate(
    identities: Identities,
    classifier: Classifier = OUTPUT,
    bundle: Bundle = BUNDLE,
    top_k: Annotated[int, typer.Option(min=1, help="k of the top-k rate.")] = 5,
    output: Annotated[Path, typer.Option(help="Folder for the report.")] = Path("runs/evaluation/classifier"),
    work: Work = Path("runs/data/classifier"),
) -> None:
    """Measure a classifier on other pictures of its people; pictures of other people are ignored."""
    import numpy as np

    from service.inference.embedder import FaceEmbedder
    from service.inference.graph import RuntimeOptions
    from trainer.archives import unpack
    from trainer.classifier.report import Measurement, write_report
    from trainer.classifier.serving import open_classifier
    from trainer.configuration import ConfigError
    from trainer.embedder.aligned_crops import load_aligned_crops
    from trainer.embedder.embedding import embed_crops

    embedder = FaceEmbedder(bundle, RuntimeOptions())
    opened = open_classifier(classifier, embedder.manifest)
    labels = opened.manifest.labels
    crops = load_aligned_crops(unpack(identities, work / "identities"), None, work / "cache")
    numbers = {label: number for number, label in enumerate(labels)}
    rows = [row for row, name in enumerate(crops.identities) if name in numbers]
    if not rows:
        raise ConfigError(
            f"none of these identities is in the classifier; its identities are {', '.join(labels[:10])} …"
        )
    probabilities = opened.probabilities(embed_crops(embedder, crops, rows)[0])
    true_numbers = np.array([numbers[crops.identities[row]] for row in rows])
    typer.echo(write_report(Measurement(probabilities, true_numbers, labels), top_k, output))


def predict(
    photo: Annotated[list[Path], typer.Argument(help="Photos.")],
    classifier: Classifier = OUTPUT,
    bundle: Bundle = BUNDLE,
    detector: DetectorBundle = DETECTOR_BUNDLE,
    top_k: Annotated[int, typer.Option(min=1, help="Number of predicted people per face.")] = 3,
) -> None:
    """Print the most probable people of a classifier for each face of a photo, as the service's /predict does."""
    from rich.console import Console
    from rich.table import Table

    from trainer.classifier.serving import Predictor
    from trainer.configuration import ConfigError

    predictor = Predictor(classifier, bundle, detector)
    table = Table("photo", "face", *(f"{place}." for place in range(1, top_k + 1)))
    problems = []
    for path in photo:
        try:
            found = predictor.predict(path.read_bytes(), top_k)
        except (ConfigError, OSError) as error:
            problems.append(f"{path}: {error}")
            continue
        for number, people in enumerate(found, 1):
            table.add_row(path.name, str(number), *(f"{label} {probability:.3f}" for label, probability in people))
    Console().print(table)
    if problems:
        raise ConfigError("\n".join(problems))
