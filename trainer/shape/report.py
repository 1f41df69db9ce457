"""Reports the autoencoder's errors, and verification by yaw, as Markdown with a plot."""

from pathlib import Path

from trainer.plot_style import new_figure, save_figure
from trainer.shape.autoencoder import ShapeErrors
from trainer.shape.verification import AlignmentRates
from trainer.tables import table


def errors_table(errors: ShapeErrors) -> str:
    """Formats the error of each estimate of the canonical landmarks."""
    words = (
        f"{errors.faces:,} faces of {errors.people} held-out people; mean distance of landmarks in distances between "
        "the eyes."
    )
    rows = (
        ("unchanged landmarks", f"{errors.unchanged:.4f}"),
        ("moved to the front as the average head", f"{errors.moved_to_front:.4f}"),
        ("mean face of the training part", f"{errors.mean_face:.4f}"),
        ("autoencoder", f"{errors.restored:.4f}"),
    )
    return f"{words}\n\n{table(('estimate of the canonical landmarks', 'error'), rows)}"


def write_report(rates: AlignmentRates, folder: Path) -> str:
    """Writes `report.md` and `yaw.png`, and returns the table."""
    folder.mkdir(parents=True, exist_ok=True)
    bins = list(zip(rates.unchanged, rates.realigned, rates.canonical, strict=True))
    names = [f"{first.low:.0f} to {first.high:.0f}" for first, _, _ in bins]
    rows = [
        (name, f"{ways[0].genuine:,}", *(f"{way.tar:.4f}" for way in ways))
        for name, ways in zip(names, bins, strict=True)
    ]
    head = (
        "larger yaw of the pair, degrees",
        "genuine pairs",
        "TAR, crops as they are",
        "TAR, aligned again",
        "TAR, canonical alignment",
    )
    text = table(head, rows)
    figure, axes = new_figure()
    axes.plot(names, [rate.tar for rate in rates.unchanged], "o:", label="crops as they are")
    axes.plot(names, [rate.tar for rate in rates.realigned], "o-", label="aligned again by the service's landmarks")
    axes.plot(names, [rate.tar for rate in rates.canonical], "o--", label="aligned by canonical landmarks")
    axes.set(xlabel="larger yaw of the pair, degrees", ylabel="true accept rate", ylim=(0, 1))
    axes.legend()
    save_figure(figure, folder / "yaw.png")
    words = "All pairs are compared at one threshold, which has FMR 1e-3 over all pairs."
    (folder / "report.md").write_text(f"# Verification by yaw\n\n{words}\n\n{text}\n\n![by yaw](yaw.png)\n")
    return text
