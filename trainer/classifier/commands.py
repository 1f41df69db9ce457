"""`python -m trainer classifier …` and `python -m trainer predict`"""

import re
from pathlib import Path
from typing import Annotated

import typer

from trainer.options import BUNDLE, DETECTOR_BUNDLE, WORK, Bundle, DetectorBundle, Identities, Work

app = typer.Typer(no_args_is_help=True, help="Tell a closed set of people apart, by an embedder's embeddings.")

Config = Annotated[Path, typer.Option(help="YAML with the settings.")]
Classifier = Annotated[Path, typer.Option(help="What `fit` wrote.")]
CONFIG, OUTPUT = Path("configs/classifier.yaml"), Path("runs/classifier")


@app.command()
def fit(
    identities: Identities,
    bundle: Bundle = BUNDLE,
    config: Config = CONFIG,
    name: Annotated[str, typer.Option(help="Of the classifier; answers carry it.")] = "people-1",
    output: Annotated[Path, typer.Option(help="Where classifier and report go.")] = OUTPUT,
    work: Work = WORK,
) -> None:
    """Fit a classifier of these people and measure it on pictures that were kept back.

    `POST /predict` serves it: REGISTRY_CLASSIFIER__BUNDLE names the folder.
    """
    from service.inference.bundle import embedding_fingerprint
    from service.inference.classifier import NAME, write_classifier
    from service.inference.classifier import Classifier as Fitted
    from service.inference.embedder import FaceEmbedder
    from service.inference.graph import RuntimeOptions
    from trainer.archives import unpack
    from trainer.classifier import fitting
    from trainer.classifier.config import ClassifierConfig
    from trainer.classifier.report import Measured, write_report
    from trainer.configuration import ConfigError
    from trainer.embedder.canvases import load_canvases
    from trainer.embedder.embedding import embed_canvases

    if re.match(NAME, name) is None:
        raise ConfigError(f"--name {name!r}: lower-case letters, digits, dots, dashes, from three to 64 of them")
    settings = ClassifierConfig.load(config)
    canvases = load_canvases(unpack(identities, work / "identities"), None, work / "cache")
    division = fitting.divide(canvases, settings)
    embedder = FaceEmbedder(bundle, RuntimeOptions())
    weights, bias = fitting.fit(embedder, canvases, division, settings)
    fingerprint, model_id = embedding_fingerprint(embedder.manifest), embedder.manifest.model_id
    write_classifier(output, name, model_id, fingerprint, division.labels, weights, bias, {})
    probabilities = Fitted(output).probabilities(embed_canvases(embedder, canvases, division.measure)[0])
    measured = Measured(probabilities, division.numbers[division.measure], division.labels)
    figures = {"accuracy": measured.accuracy, f"top_{settings.top_k}": measured.top(settings.top_k)}
    write_classifier(output, name, model_id, fingerprint, division.labels, weights, bias, figures)
    typer.echo(f"{write_report(measured, settings.top_k, output, ' that were kept back')}: {output / 'report.md'}")


@app.command()
def evaluate(
    identities: Identities,
    classifier: Classifier = OUTPUT,
    bundle: Bundle = BUNDLE,
    top_k: Annotated[int, typer.Option(min=1, help="For the top-k rate.")] = 5,
    output: Annotated[Path, typer.Option(help="Where the report goes.")] = Path("runs/evaluation/classifier"),
    work: Work = Path("runs/data/classifier"),
) -> None:
    """Measure a classifier on other pictures of its people; everybody else's are left out."""
    import numpy as np

    from service.inference.embedder import FaceEmbedder
    from service.inference.graph import RuntimeOptions
    from trainer.archives import unpack
    from trainer.classifier.report import Measured, write_report
    from trainer.classifier.serving import open_classifier
    from trainer.configuration import ConfigError
    from trainer.embedder.canvases import load_canvases
    from trainer.embedder.embedding import embed_canvases

    embedder = FaceEmbedder(bundle, RuntimeOptions())
    known = open_classifier(classifier, embedder.manifest)
    canvases = load_canvases(unpack(identities, work / "identities"), None, work / "cache")
    numbers = {label: number for number, label in enumerate(known.manifest.labels)}
    rows = [row for row, name in enumerate(canvases.identities) if name in numbers]
    if not rows:
        raise ConfigError("none of these people are the classifier's")
    probabilities = known.probabilities(embed_canvases(embedder, canvases, rows)[0])
    theirs = np.array([numbers[canvases.identities[row]] for row in rows])
    typer.echo(write_report(Measured(probabilities, theirs, known.manifest.labels), top_k, output))


def predict(
    photo: Annotated[list[Path], typer.Argument(help="Photos to look at.")],
    classifier: Classifier = OUTPUT,
    bundle: Bundle = BUNDLE,
    detector: DetectorBundle = DETECTOR_BUNDLE,
    top_k: Annotated[int, typer.Option(min=1, help="Guesses for each face.")] = 3,
) -> None:
    """Say who of a classifier's people is on a photo, as the service's /predict does."""
    from rich.console import Console
    from rich.table import Table

    from trainer.classifier.serving import Guesser

    guesser = Guesser(classifier, bundle, detector)
    table = Table("photo", "face", *(f"{place}." for place in range(1, top_k + 1)))
    for path in photo:
        for number, guesses in enumerate(guesser.guesses(path.read_bytes(), top_k), 1):
            table.add_row(path.name, str(number), *(f"{label} {share:.3f}" for label, share in guesses))
    Console().print(table)
