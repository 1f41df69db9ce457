"""Compares probes with the centroids of a table: by all binary codes, then by the nearest 8-bit embeddings."""

from collections.abc import Sequence

import faiss
import numpy as np

from service.gallery.index.centroids import codes_of
from service.gallery.index.index_table import Floats, Near, Rows, Table

NEAREST_BY_CODE, PER_RESULT = 2_000, 2
"""Centroids whose 8-bit embeddings are compared after the comparison of all binary codes: at least, and per result."""
FEW_ROWS = 10_000
"""Up to so many of chosen centroids are compared by their 8-bit embeddings alone."""
MARGIN_STEPS = 4.0
"""The steps of the 8-bit embeddings by which the scores of two identities must differ. The error of a difference has a
standard deviation of 0.41 steps, for a normalised probe and errors between half a step below and above."""
CODES_AT_ONCE = 8_192
"""512 kB, which stay in the processor's cache until they have been compared with all probes."""
faiss.cvar.hamming_batch_size = CODES_AT_ONCE  # type: ignore[attr-defined]


def nearest(
    table: Table,
    used: int,
    empty: int,
    probes: Sequence[Floats],
    count: int,
    by_code: int = 0,
    within: Rows | None = None,
) -> list[Near]:
    """Returns up to `count` identities whose centroids are nearest to each (dim,) probe.

    Args:
        used, empty: number of rows, and of empty ones among them, which can be among the nearest by their codes.
        by_code: minimum number of those that the codes select.
        within: rows to compare; None: all.
    """
    if within is not None and len(within) <= FEW_ROWS:
        return [_best(table, within, probe, count) for probe in probes]
    codes = table.codes[:used] if within is None else np.take(table.codes, within, axis=0)
    compared = min(len(codes), max(NEAREST_BY_CODE, PER_RESULT * count, by_code) + min(empty, NEAREST_BY_CODE))
    if compared == 0:
        return [Near.nobody() for _ in probes]
    # "mc" counts codes by distance, which is faster than a heap for this number of results.
    _, found = faiss.knn_hamming(codes_of(np.stack(probes)), codes, compared, "mc")
    rows = found if within is None else within[found]
    return [_best(table, of_probe, probe, count) for of_probe, probe in zip(rows, probes, strict=True)]


def _best(table: Table, rows: Rows, probe: Floats, count: int) -> Near:
    """Returns the identities of the rows that are nearest to the probe by their 8-bit embeddings."""
    rows = rows[table.template_counts[rows] > 0]
    # `take` is four times as fast as an index.
    scores = (np.take(table.quantised, rows, axis=0).astype(np.float32) @ probe) * table.steps[rows]
    if len(rows) > count:
        nearest_rows = np.argpartition(-scores, count)[:count]
        rows, scores = rows[nearest_rows], scores[nearest_rows]
    order = np.argsort(-scores)
    best = rows[order]
    margin = MARGIN_STEPS * float(table.steps[best].max(initial=0.0))
    return Near(table.ids[best], table.template_counts[best] > 1, scores[order], margin)
