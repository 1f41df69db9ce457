"""Reads, changes, exports and erases identities."""

import asyncio
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from service.errors import OtherModel
from service.gallery.access.audit_entries import Action, Actor, Event
from service.gallery.access.audit_trail import AuditTrail
from service.gallery.people import collections as gallery_collections
from service.gallery.people import erasure, identities, merge_split_move, pruning, subject_data, templates
from service.gallery.people.crop_cipher import CropCipher
from service.gallery.people.erasure import Receipt
from service.gallery.people.identities import Identity
from service.gallery.people.subject_data import SubjectData
from service.gallery.people.templates import StoredTemplate
from service.gallery.search.filters import condition_of
from service.gallery.storage.database import LONG_S, Database
from service.gallery.storage.paging import PageCursor
from service.recognition.candidates import ResponseLimits
from service.recognition.collection_access import in_collection
from service.recognition.read_audit import ReadAuditBuffer


@dataclass(frozen=True, slots=True)
class IdentityFilter:
    """Selects the identities of a list. None: the attribute is not compared.

    `with_metadata`: the response contains the metadata, so that its size is limited.
    """

    label: str | None = None
    external_id: str | None = None
    metadata: Mapping[str, Any] | None = None
    named: bool | None = None
    with_metadata: bool = True


@dataclass(frozen=True)
class IdentityAdministration:
    """The use cases that list, read, change, export, erase, merge, split and move enrolled identities."""

    database: Database
    audit_trail: AuditTrail
    read_audit: ReadAuditBuffer
    limits: ResponseLimits
    max_templates: int
    crop_cipher: CropCipher | None = None

    async def page(
        self, collection: str, limit: int, after: PageCursor | None, chosen: IdentityFilter
    ) -> list[Identity]:
        """Returns up to `limit` identities in the order of their creation. Raises InvalidFilter."""
        condition = None if chosen.metadata is None else condition_of(chosen.metadata)
        async with in_collection(self.database, collection) as (connection, current):
            scope = connection, current.id, limit, after
            page = await identities.page(*scope, chosen.label, chosen.external_id, chosen.named, condition)
        if chosen.with_metadata:
            self.limits.require_bytes(item.metadata for item in page)
        return page

    async def read(self, collection: str, identity_id: uuid.UUID) -> Identity:
        """Returns an identity. Raises CollectionNotFound, IdentityNotFound."""
        async with in_collection(self.database, collection) as (connection, current):
            return await identities.get(connection, current.id, identity_id)

    async def find(self, collection: str, external_id: str) -> Identity:
        """Returns the identity with an external id. Raises CollectionNotFound, IdentityNotFound."""
        async with in_collection(self.database, collection) as (connection, current):
            return await identities.get_by_external_id(connection, current.id, external_id)

    async def change(
        self, collection: str, identity_id: uuid.UUID, changes: Mapping[str, Any], actor: Actor
    ) -> Identity:
        """Sets columns of an identity. An `external_id` gives an unnamed identity its name.

        Raises:
            IdentityNotFound, IdentityExists
            Conflict: the identity has a name.
        """
        async with in_collection(self.database, collection) as (connection, current):
            if "external_id" in changes:
                await identities.set_name(connection, current.id, identity_id, changes["external_id"])
            changed = await identities.change(connection, current.id, identity_id, **changes)
            event = Event(Action.CHANGE, actor, identity_id, {"fields": sorted(changes)})
            await self.audit_trail.append(connection, current.id, [event])
            return changed

    async def erase(self, collection: str, identity_id: uuid.UUID, actor: Actor) -> Receipt:
        """Deletes an identity with everything that is stored about it. Raises IdentityNotFound."""
        async with in_collection(self.database, collection, lock="share", timeout_s=LONG_S) as (connection, current):
            return await erasure.erase(connection, self.audit_trail, current.id, identity_id, actor)

    async def export(self, collection: str, identity_id: uuid.UUID, actor: Actor) -> SubjectData:
        """Returns everything that is stored about an identity, with decrypted crops. Raises IdentityNotFound."""
        await self.read_audit.flush()
        async with in_collection(self.database, collection, timeout_s=LONG_S) as (connection, current):
            data = await subject_data.read(connection, current.id, identity_id)
            await self.audit_trail.append(connection, current.id, [Event(Action.EXPORT, actor, identity_id)])
        return await asyncio.to_thread(subject_data.decrypted, data, self.crop_cipher)

    async def templates(
        self, collection: str, identity_id: uuid.UUID, model_id: str | None, limit: int, after: PageCursor | None
    ) -> list[StoredTemplate]:
        """Returns up to `limit` templates of an identity, oldest first. Raises IdentityNotFound."""
        async with in_collection(self.database, collection) as (connection, current):
            await identities.get(connection, current.id, identity_id)
            return await templates.page(connection, current.id, identity_id, model_id or current.model_id, limit, after)

    async def delete_template(
        self, collection: str, identity_id: uuid.UUID, template_id: uuid.UUID, actor: Actor
    ) -> int:
        """Deletes a template under every model; returns the number that remain.

        Raises:
            IdentityNotFound, TemplateNotFound
        """
        async with in_collection(self.database, collection, lock="share", timeout_s=LONG_S) as (connection, current):
            await identities.lock(connection, current.id, identity_id)
            remaining = await templates.remove(connection, current.id, identity_id, template_id)
            event = Event(Action.DELETE_TEMPLATE, actor, identity_id, {"left": remaining})
            await self.audit_trail.append(connection, current.id, [event])
            return remaining

    async def merge(
        self, collection: str, target: uuid.UUID, sources: Sequence[uuid.UUID], actor: Actor
    ) -> tuple[Identity, int]:
        """Merges the sources into the target; returns it with the number of moved templates.

        Raises:
            IdentityNotFound
        """
        async with in_collection(self.database, collection, lock="share", timeout_s=LONG_S) as (connection, current):
            moved = await merge_split_move.merge(connection, current.id, target, sources)
            merged = await pruning.limit(connection, current, target, self.max_templates)
            event = Event(Action.MERGE, actor, target, {"identities": sorted(map(str, sources))})
            await self.audit_trail.append(connection, current.id, [event])
            return merged, moved

    async def split(
        self,
        collection: str,
        source: uuid.UUID,
        template_ids: Sequence[uuid.UUID],
        external_id: str,
        label: str | None,
        metadata: dict[str, Any] | None,
        actor: Actor,
    ) -> Identity:
        """Creates an identity from some of another's templates.

        Raises:
            IdentityNotFound, IdentityExists, TemplateNotFound, NoTemplateLeft
        """
        async with in_collection(self.database, collection, lock="share", timeout_s=LONG_S) as (connection, current):
            scope = connection, current, source, template_ids
            created = await merge_split_move.split(*scope, external_id, label, metadata)
            event = Event(Action.SPLIT, actor, source, {"identity": str(created)})
            await self.audit_trail.append(connection, current.id, [event])
            return await identities.get(connection, current.id, created)

    async def move(self, collection: str, identity_id: uuid.UUID, target: str, actor: Actor) -> Identity:
        """Moves an identity to another collection.

        Raises:
            CollectionNotFound, IdentityNotFound, IdentityExists
            OtherModel: the active models of the collections differ.
        """
        async with in_collection(self.database, collection, lock="share", timeout_s=LONG_S) as (connection, current):
            destination = await gallery_collections.get(connection, target, "/to", lock="share")
            if destination.model_id != current.model_id:
                raise OtherModel(
                    f"the collection {target!r} uses the model {destination.model_id!r}, and {collection!r} uses "
                    f"{current.model_id!r}; register the person's pictures in {target!r} instead",
                    pointer="/to",
                )
            if destination.id == current.id:
                return await identities.get(connection, current.id, identity_id)
            await merge_split_move.move(connection, current, destination, identity_id)
            moved = await identities.get(connection, destination.id, identity_id)
            out = Event(Action.MOVE_OUT, actor, identity_id, {"other": str(destination.id)})
            into = Event(Action.MOVE_IN, actor, identity_id, {"other": str(current.id)})
            # In the order of the ids, so that two moves in opposite directions lock the two heads in the same order.
            for collection_id, event in sorted([(current.id, out), (destination.id, into)], key=lambda item: item[0]):
                await self.audit_trail.append(connection, collection_id, [event])
            return moved
