"""The tab that enrols people."""

import json
from collections.abc import Sequence
from typing import Any

import gradio

from identity_registry.errors import InvalidRequest
from identity_registry.inputs import FaceChoice
from identity_registry.responses.recognition import ImageOutcome, RegisterResponse
from service.studio import outcomes, pictures, samples
from service.studio.pictures import text_of
from service.studio.sessions import Session
from service.studio.ui import Ui, UserError, require

MAX_PHOTOS = 20


def build(ui: Ui, _: gradio.Tab) -> None:
    """Adds the fields, the results and their handlers."""
    texts = ui.texts
    with gradio.Row():
        with gradio.Column():
            photos = gradio.Gallery(
                label=texts("register.photos"),
                sources=["upload", "webcam", "clipboard"],
                file_types=["image"],
                interactive=True,
                columns=3,
                height=280,
                elem_id="register-photos",
            )
            name = gradio.Textbox("", label=texts("register.name"), max_length=200, elem_id="register-name")
            with gradio.Accordion(texts("register.more"), open=False):
                external_id = gradio.Textbox(
                    "", label=texts("register.external_id"), info=texts("register.external_id_info"), max_length=200
                )
                metadata = gradio.Textbox(
                    "", label=texts("register.metadata"), info='{"team": "engines"}', max_length=4000, lines=2
                )
                face = gradio.Dropdown(
                    label=texts("register.which_face"),
                    choices=[(texts(f"register.{name}"), name) for name in ("only", "largest", "strongest")],
                    value="only",
                )
                force = gradio.Checkbox(label=texts("register.force"), value=False)
            button = gradio.Button(texts("register.button"), variant="primary", elem_id="register-button")
        with gradio.Column():
            summary = gradio.Markdown(elem_id="register-summary", container=True, min_height=60)
            results = gradio.Gallery(
                label=texts("register.results"), columns=2, object_fit="contain", format="jpeg", buttons=["fullscreen"]
            )
            alike = gradio.Gallery(
                label=texts("register.alike"), columns=4, object_fit="contain", format="jpeg", visible=False
            )
    ui.on(button.click, register, [photos, name, external_id, metadata, face, force], [summary, results, alike])


def register(
    session: Session,
    photos: Sequence[tuple[str, str | None]] | None,
    name: str,
    external_id: str,
    metadata: str,
    face: FaceChoice,
    force: bool,
) -> tuple[str, list[Any], Any]:
    """Enrols a person. Returns the summary, the photos with their outcomes, and similar people beside them."""
    texts = session.texts
    files = [file for file, _ in require(photos, texts("register.no_photo"))]
    if len(files) > MAX_PHOTOS:
        raise UserError(texts("register.too_many", count=MAX_PHOTOS))
    require(name.strip() or external_id.strip(), texts("register.no_name"))
    try:
        response = session.registry.register(
            name.strip() or None,
            files,
            collection=session.collection,
            external_id=external_id.strip() or None,
            metadata=_metadata(session, metadata),
            face=face,
            force=force or None,
        )
    except InvalidRequest as error:
        if error.code != "no_image_accepted" and not (error.pointer or "").startswith("/image"):
            raise
        rejected = outcomes.of_error(error)
        summary = "\n\n".join([f"### {texts('register.none')}", *_reasons(session, rejected)])
        return summary, outcomes.gallery(texts, files, rejected), gradio.update(visible=False)
    alike = _alike(session, files, response)
    shown = outcomes.gallery(texts, files, response.images)
    return _summary(session, response), shown, gradio.update(value=alike, visible=bool(alike))


def _metadata(session: Session, text: str) -> dict[str, Any] | None:
    if not text.strip():
        return None
    try:
        document = json.loads(text)
    except ValueError as error:
        raise UserError(session.texts("register.bad_metadata", reason=error)) from error
    if not isinstance(document, dict):
        raise UserError(session.texts("register.bad_metadata", reason="{…}"))
    return document


def _summary(session: Session, response: RegisterResponse) -> str:
    texts = session.texts
    accepted = sum(image.status == "accepted" for image in response.images)
    key = "register.created" if response.created else "register.added"
    lines = [f"### {texts(key, name=text_of(response.label))}"]
    lines.append(
        texts("register.counts", accepted=accepted, photos=len(response.images), total=response.template_count)
    )
    lines += _reasons(session, response.images)
    lines += [
        f"- ⚠ {texts('register.similar_to', name=text_of(other.label), score=f'{other.score:.2f}')}"
        for other in response.duplicate_candidates
    ]
    if response.duplicate_candidate_count > len(response.duplicate_candidates):
        lines.append(f"- ⚠ {texts('register.similar_count', count=response.duplicate_candidate_count)}")
    return "\n\n".join(lines)


def _reasons(session: Session, images: Sequence[ImageOutcome]) -> list[str]:
    """Returns a line for each photo that was not enrolled, or that may show another person."""
    return [
        f"- {session.texts('register.photo', number=number)}: {text_of(outcomes.caption(session.texts, image))}"
        for number, image in enumerate(images, 1)
        if image.status != "accepted" or image.outlier
    ]


def _alike(session: Session, files: Sequence[str], response: RegisterResponse) -> list[tuple[Any, str]]:
    """Returns the faces that need a look: outliers beside an accepted face, and stored faces of similar people."""
    texts = session.texts
    outliers = [image for image in response.images if image.outlier]
    if not outliers and not response.duplicate_candidates:
        return []
    faces = [_crop(file, image) for file, image in zip(files, response.images, strict=False)]
    first = next((crop for crop, image in zip(faces, response.images, strict=False) if _is_normal(image)), None)
    shown: list[tuple[Any, str]] = [] if first is None else [(first, text_of(response.label))]
    for crop, image in zip(faces, response.images, strict=False):
        if image.outlier and crop is not None:
            shown.append((crop, texts("register.outlier", similarity=f"{image.similarity:.2f}")))
    stored = samples.first_of_each(session, [str(other.identity_id) for other in response.duplicate_candidates])
    shown += [
        (stored[str(other.identity_id)], f"{text_of(other.label)} · {other.score:.2f}")
        for other in response.duplicate_candidates
        if str(other.identity_id) in stored
    ]
    return shown if len(shown) > 1 else []


def _is_normal(image: ImageOutcome) -> bool:
    return image.status == "accepted" and not image.outlier


def _crop(file: str, image: ImageOutcome) -> Any:
    pixels = pictures.upright(file) if image.face is not None else None
    return None if pixels is None or image.face is None else pictures.crop(pixels, image.face)
