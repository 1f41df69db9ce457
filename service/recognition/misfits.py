"""Do the pictures of one person show one person?"""

import uuid
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from sqlalchemy.ext.asyncio import AsyncConnection

from service.errors import FmrNotCalibrated
from service.gallery.people import templates
from service.recognition.decision import DecisionPolicy

Floats = npt.NDArray[np.float32]
MISFIT_FMR = 1e-2
"""Share of pairs of strangers that agree better than a picture that is called a outlier."""


def outlier_threshold(policy: DecisionPolicy) -> float | None:
    """The cosine below which two pictures hardly show one person; None: the model is not calibrated for it."""
    try:
        return policy.threshold_for("fmr", MISFIT_FMR)
    except FmrNotCalibrated:
        return None


async def agreements(
    connection: AsyncConnection,
    collection_id: uuid.UUID,
    identity_id: uuid.UUID,
    model_id: str,
    embeddings: Sequence[Floats],
) -> list[float | None]:
    """Of each of a person's new embeddings the cosine to the nearest other, stored or new; None: there is none."""
    found = []
    for row, embedding in enumerate(embeddings):
        others = [float(other @ embedding) for column, other in enumerate(embeddings) if column != row]
        stored = await templates.best_score(connection, collection_id, identity_id, model_id, embedding)
        known = others if stored is None else [*others, stored[0]]
        found.append(max(known, default=None))
    return found
