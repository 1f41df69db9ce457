"""Models that correct the embeddings of another model by a cohort: no pictures are needed for a migration to them."""

import uuid
from collections.abc import Collection as Several
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from sqlalchemy.ext.asyncio import AsyncConnection

from service.gallery.people import model_coverage
from service.gallery.people.collections import Collection
from service.gallery.people.model_coverage import ReembeddedFace
from service.inference.cohort import Cohort

Faces = dict[uuid.UUID, dict[bytes, ReembeddedFace]]
"""Re-embedded faces by identity and `source_sha256`."""


@dataclass(frozen=True, slots=True)
class CohortModel:
    """A model with a cohort. `uncorrected`: id of the model without it."""

    cohort: Cohort
    uncorrected: str

    async def correct_stored(
        self, connection: AsyncConnection, collection: Collection, identity_ids: Several[uuid.UUID]
    ) -> Faces | None:
        """Returns the corrected embeddings of faces that this model has not embedded yet.

        None: the collection's active model is another one than the model without the cohort.
        """
        if collection.model_id != self.uncorrected:
            return None
        stored = await model_coverage.stored_faces(connection, collection, identity_ids)
        return {identity_id: self._correct(faces) for identity_id, faces in stored.items()}

    def _correct(self, faces: Mapping[bytes, ReembeddedFace]) -> dict[bytes, ReembeddedFace]:
        if not faces:
            return {}
        corrected = self.cohort.correct(np.stack([face.embedding for face in faces.values()]))
        values = zip(faces.items(), corrected, strict=True)
        return {source: ReembeddedFace(embedding, face.quality) for (source, face), embedding in values}
