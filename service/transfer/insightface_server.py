"""People of InsightFace Server: the pictures of its REST API, or the embeddings in its SQLite database."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import numpy as np

from service.transfer.embeddings import StoredEmbeddings, normalised
from service.transfer.people import PersonPicture
from service.transfer.rest import Download, SourceError, System, get_json

PAGE = 100
SYSTEM = System(
    "InsightFace Server",
    "check the URL, --source-collection and the API key in --source-key-file",
    "InsightFace Server has not saved this face (save_face_crops); enrol a new picture, or import the embeddings of "
    "its database with --model-id",
)
_FACES = """
    SELECT coalesce(nullif(p.external_id, ''), p.id), nullif(p.name, ''), f.id, f.embedding
    FROM face_samples f JOIN persons p ON p.collection_id = f.collection_id AND p.id = f.person_id
    WHERE f.collection_id = ? ORDER BY p.id, f.id
"""


def in_insightface_server(client: httpx.Client, collection: str) -> Iterator[PersonPicture]:
    """Yields the saved crops of all people of a collection. Raises SourceError."""
    people = f"/v1/collections/{quote(collection, safe='')}/persons"
    for person in _pages(client, people, "persons"):
        name = str(person.get("external_id") or person["id"])
        faces = f"{people}/{quote(str(person['id']), safe='')}/faces"
        for face in _pages(client, faces, "faces"):
            saved = face.get("has_crop", False)
            read = Download(client, f"{faces}/{quote(str(face['id']), safe='')}/image", SYSTEM) if saved else _not_saved
            yield PersonPicture(name, f"{person['id']}/{face['id']}", ".jpg", read, person.get("name") or None)


def _not_saved() -> str:
    return SYSTEM.no_picture


def _pages(client: httpx.Client, path: str, key: str) -> Iterator[dict[str, Any]]:
    query: dict[str, Any] = {"limit": PAGE}
    while True:
        document = get_json(client, path, query, SYSTEM)
        try:
            items, cursor = [dict(item) for item in document[key]], document["next_cursor"]
            identified = all("id" in item for item in items)
        except (KeyError, TypeError, ValueError):
            identified = False
        if not identified or (cursor and (not items or cursor == query.get("cursor"))):  # it would never end
            raise SourceError(
                f"{client.base_url} does not answer like {SYSTEM.name}: {path} has no list {key!r} with an end"
            )
        yield from items
        if not cursor:
            return
        query["cursor"] = cursor


def read_insightface_database(file: Path, collection: str) -> StoredEmbeddings:
    """Reads the embeddings of a collection from the database file, which is not changed. Raises SourceError."""
    try:
        database = sqlite3.connect(f"file:{quote(str(file.resolve()))}?mode=ro", uri=True)
        try:
            known = [name for (name,) in database.execute("SELECT id FROM collections ORDER BY id")]
            rows = database.execute(_FACES, (collection,)).fetchall()
        finally:
            database.close()
    except sqlite3.Error as error:
        raise SourceError(f"{file} is not a database of {SYSTEM.name}: {error}") from None
    if not rows:
        raise SourceError(
            f"{file} has no faces in the collection {collection!r}; its collections are {', '.join(known) or 'none'}"
        )
    people, names, faces, blobs = zip(*rows, strict=True)
    if not all(isinstance(blob, bytes) and len(blob) % 4 == 0 for blob in blobs) or len(set(map(len, blobs))) != 1:
        raise SourceError(f"{file} has embeddings of different lengths in the collection {collection!r}")
    vectors = np.stack([np.frombuffer(blob, "<f4") for blob in blobs])
    sources = [f"{person}/{face}" for person, face in zip(people, faces, strict=True)]
    return StoredEmbeddings(list(people), sources, normalised(file, list(people), vectors), list(names))
