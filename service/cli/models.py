"""`models`: imports public models as bundles."""

import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from service.errors import StartupError
from service.inference.provenance import StatedTerms, Use

app = typer.Typer(no_args_is_help=True, help="Import public face models as bundles, and show the terms of bundles.")
SCALINGS = {
    "127.5/127.5": "ArcFace models of InsightFace's packs",
    "127.5/128": "MobileFaceNet and FaceNet",
    "0/255": "values from 0 to 1",
    "0/1": "unscaled values from 0 to 255",
}
CHECKPOINTS = (".pt", ".pth")
UNKNOWN_TERMS = "those of the file's publisher; the import does not check them"


@app.command()
def show(
    bundles: Annotated[
        list[Path] | None, typer.Argument(help="Bundle folders.", show_default="the shipped bundles")
    ] = None,
) -> None:
    """Show what models were made of, and what the terms of these origins permit.

    The use is `research` (no commercial use), `unknown`, `copyleft` (any use, with published source code) or `any`.
    These are statements of publishers, as the manifests contain them, and no legal advice.
    """
    from service.inference.bundle import read_manifest
    from service.runtime.settings import BUNDLES

    for folder in bundles or sorted(path.parent for path in BUNDLES.glob("*/manifest.json")):
        manifest = read_manifest(folder)
        provenance = manifest.provenance
        typer.secho(f"{manifest.model_id} ({manifest.kind}, {folder}): {provenance.use}", bold=True)
        typer.echo(f"  {provenance.terms}")
        for origin in provenance.origins:
            typer.echo(f"  - {origin}: {origin.use}")


@app.command("import")
def import_command(
    paths: Annotated[
        list[Path],
        typer.Argument(
            help="ONNX files of a detector (YuNet, SCRFD), an embedder, or both; a folder or zip archive. Checkpoints "
            "(*.pt, *.pth) of FaceNet and Ultralytics, where the trainer is installed."
        ),
    ],
    model_id: Annotated[str, typer.Option(help="Permanent name of the embedder; stored embeddings carry it.")],
    output: Annotated[Path, typer.Option(help="Folder for the bundles `detector` and `embedder`.")] = Path(
        "imported-models"
    ),
    scaling: Annotated[
        str | None,
        typer.Option(
            help="Mean and deviation of the embedder's input, unless the graph scales it itself. "
            + "; ".join(f"{value}: {use}" for value, use in SCALINGS.items())
        ),
    ] = None,
    bgr: Annotated[bool, typer.Option("--bgr", help="The embedder expects blue, green, red.")] = False,
    mirror_average: Annotated[
        bool, typer.Option("--mirror-average", help="Average the embeddings of a face and its mirror image.")
    ] = False,
    data: Annotated[str, typer.Option(help="Training data of the weights, for the manifest.")] = "unknown",
    terms: Annotated[str, typer.Option(help="Terms of the weights, for the manifest.")] = UNKNOWN_TERMS,
    use: Annotated[
        Use,
        typer.Option(
            help="What these terms permit; models trained from the weights inherit it. copyleft: any use, with "
            "published source code."
        ),
    ] = Use.UNKNOWN,
) -> None:
    """Make bundles of public models: YuNet, SCRFD, SFace, ArcFace, MobileFaceNet, InsightFace's packs, FaceNet, YOLO.

    The structure of a file tells its kind; its name does not matter. The embedder has no calibration afterwards:
    measure one with `identity-trainer calibrate --everybody` on aligned faces of people who did not train it.
    """
    stated = StatedTerms(data, terms, use)
    checkpoints = [path for path in paths if path.suffix in CHECKPOINTS]
    for checkpoint in checkpoints:
        _import_checkpoint(checkpoint, model_id, output, stated)
    if not (paths := [path for path in paths if path not in checkpoints]):
        return
    try:
        from service.importing.importer import ImportOptions, import_models
    except ImportError as error:
        raise StartupError(
            f"the packages that rewrite models are not installed ({error}); run `pip install '.[models]'` in the "
            "repository"
        ) from None
    chosen = None if scaling is None else _parsed(scaling)
    options = ImportOptions(model_id, stated, chosen, _ask, bgr, mirror_average)
    imported = import_models(paths, output, options)
    for name in imported.others:
        typer.echo(f"not imported: {name} is neither a face detector nor an embedder")
    for name, folder in imported.bundles.items():
        typer.echo(f"{name}: {folder}")
    if (embedder := imported.bundles.get("embedder")) is not None:
        typer.echo(f"calibrate: identity-trainer calibrate --identities … --everybody --bundle {embedder}")
    variables = " ".join(f"REGISTRY_{name.upper()}__BUNDLE={folder}" for name, folder in imported.bundles.items())
    typer.echo(f"serve: {variables} identity-registry serve")


def _import_checkpoint(checkpoint: Path, model_id: str, output: Path, stated: StatedTerms) -> None:
    """Runs the trainer's command, since reading a checkpoint needs PyTorch, which the service's environment lacks."""
    if importlib.util.find_spec("trainer") is None or importlib.util.find_spec("torch") is None:
        raise StartupError(
            f"{checkpoint} is a checkpoint of PyTorch, and the trainer is not installed: import it where `make setup` "
            "has been run"
        )
    options = {"--model-id": model_id, "--output": str(output)}
    options |= {"--data": stated.data, "--terms": stated.terms, "--use": stated.use}
    arguments = [word for option in options.items() for word in option]
    command = [sys.executable, "-m", "trainer", "import-checkpoint", str(checkpoint), *arguments]
    if status := subprocess.run(command, check=False).returncode:
        sys.exit(status)


def _ask(name: str) -> tuple[float, float]:
    uses = "; ".join(f"{value}: {use}" for value, use in SCALINGS.items())
    question = f"{name} does not scale pixel values itself, and its structure does not tell the scaling"
    if not sys.stdin.isatty():
        raise StartupError(f"{question}; name it with --scaling MEAN/DEVIATION ({uses})")
    return _parsed(typer.prompt(f"{question}. MEAN/DEVIATION ({uses})"))


def _parsed(text: str) -> tuple[float, float]:
    try:
        mean, deviation = (float(part) for part in text.split("/"))
    except ValueError:
        raise StartupError(f"--scaling {text!r}: write two numbers, such as 127.5/128") from None
    if deviation <= 0:
        raise StartupError(f"--scaling {text!r}: the deviation must be positive")
    return mean, deviation
