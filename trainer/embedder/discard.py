"""Does quality predict error? The error-versus-discard curve (Grother and Tabassi, PAMI 2007; ISO/IEC 29794-1)."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from trainer.embedder.scores import all_pairs

Floats = npt.NDArray[np.float32]
FMR = 1e-3
FEWEST_ABOVE = 10
FRACTIONS = (0.0, 0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3)


@dataclass(frozen=True)
class Discard:
    """FNMR among the pairs of the pictures that stay when a fraction of the worst is discarded."""

    fraction: float
    fnmr: float


def error_versus_discard(embeddings: Floats, names: list[str], quality: Floats, fmr: float = FMR) -> list[Discard]:
    """FNMR at the threshold that has `fmr` on all pairs, as more of the pictures of lowest quality are left out.

    Empty where too few pairs stand behind that rate.

    Args:
        embeddings: (N, D) normalised.
        quality: (N,) the higher the better.
    """
    pairs = all_pairs(embeddings, names)
    if fmr * len(pairs.impostor) < FEWEST_ABOVE:
        return []
    threshold = pairs.threshold_at(fmr)
    worst_first = np.argsort(quality, kind="stable")
    curve = []
    for fraction in FRACTIONS:
        kept = np.sort(worst_first[int(fraction * len(names)) :])
        pairs = all_pairs(embeddings[kept], [names[row] for row in kept])
        curve.append(Discard(fraction, 1 - pairs.true_accept_rate(threshold)))
    return curve
