"""The retention time of identities: after it, no operation returns an identity, even before it is erased."""

from sqlalchemy import ColumnElement, func, or_

from service.gallery.storage.tables import identity

IS_RETAINED: ColumnElement[bool] = or_(identity.c.retain_until.is_(None), identity.c.retain_until > func.now())
"""The condition on `identity` that its retention time, if it has one, has not passed."""
