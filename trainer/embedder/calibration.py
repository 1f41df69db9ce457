"""Measures the threshold of each false match rate on people who took no part in the training."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from service.inference.calibration import (
    Calibration,
    CalibrationPoint,
    IdentificationPoint,
    Interval,
    Precision,
    rate_of_one,
)
from service.inference.embedder import FaceEmbedder
from trainer.configuration import ConfigError
from trainer.embedder.aligned_crops import UNLABELLED, AlignedCrops
from trainer.embedder.bootstrap import count_pairs, rate_intervals
from trainer.embedder.embedding import embed_crops
from trainer.embedder.identification import People, largest_gallery, search_galleries
from trainer.embedder.scores import PairScores, all_pairs
from trainer.embedder.split import Part, part_of
from trainer.embedder.split_config import SplitConfig

Floats = npt.NDArray[np.float32]
RATES = (0.3, 0.1, 0.03, 0.01, 0.003, 0.001, 3e-4, 1e-4, 3e-5, 1e-5, 3e-6, 1e-6)
MIN_PAIRS_ABOVE = 10
"""A rate counts as measured if at least this many impostor pairs lie above its threshold."""
MAX_PER_IDENTITY = 20
"""Limits the weight of people with many pictures."""
MAX_PICTURES = 8_000
"""Of more pictures a random subset is measured: 32 million pairs suffice, and tables by person take memory."""
MAX_UNRELATED = 2_000
"""Two million pairs. The tables by person take 200 MB."""
MIN_PEOPLE = 10
GALLERY_SIZES = (100, 1_000, 10_000)
FPIRS = (0.1, 0.01)


@dataclass(frozen=True)
class Sample:
    """Held-out pictures: (N, D) normalised embeddings, (N,) lengths before normalisation, N identities."""

    embeddings: Floats
    lengths: Floats
    names: list[str]


def held_out_sample(embedder: FaceEmbedder, crops: AlignedCrops, split: SplitConfig, part: Part) -> Sample:
    """Embeds the pictures of the people in one part of the split.

    Raises:
        ConfigError: The part is empty.
    """
    rows = rows_of_part(crops, split, part)
    if not rows:
        raise ConfigError(f"the split assigns nobody to {part}; raise split.{part}, or add people")
    embeddings, lengths = embed_crops(embedder, crops, rows)
    return Sample(embeddings, lengths, [crops.identities[row] for row in rows])


def rows_of_part(crops: AlignedCrops, split: SplitConfig, part: Part, maximum: int = MAX_PICTURES) -> list[int]:
    """Returns the rows of the people in one part of the split, at most 20 of each person and `maximum` in all."""
    rows, counts = [], dict[str, int]()
    for row, name in enumerate(crops.identities):
        if name == UNLABELLED or part_of(name, split) is not part:
            continue
        counts[name] = counts.get(name, 0) + 1
        if counts[name] <= MAX_PER_IDENTITY:
            rows.append(row)
    if len(rows) > maximum:
        rows = sorted(np.random.default_rng(0).permutation(rows)[:maximum].tolist())
    return rows


def unrelated_sample(embedder: FaceEmbedder, crops: AlignedCrops) -> Sample:
    """Embeds up to 2,000 pictures, each of another person."""
    rows = sorted(np.random.default_rng(0).permutation(len(crops))[:MAX_UNRELATED].tolist())
    embeddings, lengths = embed_crops(embedder, crops, rows)
    return Sample(embeddings, lengths, [f"picture {row}" for row in rows])


def calibrate(
    sample: Sample, distractors: Floats, precision: Precision, data: str, unrelated: bool = False
) -> Calibration:
    """Measures thresholds on all pairs of a sample, and the errors of searches at these thresholds.

    Args:
        sample: Pictures of people who neither trained nor selected the model.
        distractors: (M, D) embeddings of other people, who only fill up the largest galleries.
        unrelated: Every picture shows another person: only false match rates are measured.

    Raises:
        ConfigError: The sample is too small.
    """
    pairs = all_pairs(sample.embeddings, sample.names)
    people = len(set(sample.names))
    has_genuine = bool(len(pairs.genuine)) or unrelated
    if people < MIN_PEOPLE or len(pairs.impostor) * RATES[1] < MIN_PAIRS_ABOVE or not has_genuine:
        raise ConfigError(
            f"{people} held-out people with {len(sample.names)} pictures are too few for a calibration: at least "
            f"{MIN_PEOPLE} people are needed, some with several pictures. Add people, raise split.calibration, or use "
            "--everybody if none of them is in the training data"
        )
    table = Calibration(
        precision=precision,
        impostor_pairs=len(pairs.impostor),
        genuine_pairs=len(pairs.genuine),
        people=people,
        data=data,
        points=_points(pairs, sample),
    )
    if unrelated:
        return table
    searches = measured_searches(table, People(sample.embeddings, sample.names, distractors), GALLERY_SIZES)
    return table.model_copy(update={"identification": searches})


def reference_lengths(sample: Sample) -> list[float]:
    """Returns the percentiles 0 to 100 of the lengths of embeddings before normalisation."""
    return [float(f"{value:.6g}") for value in np.percentile(sample.lengths, np.arange(101))]


def _points(pairs: PairScores, sample: Sample) -> list[CalibrationPoint]:
    rates = [rate for rate in RATES if rate * len(pairs.impostor) >= MIN_PAIRS_ABOVE]
    thresholds = np.array([pairs.threshold_at(rate) for rate in rates])
    fmr, fnmr = rate_intervals(count_pairs(sample.embeddings, sample.names, thresholds))
    missing: list[Interval | None] = [] if fnmr else [None] * len(rates)
    return [
        CalibrationPoint(
            fmr=rate,
            threshold=round(float(threshold), 5),
            fnmr=round(1 - pairs.true_accept_rate(threshold), 5) if len(pairs.genuine) else None,
            fmr_interval=match,
            fnmr_interval=non_match,
        )
        for rate, threshold, match, non_match in zip(rates, thresholds, fmr, missing or fnmr, strict=True)
    ]


def measured_searches(calibration: Calibration, people: People, sizes: Iterable[int]) -> list[IdentificationPoint]:
    """Measures FPIR and FNIR at the thresholds that the service resolves for each FPIR and gallery size.

    Sizes that the people and distractors cannot fill, and rates below the table, are omitted.
    """
    points = []
    for size in sorted(size for size in set(sizes) if 2 <= size <= largest_gallery(people)):
        searches = search_galleries(people, size)
        for asked in FPIRS:
            fmr = rate_of_one(asked, size)
            if fmr < calibration.points[-1].fmr:
                continue
            threshold = calibration.threshold_for(fmr)
            errors = searches.errors_at(threshold)
            points.append(
                IdentificationPoint(
                    gallery_size=size,
                    requested_fpir=asked,
                    threshold=round(threshold, 5),
                    fpir=round(errors.fpir, 5),
                    fpir_interval=errors.fpir_interval,
                    fnir=round(errors.fnir, 5),
                )
            )
    return points
