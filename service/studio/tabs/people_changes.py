"""What the tab of the enrolled people changes: edits, merges, splits, exports and erases."""

import base64
import json
from collections.abc import Sequence

from identity_registry.responses.base import Document
from service.studio.pictures import text_of
from service.studio.sessions import Session
from service.studio.ui import UserError, require


def save_person(session: Session, person: str | None, label: str, metadata: str) -> tuple[str, str]:
    """Changes name and metadata."""
    require(person, session.texts("people.nobody_chosen"))
    require(label.strip(), session.texts("register.no_name"))
    try:
        document = json.loads(metadata or "{}")
    except ValueError as error:
        raise UserError(session.texts("register.bad_metadata", reason=error)) from error
    session.registry.update_identity(str(person), collection=session.collection, label=label.strip(), metadata=document)
    return session.texts("people.saved"), ""


def merge_people(session: Session, person: str | None, others: Sequence[str]) -> tuple[str, str]:
    """Moves the templates of other people to this one."""
    require(person, session.texts("people.nobody_chosen"))
    require(others, session.texts("people.nobody_to_merge"))
    merged = session.registry.merge_identities(str(person), list(others), collection=session.collection)
    text = session.texts("people.merged", name=text_of(merged.label), count=merged.templates_moved)
    return text, ""


def split_person(session: Session, person: str | None, templates: Sequence[str], name: str) -> tuple[str, str]:
    """Makes a new person from some templates."""
    require(person, session.texts("people.nobody_chosen"))
    require(templates, session.texts("people.no_template"))
    require(name.strip(), session.texts("register.no_name"))
    new = session.registry.split_identity(
        str(person), list(templates), name.strip(), collection=session.collection, label=name.strip()
    )
    text = session.texts("people.split_done", name=text_of(new.label), count=new.template_count)
    return text, ""


def export_person(session: Session, person: str | None) -> tuple[str, str]:
    """Writes everything that is stored about a person to a file."""
    require(person, session.texts("people.nobody_chosen"))
    data = session.registry.export_identity(str(person), collection=session.collection)
    return session.texts("people.exported"), _download(session, "export.json", data)


def erase_person(session: Session, person: str | None, confirmation: str) -> tuple[str, str]:
    """Erases a person whose name the user has typed, and writes the receipt to a file."""
    require(person, session.texts("people.nobody_chosen"))
    identity = session.registry.read_identity(str(person), collection=session.collection)
    if confirmation.strip() != identity.label:
        raise UserError(session.texts("people.not_confirmed", name=identity.label))
    erasure = session.registry.erase_identity(identity.id, collection=session.collection)
    text = session.texts("people.erased", name=text_of(identity.label), count=erasure.templates_deleted)
    if erasure.receipt is not None:
        text += "\n\n" + session.texts("people.receipt", number=erasure.receipt.number, mac=erasure.receipt.mac)
    return text, _download(session, "receipt.json", erasure)


def _download(session: Session, name: str, document: Document) -> str:
    """Returns a link that contains a document, so that no copy of it lies on the disk of the studio."""
    content = base64.b64encode(document.model_dump_json(indent=2).encode()).decode()
    link = session.texts("people.download", name=name)
    return f"<a download='{name}' href='data:application/json;base64,{content}'>{link}</a>"
