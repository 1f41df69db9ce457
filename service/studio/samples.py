"""Stored pictures of identities. They exist where a collection stores crops; reading them is an export."""

import base64
import io
from collections.abc import Sequence

import numpy as np
from PIL import Image

from identity_registry.errors import NotAllowed
from service.studio.sessions import Session
from service.vision.image import Pixels

MAX_SAMPLES = 24


def of(session: Session, identity_id: str) -> list[Pixels]:
    """Returns the newest stored faces of an identity, (112, 112, 3) RGB each.

    Returns nothing if the collection stores none or the key may not export. Raises RegistryError.
    """
    return _of(session, identity_id) if _are_stored(session) else []


def first_of_each(session: Session, identity_ids: Sequence[str]) -> dict[str, Pixels]:
    """Returns the newest stored face of each identity that has one, as `of`."""
    if not identity_ids or not _are_stored(session):
        return {}
    stored = {identity_id: _of(session, identity_id) for identity_id in identity_ids}
    return {identity_id: faces[0] for identity_id, faces in stored.items() if faces}


def _are_stored(session: Session) -> bool:
    try:
        return session.read_collection().store_crops
    except NotAllowed:  # a key that may not read the collection may not export either
        return False


def _of(session: Session, identity_id: str) -> list[Pixels]:
    try:
        crops = session.registry.export_identity(identity_id, collection=session.collection).crops
    except NotAllowed:
        return []
    newest = sorted(crops, key=lambda crop: crop.created_at, reverse=True)
    return [_decoded(crop.image) for crop in newest[:MAX_SAMPLES] if crop.image is not None]


def _decoded(image: str) -> Pixels:
    with Image.open(io.BytesIO(base64.b64decode(image)), formats=["PNG"]) as picture:
        return np.asarray(picture.convert("RGB"))
