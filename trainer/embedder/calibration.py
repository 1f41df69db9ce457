"""The table from false match rates to thresholds, measured on people that the model never saw."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from service.inference.bundle import Calibration, CalibrationPoint, IdentificationPoint, Precision
from service.inference.embedder import FaceEmbedder
from service.inference.rates import rate_of_one
from trainer.configuration import ConfigError
from trainer.embedder.bootstrap import count_pairs, rate_intervals
from trainer.embedder.canvases import NAMELESS, CanvasSet
from trainer.embedder.config import SplitConfig
from trainer.embedder.embedding import embed_canvases
from trainer.embedder.identification import People, largest_gallery, search_galleries
from trainer.embedder.scores import PairScores, all_pairs
from trainer.embedder.split import Part, part_of

Floats = npt.NDArray[np.float32]
RATES = (0.3, 0.1, 0.03, 0.01, 0.003, 0.001, 3e-4, 1e-4, 3e-5, 1e-5, 3e-6, 1e-6)
FEWEST_ABOVE = 10
"""Impostor pairs that must lie above a threshold for its rate to be called measured."""
MAX_PER_IDENTITY = 20
"""Pictures of one person that take part, so that few people with many pictures do not make the table."""
MOST_PICTURES = 8_000
"""Of more, some are drawn: 32 million pairs go far enough, and person-by-person tables cost memory."""
FEWEST_PEOPLE = 10
GALLERY_SIZES = (100, 1_000, 10_000)
FPIRS = (0.1, 0.01)


@dataclass(frozen=True)
class Sample:
    """Held-out pictures with the names of their people, embedded."""

    embeddings: Floats
    lengths: Floats
    names: list[str]


def held_out_sample(embedder: FaceEmbedder, canvases: CanvasSet, split: SplitConfig, part: Part) -> Sample:
    """Embed the pictures of the people that the split keeps for one part.

    Raises:
        ConfigError: it keeps nobody.
    """
    rows = held_out_rows(canvases, split, part)
    if not rows:
        raise ConfigError(f"the split keeps nobody for {part}: raise its fraction, or add people")
    embeddings, lengths = embed_canvases(embedder, canvases, rows)
    return Sample(embeddings, lengths, [canvases.identities[row] for row in rows])


def held_out_rows(canvases: CanvasSet, split: SplitConfig, part: Part) -> list[int]:
    """Pictures of the people of one part, at most twenty of each."""
    rows, counts = [], dict[str, int]()
    for row, name in enumerate(canvases.identities):
        if name == NAMELESS or part_of(name, split) is not part:
            continue
        counts[name] = counts.get(name, 0) + 1
        if counts[name] <= MAX_PER_IDENTITY:
            rows.append(row)
    if len(rows) > MOST_PICTURES:
        rows = sorted(np.random.default_rng(0).permutation(rows)[:MOST_PICTURES].tolist())
    return rows


def calibrate(sample: Sample, distractors: Floats, precision: Precision, data: str) -> Calibration:
    """Measure the thresholds on all pairs of a sample, and what searches do at them.

    Args:
        sample: people that neither trained nor chose the model.
        distractors: embeddings of others, who only fill up the largest galleries.
    """
    pairs = all_pairs(sample.embeddings, sample.names)
    people = len(set(sample.names))
    if people < FEWEST_PEOPLE or len(pairs.impostor) * RATES[1] < FEWEST_ABOVE or not len(pairs.genuine):
        raise ConfigError(
            f"{people} held-out people with {len(sample.names)} pictures can't calibrate a model: at least "
            f"{FEWEST_PEOPLE} people are needed, some with several pictures. Add people, raise split.calibration, or "
            "take --everybody where none of them trained the model"
        )
    table = Calibration(
        precision=precision,
        impostor_pairs=len(pairs.impostor),
        genuine_pairs=len(pairs.genuine),
        people=people,
        data=data,
        points=_points(pairs, sample),
    )
    searched = measured_searches(table, People(sample.embeddings, sample.names, distractors), GALLERY_SIZES)
    return table.model_copy(update={"identification": searched})


def reference_lengths(sample: Sample) -> list[float]:
    """Percentiles 0 to 100 of the embeddings' lengths."""
    return [float(f"{value:.6g}") for value in np.percentile(sample.lengths, np.arange(101))]


def _points(pairs: PairScores, sample: Sample) -> list[CalibrationPoint]:
    rates = [rate for rate in RATES if rate * len(pairs.impostor) >= FEWEST_ABOVE]
    thresholds = np.array([pairs.threshold_at(rate) for rate in rates])
    fmr, fnmr = rate_intervals(count_pairs(sample.embeddings, sample.names, thresholds))
    return [
        CalibrationPoint(
            fmr=rate,
            threshold=round(float(threshold), 5),
            fnmr=round(1 - pairs.true_accept_rate(threshold), 5),
            fmr_interval=match,
            fnmr_interval=non_match,
        )
        for rate, threshold, match, non_match in zip(rates, thresholds, fmr, fnmr, strict=True)
    ]


def measured_searches(calibration: Calibration, people: People, sizes: Iterable[int]) -> list[IdentificationPoint]:
    """What searches do at the thresholds that the service takes for an asked FPIR, in galleries that can be drawn."""
    found = []
    for size in sorted(size for size in set(sizes) if 2 <= size <= largest_gallery(people)):
        searches = search_galleries(people, size)
        for asked in FPIRS:
            fmr = rate_of_one(asked, size)
            if fmr < calibration.points[-1].fmr:
                continue
            threshold = calibration.threshold_for(fmr)
            errors = searches.errors_at(threshold)
            found.append(
                IdentificationPoint(
                    gallery_size=size,
                    asked_fpir=asked,
                    threshold=round(threshold, 5),
                    fpir=round(errors.fpir, 5),
                    fpir_interval=errors.fpir_interval,
                    fnir=round(errors.fnir, 5),
                )
            )
    return found
