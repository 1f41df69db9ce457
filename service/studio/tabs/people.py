"""The tab of the enrolled people."""

import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import gradio

from identity_registry.errors import IdentityNotFound
from identity_registry.responses.identities import Identity, Template
from service.studio import samples
from service.studio.pictures import text_of
from service.studio.sessions import Session, name_of
from service.studio.tabs.people_changes import (
    erase_person,
    export_person,
    merge_people,
    save_person,
    split_person,
)
from service.studio.thumbnails import as_data_url
from service.studio.ui import STATE_S, Ui

PAGE = 20
MAX_TEMPLATES = 200


@dataclass(eq=False)
class Listing:
    """The pages of a list that the user has seen, and the iterator of the next ones."""

    rest: Iterator[Identity] | None = None
    pages: list[list[Identity]] = field(default_factory=list)
    number: int = 0

    @property
    def page(self) -> list[Identity]:
        return self.pages[self.number] if self.pages else []

    def turn(self, step: int) -> None:
        """Goes one page forward or back, as far as there are pages."""
        is_last = self.number == len(self.pages) - 1
        if step > 0 and is_last and (page := list(itertools.islice(self.rest or (), PAGE))):
            self.pages.append(page)
        self.number = max(0, min(self.number + step, len(self.pages) - 1))


def build(ui: Ui, tab: gradio.Tab) -> None:
    """Adds the list, the fields of one person and their handlers."""
    texts = ui.texts
    listing, person = gradio.State(time_to_live=STATE_S), gradio.State(time_to_live=STATE_S)
    with gradio.Row():
        with gradio.Column():
            with gradio.Row():
                label = gradio.Textbox("", label=texts("people.by_name"), max_length=200, elem_id="people-name")
                find = gradio.Button(texts("people.find"), variant="primary", elem_id="people-find")
            table = gradio.HTML(elem_id="people-table")
            with gradio.Row():
                back = gradio.Button(texts("people.back"), size="sm")
                forward = gradio.Button(texts("people.forward"), size="sm", elem_id="people-next")
            chosen = gradio.Dropdown(
                label=texts("people.choose"), choices=[], allow_custom_value=True, elem_id="people-choose"
            )
        with gradio.Column():
            details = gradio.HTML(elem_id="people-details")
            with gradio.Group():
                new_label = gradio.Textbox("", label=texts("register.name"), max_length=200, elem_id="people-label")
                metadata = gradio.Textbox("", label=texts("register.metadata"), lines=2, max_length=4000)
                save = gradio.Button(texts("people.save"), elem_id="people-save")
            with gradio.Accordion(texts("people.merge_split"), open=False):
                others = gradio.Dropdown(
                    label=texts("people.merge_with"), choices=[], multiselect=True, elem_id="people-others"
                )
                merge = gradio.Button(texts("people.merge"), elem_id="people-merge")
                templates = gradio.CheckboxGroup(
                    label=texts("people.templates"), choices=[], elem_id="people-templates"
                )
                split_name = gradio.Textbox(
                    "", label=texts("people.split_name"), max_length=200, elem_id="people-split-name"
                )
                split = gradio.Button(texts("people.split"), elem_id="people-split")
            with gradio.Accordion(texts("people.export_erase"), open=False, elem_id="people-erase-part"):
                export = gradio.Button(texts("people.export"), elem_id="people-export")
                confirm = gradio.Textbox(
                    "", label=texts("people.confirm"), info=texts("people.confirm_info"), elem_id="people-confirm"
                )
                erase = gradio.Button(texts("people.erase"), variant="stop", elem_id="people-erase")
            file = gradio.HTML(elem_id="people-file")
            note = gradio.Markdown(elem_id="people-note")
    pages = [listing, table, chosen]
    fields = [person, details, new_label, metadata, others, templates]
    ui.on(tab.select, find_people, [label], pages, show_progress="hidden")
    ui.on(find.click, find_people, [label], pages)
    ui.on(label.submit, find_people, [label], pages)
    ui.on(back.click, lambda session, pages: _turned(session, pages, -1), [listing], pages)
    ui.on(forward.click, lambda session, pages: _turned(session, pages, 1), [listing], pages)
    ui.on(chosen.change, show, [chosen], fields)
    for trigger, action, inputs in (
        (save.click, save_person, [person, new_label, metadata]),
        (merge.click, merge_people, [person, others]),
        (split.click, split_person, [person, templates, split_name]),
        (export.click, export_person, [person]),
        (erase.click, erase_person, [person, confirm]),
    ):
        done = ui.on(trigger, action, inputs, [note, file])
        listed = ui.on(done.success, find_people, [label], pages)
        ui.on(listed.success, show_again, [person], fields)


def find_people(session: Session, label: str) -> tuple[Any, ...]:
    """Lists people: those with a name or an external id, or all."""
    text = label.strip()
    found = session.registry.list_identities(
        collection=session.collection, label=text or None, page_size=PAGE, fields="label"
    )
    listing = Listing(iter(found))
    if text:
        by_id = session.registry.list_identities(collection=session.collection, external_id=text, fields="label")
        known = list(itertools.islice(found, PAGE))
        both = {identity.id: identity for identity in (*known, *by_id)}
        listing = Listing(itertools.chain(both.values(), found))
    listing.number = -1
    listing.turn(1)
    return _shown(session, listing)


def show(session: Session, choice: str | None) -> tuple[Any, ...]:
    """Returns a person's fields, templates and stored pictures."""
    if not choice:
        return _nobody()
    identity = session.find(choice)
    identity = session.registry.read_identity(identity.id, collection=session.collection)
    stored = session.registry.list_templates(identity.id, collection=session.collection)
    templates = list(itertools.islice(stored, MAX_TEMPLATES))
    choices = [(_template(session, number, template), str(template.id)) for number, template in enumerate(templates, 1)]
    others = [(name, key) for name, key in session.choices() if key != str(identity.id)]
    return (
        str(identity.id),
        _details(session, identity),
        identity.label,
        json.dumps(identity.metadata or {}, ensure_ascii=False),
        gradio.update(choices=others, value=[]),
        gradio.update(choices=choices, value=[]),
    )


def show_again(session: Session, person: str | None) -> tuple[Any, ...]:
    """Returns the fields after a change; empty ones if the person was erased."""
    try:
        return show(session, person)
    except IdentityNotFound:
        return _nobody()


def _turned(session: Session, listing: Listing | None, step: int) -> tuple[Any, ...]:
    if listing is None:
        return find_people(session, "")
    listing.turn(step)
    return _shown(session, listing)


def _shown(session: Session, listing: Listing) -> tuple[Any, ...]:
    texts = session.texts
    if not listing.page:
        return listing, f"<p>{texts('people.none')}</p>", gradio.update(choices=[], value=None)
    heads = "".join(f"<th scope='col'>{texts(f'people.{name}')}</th>" for name in ("name", "key", "count", "since"))
    rows = "".join(
        f"<tr><th scope='row'>{text_of(item.label)}</th><td>{text_of(item.external_id)}</td>"
        f"<td>{item.template_count}</td><td>{item.created_at:%Y-%m-%d}</td></tr>"
        for item in listing.page
    )
    table = f"<table class='candidates'><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table>"
    number = f"<p>{texts('people.page', number=listing.number + 1)}</p>"
    return listing, table + number, gradio.update(choices=[(name_of(item), str(item.id)) for item in listing.page])


def _nobody() -> tuple[Any, ...]:
    return None, "", "", "", gradio.update(choices=[], value=[]), gradio.update(choices=[], value=[])


def _details(session: Session, identity: Identity) -> str:
    texts = session.texts
    stored = "".join(
        f"<img src='{as_data_url(sample)}' width='72' height='72' alt=''>"
        for sample in samples.of(session, str(identity.id))
    )
    until = "" if identity.retain_until is None else texts("people.until", date=f"{identity.retain_until:%Y-%m-%d}")
    return (
        f"<h3>{text_of(name_of(identity))}</h3><p><small>{identity.id}</small></p>"
        f"<p>{texts('people.summary', count=identity.template_count)} {until}</p><div class='faces'>{stored}</div>"
    )


def _template(session: Session, number: int, template: Template) -> str:
    quality = "?" if template.quality is None else f"{template.quality:.2f}"
    return session.texts("people.template", number=number, date=f"{template.created_at:%Y-%m-%d}", quality=quality)
