"""The error-versus-discard curve: shows whether the quality score predicts errors.

Grother and Tabassi, "Performance of biometric quality measures", IEEE PAMI 2007; ISO/IEC 29794-1.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from trainer.embedder.scores import all_pairs

Floats = npt.NDArray[np.float32]
FMR = 1e-3
MIN_PAIRS_ABOVE = 10
FRACTIONS = (0.0, 0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3)


@dataclass(frozen=True)
class Discard:
    """FNMR of the remaining pictures when a fraction (0 to 1) of the pictures of lowest quality is discarded."""

    fraction: float
    fnmr: float


def error_versus_discard(embeddings: Floats, names: list[str], quality: Floats, fmr: float = FMR) -> list[Discard]:
    """Returns the FNMR at one threshold as more pictures of low quality are discarded.

    The threshold has the false match rate `fmr` on all pairs. The curve is empty if fewer than ten impostor pairs
    would lie above it.

    Args:
        embeddings: (N, D) normalised.
        quality: (N,) higher is better.
    """
    pairs = all_pairs(embeddings, names)
    if fmr * len(pairs.impostor) < MIN_PAIRS_ABOVE:
        return []
    threshold = pairs.threshold_at(fmr)
    worst_first = np.argsort(quality, kind="stable")
    curve = []
    for fraction in FRACTIONS:
        remaining = np.sort(worst_first[int(fraction * len(names)) :])
        pairs = all_pairs(embeddings[remaining], [names[row] for row in remaining])
        curve.append(Discard(fraction, 1 - pairs.true_accept_rate(threshold)))
    return curve
