"""Stored pictures of identities. They exist where a collection stores crops; reading them is an export."""

import base64
import io

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
    if not session.read_collection().store_crops:
        return []
    try:
        crops = session.registry.export_identity(identity_id, collection=session.collection).crops
    except NotAllowed:
        return []
    newest = sorted(crops, key=lambda crop: crop.created_at, reverse=True)
    return [_decoded(crop.image) for crop in newest[:MAX_SAMPLES] if crop.image is not None]


def first(session: Session, identity_id: str) -> Pixels | None:
    """Returns the newest stored face, as `of`."""
    return next(iter(of(session, identity_id)), None)


def _decoded(image: str) -> Pixels:
    with Image.open(io.BytesIO(base64.b64decode(image)), formats=["PNG"]) as picture:
        return np.asarray(picture.convert("RGB"))
