"""Reads from the database what the service has stored in the collections of a phase."""

import uuid
from dataclasses import dataclass
from typing import Any

import numpy as np
import psycopg
from pgvector.psycopg import register_vector

from tools.chaos.material import Floats

PERSONAL = ("template", "centroid", "crop", "correction", "idempotency", "job_row")
"""Tables with rows of an identity, besides `identity` itself."""


@dataclass(frozen=True)
class StoredTemplate:
    template_id: str
    model_id: str
    source_sha256: bytes
    embedding: Floats


@dataclass(frozen=True)
class StoredCentroid:
    embedding: Floats
    template_count: int
    binary_code: str | None


class Stored:
    """The rows of some collections, read in one snapshot.

    Attributes:
        identities: external id by identity id.
        ids: identity id by collection name and external id.
        templates: templates by identity id, oldest first.
        centroids: centroids by identity id and model id.
        models: active and secondary model by collection name.
        lost_in_migration: external ids of which a re-embedding has given up pictures, because each worker that
            processed them was killed. The deletion of the former model deletes their templates.
    """

    def __init__(self, url: str, names: list[str]) -> None:
        with psycopg.connect(url) as connection:
            register_vector(connection)
            connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
            self._connection, self._names = connection, names
            rows = self._rows("SELECT name, id, model_id, standby_model_id FROM collection WHERE name = ANY(%s)", names)
            self.collections: dict[str, uuid.UUID] = {row[0]: row[1] for row in rows}
            self.models: dict[str, tuple[str, str | None]] = {row[0]: (row[2], row[3]) for row in rows}
            self._read_people()
            self.personal = {table: self._identity_ids(table) for table in PERSONAL}
            self.jobs = self._of_collections("SELECT id, state, total, problem, kind FROM job")
            self.job_rows = self._of_collections(
                "SELECT job_id, number, external_id, status, identity_id, template_id, code, detail FROM job_row"
            )
            migrations = {row[0] for row in self.jobs if row[4] == "re-embedding"}
            failed = {row[2] for row in self.job_rows if row[0] in migrations and row[3] == "failed"}
            self.lost_in_migration: set[str] = failed
            self.audit = self._of_collections("SELECT identity_id, action FROM audit")

    def _read_people(self) -> None:
        names = {collection_id: name for name, collection_id in self.collections.items()}
        self.identities: dict[str, str] = {}
        self.ids: dict[tuple[str, str], str] = {}
        for identity_id, collection_id, external_id in self._of_collections(
            "SELECT id, collection_id, external_id FROM identity"
        ):
            self.identities[str(identity_id)] = external_id
            self.ids[names[collection_id], external_id] = str(identity_id)
        self.templates: dict[str, list[StoredTemplate]] = {}
        for row in self._of_collections(
            "SELECT identity_id, id, model_id, source_sha256, embedding FROM template", "ORDER BY created_at, id"
        ):
            template = StoredTemplate(str(row[1]), row[2], row[3], row[4].to_numpy().astype(np.float32))
            self.templates.setdefault(str(row[0]), []).append(template)
        self.centroids: dict[tuple[str, str], StoredCentroid] = {}
        for row in self._of_collections(
            "SELECT identity_id, model_id, embedding, template_count, code::text FROM centroid"
        ):
            self.centroids[str(row[0]), row[1]] = StoredCentroid(row[2].to_numpy().astype(np.float32), row[3], row[4])

    def _identity_ids(self, table: str) -> set[str]:
        rows = self._of_collections(f"SELECT DISTINCT identity_id FROM {table}")  # noqa: S608  a constant above
        return {str(row[0]) for row in rows if row[0] is not None}

    def _of_collections(self, statement: str, order: str = "") -> list[tuple[Any, ...]]:
        statement = f"{statement} WHERE collection_id = ANY(%s) {order}"
        return self._rows(statement, list(self.collections.values()))

    def _rows(self, statement: str, values: list[Any]) -> list[tuple[Any, ...]]:
        return self._connection.execute(statement.encode(), [values]).fetchall()


def rows_of_collections(url: str, collection_ids: list[uuid.UUID]) -> dict[str, int]:
    """Returns the number of rows of collections in each table that may have some."""
    counts = {}
    with psycopg.connect(url) as connection:
        for table in ("identity", "job", *PERSONAL):
            statement = f"SELECT count(*) FROM {table} WHERE collection_id = ANY(%s)"  # noqa: S608
            row = connection.execute(statement.encode(), [collection_ids]).fetchone()
            counts[table] = 0 if row is None else int(row[0])
    return counts
