"""Results of the rows of a re-embedding job. Each row is an identity."""

import uuid

from service.errors import CropsMissing, RegistryError
from service.gallery.jobs.records import JobRow, RowResult, RowStatus


def identity_id_of(row: JobRow) -> uuid.UUID:
    """Returns the identity of a row."""
    return uuid.UUID(row.source)


def result_of(row: JobRow, stored: int, missing: int, error: RegistryError | None) -> RowResult:
    """Returns the result of a row. `stored`, `missing`: numbers of re-embedded and of still missing faces."""
    identity_id = identity_id_of(row)
    if missing == 0:
        return RowResult(row.number, RowStatus.ACCEPTED, identity_id)
    error = error or CropsMissing("no crops were stored when the faces were enrolled; enrol new photos")
    if stored:
        detail = f"{missing} of the faces could not be re-embedded: {error.detail}"
        return RowResult(row.number, RowStatus.ACCEPTED, identity_id, detail=detail)
    return RowResult(row.number, RowStatus.REJECTED, identity_id, code=error.code, detail=error.detail)
