"""A calibration becomes a part of a bundle: of the one that was measured, or of a copy of it."""

import shutil
from pathlib import Path

from service.inference.bundle import Calibration, file_sha256, read_embedder, write_manifest
from trainer.configuration import ConfigError
from trainer.embedder.calibration import Sample, reference_lengths
from trainer.embedder.plots import det_curve

PICTURE = "det.svg"


def require_no_less(bundle: Path, table: Calibration) -> None:
    """Raises ConfigError: the bundle has a table that reaches further than the new one."""
    present = read_embedder(bundle).calibration
    if present is None or table.points[-1].fmr <= present.points[-1].fmr:
        return
    raise ConfigError(
        f"the new table ends at a false match rate of {table.points[-1].fmr:g} ({table.people} people), and the one in "
        f"{bundle} at {present.points[-1].fmr:g} ({present.people} people): name --output for a bundle of its own, or "
        "--replace"
    )


def record(bundle: Path, output: Path, table: Calibration, sample: Sample) -> None:
    """Write the table, its picture and the lengths of embeddings into `output`, which becomes a copy of the bundle."""
    if output.resolve() != bundle.resolve():
        shutil.copytree(bundle, output, dirs_exist_ok=True)
    manifest = read_embedder(output)
    det_curve(sample, table, output / PICTURE)
    changes = {
        "calibration": table.model_copy(update={"picture": PICTURE}),
        "reference_lengths": reference_lengths(sample),
        "files": manifest.files | {PICTURE: file_sha256(output / PICTURE)},
    }
    write_manifest(output, manifest.model_copy(update=changes))


def reach(table: Calibration, templates: int = 10) -> str:
    """What can be asked for by the table, in words."""
    last = table.points[-1].fmr
    return (
        f"Asked for can be a false match rate from {last:g} on against a person with one template, from "
        f"{last * templates:g} on against one with {templates}; more people reach further."
    )
