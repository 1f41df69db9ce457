"""Administration by names instead of ids, and of templates without their identities, for clients of CompreFace."""

import uuid
from dataclasses import dataclass

from service.errors import IdentityExists, IdentityNotFound
from service.gallery.access.audit_entries import Action, Actor, Event
from service.gallery.enrolment.rows import lock_or_create
from service.gallery.people import all_templates, erasure, identities
from service.gallery.people.all_templates import OwnedTemplate
from service.gallery.storage.paging import PageCursor
from service.recognition.collection_access import in_collection
from service.recognition.identities import IdentityAdministration, IdentityFilter

PAGE = 1_000
MAX_NAMES = 10_000
"""Maximum number of identities that one request lists or erases."""
NO_METADATA = IdentityFilter(with_metadata=False)


@dataclass(frozen=True)
class SubjectAdministration:
    """The use cases that name identities by their external ids."""

    identities: IdentityAdministration

    async def names(self, collection: str) -> list[str]:
        """Returns the external ids of up to 10,000 identities, the oldest first."""
        names: list[str] = []
        after: PageCursor | None = None
        while len(names) < MAX_NAMES:
            page = await self.identities.page(collection, PAGE, after, NO_METADATA)
            names += [identity.external_id for identity in page]
            if len(page) < PAGE:
                break
            after = PageCursor(page[-1].created_at, page[-1].id)
        return names[:MAX_NAMES]

    async def create(self, collection: str, external_id: str, actor: Actor) -> None:
        """Creates an identity without templates. Raises IdentityExists."""
        audit_trail = self.identities.audit_trail
        async with in_collection(self.identities.database, collection, lock="share") as (connection, current):
            locked = await lock_or_create(connection, current.id, external_id)
            if locked is None:
                await erasure.expire_external_id(connection, audit_trail, current.id, external_id)
                locked = await lock_or_create(connection, current.id, external_id)
                assert locked is not None  # the external id of the erased identity is free
            row, created = locked
            if not created:
                raise IdentityExists(f"an identity with the external_id {external_id!r} exists")
            await audit_trail.append(connection, current.id, [Event(Action.ENROL, actor, row.id, {"created": True})])

    async def rename(self, collection: str, external_id: str, new: str, actor: Actor) -> None:
        """Gives an identity another external id and label, or merges it into the identity that has them.

        Raises:
            IdentityNotFound
        """
        renamed = await self.identities.find(collection, external_id)
        try:
            target = await self.identities.find(collection, new)
        except IdentityNotFound:
            async with in_collection(self.identities.database, collection, lock="share") as (connection, current):
                await erasure.expire_external_id(connection, self.identities.audit_trail, current.id, new)
                await identities.rename(connection, current.id, renamed.id, new)
                event = Event(Action.CHANGE, actor, renamed.id, {"fields": ["external_id", "label"]})
                await self.identities.audit_trail.append(connection, current.id, [event])
            return
        if target.id != renamed.id:
            await self.identities.merge(collection, target.id, [renamed.id], actor)

    async def erase(self, collection: str, external_id: str, actor: Actor) -> int:
        """Erases an identity; returns the number of its templates. Raises IdentityNotFound."""
        found = await self.identities.find(collection, external_id)
        await self.identities.erase(collection, found.id, actor)
        return found.template_count

    async def erase_all(self, collection: str, actor: Actor) -> tuple[int, int]:
        """Erases up to 10,000 identities; returns their number and that of their templates."""
        erased = templates = 0
        while erased < MAX_NAMES and (page := await self.identities.page(collection, PAGE, None, NO_METADATA)):
            for identity in page:
                await self.identities.erase(collection, identity.id, actor)
            erased, templates = erased + len(page), templates + sum(item.template_count for item in page)
        return erased, templates

    async def page(
        self, collection: str, number: int, size: int, external_id: str | None
    ) -> tuple[list[tuple[uuid.UUID, str]], int]:
        """Returns a page of (template id, external id), and the number of all templates."""
        async with in_collection(self.identities.database, collection) as (connection, current):
            return await all_templates.page(connection, current, number, size, external_id)

    async def template(self, collection: str, template_id: uuid.UUID) -> tuple[OwnedTemplate, str]:
        """Returns a template, and its model. Raises TemplateNotFound."""
        async with in_collection(self.identities.database, collection) as (connection, current):
            return await all_templates.get(connection, current, template_id), current.model_id

    async def delete_template(self, collection: str, template_id: uuid.UUID, actor: Actor) -> str:
        """Deletes a template, and erases its identity with the last one; returns the external id.

        Raises:
            TemplateNotFound, IdentityNotFound
        """
        found, _ = await self.template(collection, template_id)
        if await self.identities.delete_template(collection, found.identity_id, template_id, actor) == 0:
            async with in_collection(self.identities.database, collection, lock="share") as (connection, current):
                await identities.lock(connection, current.id, found.identity_id)
                # A face may have been enrolled meanwhile.
                if (await identities.get(connection, current.id, found.identity_id)).template_count == 0:
                    trail = self.identities.audit_trail
                    await erasure.erase(connection, trail, current.id, found.identity_id, actor)
        return found.external_id

    def record_comparison(self, collection: str, actor: Actor, identity_id: uuid.UUID | None = None) -> None:
        """Records a comparison in the audit trail. `identity_id`: the identity whose template was compared."""
        self.identities.read_audit.record(collection, Event(Action.VERIFY, actor, identity_id))
