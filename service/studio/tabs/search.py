"""The tab that searches for the people of a photo."""

from dataclasses import dataclass
from typing import Any

import gradio

from identity_registry.responses.identification import Candidate, FaceMatches, SearchResponse
from identity_registry.responses.recognition import RegisterResponse
from service.live.drawing import MATCH, NO_MATCH
from service.studio import pictures, rates, samples
from service.studio.pictures import text_of
from service.studio.rates import Strictness
from service.studio.sessions import Session
from service.studio.tabs.verify import picture
from service.studio.thumbnails import as_data_url
from service.studio.ui import STATE_S, Ui, require
from service.vision.image import Pixels

MAX_CANDIDATES = 20


@dataclass(frozen=True)
class Found:
    """A search that the user looks at. `file`: the searched picture."""

    file: str
    response: SearchResponse

    def face(self, choice: str | None) -> FaceMatches:
        return self.response.results[int(choice or 0)]


def build(ui: Ui, _: gradio.Tab) -> None:
    """Adds the fields, the results and their handlers."""
    texts = ui.texts
    state = gradio.State(time_to_live=STATE_S)
    with gradio.Row():
        with gradio.Column():
            photo = picture(texts("search.photo"), "search-photo")
            strictness = gradio.Dropdown(
                label=texts("rates.label"),
                info=texts("rates.info"),
                choices=rates.choices(texts),
                value=rates.COLLECTION_DEFAULT,
                elem_id="search-strictness",
            )
            top_k = gradio.Slider(1, MAX_CANDIDATES, value=5, step=1, label=texts("search.top_k"))
            button = gradio.Button(texts("search.button"), variant="primary", elem_id="search-button")
        with gradio.Column():
            shown = gradio.Image(
                label=texts("search.faces"),
                interactive=False,
                format="jpeg",
                buttons=["fullscreen"],
                elem_id="search-shown",
            )
            meaning = gradio.Markdown(elem_id="search-meaning")
            face = gradio.Dropdown(label=texts("search.face"), choices=[], visible=False, elem_id="search-face")
            candidates = gradio.HTML(elem_id="search-candidates")
            with gradio.Group(visible=False) as actions:
                candidate = gradio.Dropdown(label=texts("search.candidate"), choices=[], elem_id="search-candidate")
                with gradio.Row():
                    refuse = gradio.Button(texts("search.not_this"), elem_id="search-not-this")
                    add = gradio.Button(texts("search.add"), elem_id="search-add")
                name = gradio.Textbox("", label=texts("register.name"), max_length=200, elem_id="search-name")
                force = gradio.Checkbox(label=texts("register.force"), value=False, elem_id="search-force")
                enrol = gradio.Button(texts("search.enrol"), elem_id="search-enrol")
            note = gradio.Markdown(elem_id="search-note")
    results = [state, shown, meaning, face, actions]
    details = [candidates, candidate, actions, note]
    query = [photo, strictness, top_k]
    searched = ui.on(button.click, search, query, results)
    for event in (searched.success, face.input):
        ui.on(event, show_face, [state, face], details)
    for trigger, action, inputs in (
        (refuse.click, refuse_candidate, [state, face, candidate]),
        (add.click, add_to_candidate, [state, face, candidate, force]),
        (enrol.click, enrol_face, [state, face, name, force]),
    ):
        done = ui.on(trigger, action, inputs, [note])
        # The decision changes: search again, and keep the note.
        again = ui.on(done.success, search_again, [state, strictness, top_k, face], results)
        ui.on(again.success, show_candidates, [state, face], details[:3])


def search(session: Session, photo: str | None, strictness: str, top_k: float) -> tuple[Any, ...]:
    """Searches for each face of a photo."""
    file = require(photo, session.texts("verify.no_picture"))
    return _results(session, _search(session, file, strictness, top_k), "0")


def search_again(session: Session, found: Found, strictness: str, top_k: float, face: str) -> tuple[Any, ...]:
    """Repeats a search and keeps the chosen face."""
    return _results(session, _search(session, found.file, strictness, top_k), face)


def show_face(session: Session, found: Found, face: str | None) -> tuple[Any, ...]:
    """Returns the candidates of a face, and clears the note."""
    return *show_candidates(session, found, face), ""


def show_candidates(session: Session, found: Found, face: str | None) -> tuple[Any, ...]:
    """Returns the candidates of a face as a table and as choices, and shows the actions on them."""
    matches = found.face(face)
    choices = [(f"{item.label} · {item.score:.2f}", str(item.identity_id)) for item in matches.candidates]
    first = choices[0][1] if choices else None
    return _table(session, matches), gradio.update(choices=choices, value=first), gradio.update(visible=True)


def refuse_candidate(session: Session, found: Found, face: str, identity_id: str) -> str:
    """Records that the face is not the chosen person's."""
    chosen = _candidate(session, found, face, identity_id)
    session.registry.create_correction(
        chosen.identity_id, found.file, collection=session.collection, face="box", box=_box(found, face)
    )
    return session.texts("search.refused", name=text_of(chosen.label))


def add_to_candidate(session: Session, found: Found, face: str, identity_id: str, force: bool) -> str:
    """Adds the face to the chosen person."""
    chosen = _candidate(session, found, face, identity_id)
    _register(session, found, face, chosen.label, chosen.external_id, force)
    return session.texts("search.added", name=text_of(chosen.label))


def enrol_face(session: Session, found: Found, face: str, name: str, force: bool) -> str:
    """Enrols the face as a new person."""
    require(name.strip(), session.texts("register.no_name"))
    response = _register(session, found, face, name.strip(), None, force)
    return session.texts("register.created" if response.created else "register.added", name=text_of(response.label))


def _search(session: Session, file: str, strictness: str, top_k: float) -> Found:
    response = session.registry.search(
        file, collection=session.collection, face="all", top_k=int(top_k), fmr=Strictness.of(strictness).fmr
    )
    return Found(file, response)


def _results(session: Session, found: Found, face: str) -> tuple[Any, ...]:
    texts, results = session.texts, found.response.results
    names = [_name(session, matches) for matches in results]
    choices = [(f"{number}: {name}", str(number - 1)) for number, name in enumerate(names, 1)]
    chosen = face if int(face or 0) < len(results) else "0"
    return (
        found,
        _drawn(found, names),
        rates.meaning(texts, found.response),
        gradio.update(choices=choices, value=chosen, visible=len(results) > 1),
        gradio.update(visible=False),  # until the candidates of this search replace those of the last one
    )


def _drawn(found: Found, names: list[str]) -> Pixels | str:
    pixels = pictures.upright(found.file)
    if pixels is None:
        return found.file
    seen = [
        (matches.face, name, matches)
        for matches, name in zip(found.response.results, names, strict=True)
        if matches.face is not None
    ]
    colors = [MATCH if _match(matches) is not None else NO_MATCH for _, _, matches in seen]
    return pictures.annotated(pixels, [face for face, _, _ in seen], [name for _, name, _ in seen], colors)


def _match(matches: FaceMatches) -> Candidate | None:
    return next((candidate for candidate in matches.candidates if candidate.match), None)


def _name(session: Session, matches: FaceMatches) -> str:
    match = _match(matches)
    if match is None:
        return session.texts("search.poor" if matches.quality_reasons else "search.unknown")
    return f"{match.label} {match.score:.2f}"


def _table(session: Session, matches: FaceMatches) -> str:
    """Returns the candidates of a face as an HTML table with the stored faces, where there are any."""
    texts = session.texts
    if not matches.candidates:
        return f"<p>{texts('search.nobody')}</p>"
    stored = samples.first_of_each(session, [str(candidate.identity_id) for candidate in matches.candidates])
    rows = []
    for candidate in matches.candidates:
        sample = stored.get(str(candidate.identity_id))
        image = "" if sample is None else f'<img src="{as_data_url(sample)}" alt="" width="56" height="56">'
        word = texts("verify.match") if candidate.match else texts("verify.no_match")
        if candidate.undecided is not None:
            word = texts("search.undecided")
        if candidate.overruled_by_correction:
            word = texts("search.corrected")
        threshold = "" if candidate.threshold is None else f"{candidate.threshold:.2f}"
        rows.append(
            f'<tr class="{"match" if candidate.match else "no-match"}"><td>{image}</td>'
            f"<th scope='row'>{_person(candidate)}</th>"
            f"<td>{candidate.score:.3f}</td><td>{threshold}</td><td>{word}</td></tr>"
        )
    heads = "".join(f"<th scope='col'>{texts(f'search.{name}')}</th>" for name in ("person", "score", "threshold"))
    return (
        f"<table class='candidates'><thead><tr><td></td>{heads}<th scope='col'>{texts('search.decision')}</th></tr>"
        f"</thead><tbody>{''.join(rows)}</tbody></table>"
    )


def _person(candidate: Candidate) -> str:
    if candidate.label == candidate.external_id:
        return text_of(candidate.label)
    return f"{text_of(candidate.label)}<br><small>{text_of(candidate.external_id)}</small>"


def _candidate(session: Session, found: Found, face: str, identity_id: str) -> Candidate:
    require(identity_id, session.texts("search.no_candidate"))
    return next(item for item in found.face(face).candidates if str(item.identity_id) == identity_id)


def _box(found: Found, face: str) -> tuple[float, float, float, float]:
    chosen = found.face(face).face
    assert chosen is not None  # a search with a picture returns the face
    return chosen.box


def _register(
    session: Session, found: Found, face: str, label: str, external_id: str | None, force: bool
) -> RegisterResponse:
    return session.registry.register(
        label,
        found.file,
        collection=session.collection,
        external_id=external_id,
        face="box",
        boxes=[_box(found, face)],
        force=force or None,
    )
