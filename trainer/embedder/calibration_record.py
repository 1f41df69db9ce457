"""Writes a calibration into a bundle, or into a copy of it."""

import shutil
from pathlib import Path

from service.inference.bundle import file_sha256, read_embedder, write_manifest
from service.inference.calibration import Calibration
from trainer.configuration import ConfigError
from trainer.embedder.calibration import Sample, reference_lengths
from trainer.embedder.plots import det_curve

PLOT = "det.svg"


def require_not_shorter(bundle: Path, table: Calibration) -> None:
    """Checks that the new table covers false match rates at least as low as those of the bundle's table.

    Raises:
        ConfigError: The bundle's table covers lower rates.
    """
    present = read_embedder(bundle).calibration_for(table.precision)
    if present is None or present.precision != table.precision or table.points[-1].fmr <= present.points[-1].fmr:
        return
    raise ConfigError(
        f"the new table ends at a false match rate of {table.points[-1].fmr:g} ({table.people} people), the one in "
        f"{bundle} at {present.points[-1].fmr:g} ({present.people} people); write it into a copy with --output, or "
        "overwrite it with --replace"
    )


def record(bundle: Path, output: Path, table: Calibration, sample: Sample) -> None:
    """Writes table, DET plot and embedding lengths into `output`, which becomes a copy of the bundle if it differs.

    A table without genuine pairs has no plot. A table in another number format than the bundle's is added to it without
    a plot, which would look the same, and the embedding lengths stay those of the first.
    """
    copy_bundle(bundle, output)
    manifest = read_embedder(output)
    if manifest.calibration is not None and manifest.calibration.precision != table.precision:
        others = [item for item in manifest.further_calibrations if item.precision != table.precision]
        write_manifest(output, manifest.model_copy(update={"further_calibrations": [*others, table]}))
        return
    files = {name: digest for name, digest in manifest.files.items() if name != PLOT}
    if table.genuine_pairs:
        det_curve(sample, table, output / PLOT)
        files[PLOT] = file_sha256(output / PLOT)
    changes = {
        "calibration": table.model_copy(update={"picture": PLOT if table.genuine_pairs else None}),
        "reference_lengths": reference_lengths(sample),
        "files": files,
    }
    write_manifest(output, manifest.model_copy(update=changes))


def copy_bundle(bundle: Path, output: Path) -> None:
    """Makes `output` a copy of the bundle, unless it is the bundle."""
    if output.resolve() != bundle.resolve():
        shutil.copytree(bundle, output, dirs_exist_ok=True)


def describe_range(table: Calibration, templates: int = 10) -> str:
    """Returns a sentence about the lowest false match rates that requests can name."""
    lowest = table.points[-1].fmr
    return (
        f"The lowest false match rate that a request can name is {lowest:g} against an identity with one template "
        f"and {lowest * templates:g} against one with {templates}. More people in the calibration lower it."
    )
