"""The tab that names the people in front of the webcam."""

import time
import uuid
from dataclasses import dataclass, field
from typing import Any

import gradio

from identity_registry.errors import RegistryError
from service.live.labels import annotated
from service.live.recognition import LiveRecognition, OperatingPoint, Recognised, Sample
from service.studio import rates
from service.studio.pictures import text_of
from service.studio.rates import Strictness
from service.studio.sessions import Session
from service.studio.thumbnails import of_sample
from service.studio.ui import STATE_S, Ui, UserError, message, require
from service.vision.image import Pixels

FRAME_EVERY_S = 0.08
SESSION_S = 3600
"""Time after which the stream of a page ends."""
MAX_UNKNOWN = 12
"""Unknown faces that are kept for enrolment; the oldest ones are dropped."""
MEAN_OF = 20
"""Frames whose mean rate is shown."""


@dataclass(eq=False)
class Unknown:
    """A face that matches nobody. `sightings`: number of frames that show it."""

    track: int
    sample: Sample
    sightings: int


@dataclass(eq=False)
class LiveState:
    """The recognition of one page, and what it has seen.

    Attributes:
        key: collection, strictness and API key of the recognition; another value starts a new one.
        problem: error of the latest frame; empty: none.
        times: times at which the latest frames were processed, in seconds.
    """

    recognition: LiveRecognition | None = None
    key: tuple[object, ...] = ()
    unknown: dict[int, Unknown] = field(default_factory=dict)
    problem: str = ""
    times: list[float] = field(default_factory=list)

    def remember(self, face: Recognised) -> None:
        """Keeps an unknown face, and removes it when it is no longer unknown."""
        number = face.track.number
        if face.is_decided and face.match is None:
            self.unknown[number] = Unknown(number, face.sample, face.track.sightings)
            while len(self.unknown) > MAX_UNKNOWN:
                del self.unknown[min(self.unknown)]
        elif face.match is not None:
            self.unknown.pop(number, None)

    @property
    def rate(self) -> float:
        """Frames per second."""
        if len(self.times) < 2:
            return 0.0
        return (len(self.times) - 1) / max(self.times[-1] - self.times[0], 1e-6)


def build(ui: Ui, _: gradio.Tab) -> None:
    """Adds the camera, the picture with names, the unknown faces and their handlers."""
    texts = ui.texts
    state = gradio.State(time_to_live=STATE_S)
    with gradio.Row():
        with gradio.Column():
            camera = gradio.Image(
                label=texts("live.camera"), sources=["webcam"], streaming=True, type="numpy", elem_id="live-camera"
            )
            strictness = gradio.Dropdown(
                label=texts("rates.label"), choices=rates.choices(texts), value=rates.COLLECTION_DEFAULT
            )
        with gradio.Column():
            shown = gradio.Image(
                label=texts("live.people"), interactive=False, format="jpeg", buttons=[], elem_id="live-shown"
            )
            status = gradio.HTML(elem_id="live-status")
    with gradio.Row():
        with gradio.Column():
            unknown = gradio.HTML(elem_id="live-unknown")
        with gradio.Column():
            face = gradio.Dropdown(label=texts("live.unknown_face"), choices=[], elem_id="live-face")
            name = gradio.Textbox("", label=texts("register.name"), max_length=200, elem_id="live-name")
            enrol = gradio.Button(texts("search.enrol"), elem_id="live-enrol")
            note = gradio.Markdown(elem_id="live-note")
    ui.on(
        camera.stream,
        recognise,
        [state, camera, strictness, ui.api_key],
        [state, shown, status],
        stream_every=FRAME_EVERY_S,
        time_limit=SESSION_S,
        concurrency_limit=4,
        show_progress="hidden",
    )
    timer = gradio.Timer(1.0)
    ui.on(timer.tick, list_unknown, [state, face], [unknown, face], show_progress="hidden")
    ui.on(enrol.click, enrol_unknown, [state, face, name], [note])


def recognise(session: Session, state: LiveState | None, pixels: Pixels | None, strictness: str, api_key: str) -> Any:
    """Recognises a frame. Returns the state, the frame with names, and the people in it."""
    state = state or LiveState()
    if pixels is None:
        return state, None, ""
    state.times = [*state.times, time.monotonic()][-MEAN_OF:]
    try:
        faces = _recognition(session, state, strictness, api_key).see(pixels, state.times[-1]).faces
        state.problem = ""
    except RegistryError as error:
        state.problem = message(session.texts, error)
        return state, pixels, _status(session, state, [])
    for face in faces:
        state.remember(face)
    shown = annotated(pixels, faces, show_similarity=True, unknown=session.texts("search.unknown"))
    return state, shown, _status(session, state, faces)


def list_unknown(session: Session, state: LiveState | None, chosen: str | None) -> tuple[str, Any]:
    """Returns the unknown faces with counts as HTML, and as choices."""
    texts = session.texts
    faces = sorted(state.unknown.values() if state else (), key=lambda face: face.sightings, reverse=True)
    items = "".join(
        f"<figure><img src='{of_sample(face.sample)}' width='72' height='72' alt='#{face.track}'>"
        f"<figcaption>#{face.track} · {face.sightings}</figcaption></figure>"
        for face in faces
    )
    choices = [(texts("live.choice", track=face.track, sightings=face.sightings), str(face.track)) for face in faces]
    value = chosen if chosen in {key for _, key in choices} else (choices[0][1] if choices else None)
    title = f"<p>{texts('live.unknown', count=len(faces))}</p>"
    return f"{title}<div class='faces'>{items}</div>", gradio.update(choices=choices, value=value)


def enrol_unknown(session: Session, state: LiveState | None, chosen: str | None, name: str) -> str:
    """Enrols the best picture of an unknown face."""
    face = None if state is None else state.unknown.get(int(chosen or 0))
    if state is None or face is None:
        raise UserError(session.texts("live.no_face"))
    require(name.strip(), session.texts("register.no_name"))
    response = session.registry.register(
        name.strip(),
        face.sample.jpeg,
        collection=session.collection,
        face="box",
        boxes=[face.sample.box],
        idempotency_key=uuid.uuid4().hex,
    )
    state.unknown.pop(face.track, None)
    if state.recognition is not None:
        state.recognition.decide_again(face.track)
    return session.texts("register.created" if response.created else "register.added", name=text_of(response.label))


def _recognition(session: Session, state: LiveState, strictness: str, api_key: str) -> LiveRecognition:
    """Returns the recognition of the page; a new one after a change of the collection, the rate or the key."""
    key = (session.collection, strictness, api_key)
    if state.recognition is None or state.key != key:
        point = OperatingPoint(fmr=Strictness.of(strictness).fmr)
        state.recognition = LiveRecognition(session.registry, collection=session.collection, point=point)
        state.key = key
        state.unknown.clear()
    return state.recognition


def _status(session: Session, state: LiveState, faces: list[Recognised]) -> str:
    texts = session.texts
    if state.problem:
        return f"<p role='alert'>⚠ {text_of(state.problem)}</p>"
    names = [text_of(face.match.label) for face in faces if face.match is not None]
    seen = ", ".join(names) or texts("live.nobody")
    return f"<p role='status'><b>{seen}</b> <small>{texts('live.rate', rate=f'{state.rate:.0f}')}</small></p>"
