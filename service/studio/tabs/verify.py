"""The tab that compares a face with another one or with an enrolled person."""

import gradio

from identity_registry.errors import NotAllowed
from identity_registry.responses.identities import Identity
from identity_registry.responses.recognition import Face, VerifyResponse
from service.studio import pictures, rates, samples
from service.studio.pictures import text_of
from service.studio.rates import Strictness
from service.studio.sessions import Session, name_of
from service.studio.thumbnails import as_data_url
from service.studio.ui import Ui, require
from service.vision.image import Pixels


def build(ui: Ui, _: gradio.Tab) -> None:
    """Adds the fields, the results and their handlers."""
    texts = ui.texts
    with gradio.Row():
        first = picture(texts("verify.first"), "verify-first")
        with gradio.Column():
            second = picture(texts("verify.second"), "verify-second")
            person = gradio.Dropdown(
                label=texts("verify.person"),
                info=texts("verify.person_info"),
                choices=[],
                allow_custom_value=True,
                elem_id="verify-person",
            )
    strictness = gradio.Dropdown(
        label=texts("rates.label"), choices=rates.choices(texts), value=rates.COLLECTION_DEFAULT
    )
    button = gradio.Button(texts("verify.button"), variant="primary", elem_id="verify-button")
    result = gradio.HTML(elem_id="verify-result")
    crops = gradio.HTML(elem_id="verify-crops")
    ui.on(button.click, verify, [first, second, person, strictness], [result, crops])
    ui.on(person.focus, lambda session: gradio.update(choices=session.choices()), [], [person], show_progress="hidden")


def picture(label: str, elem_id: str) -> gradio.Image:
    """Returns a field for one picture: a file, the webcam or the clipboard."""
    return gradio.Image(
        label=label,
        sources=["upload", "webcam", "clipboard"],
        type="filepath",
        image_mode=None,
        height=320,
        buttons=["fullscreen"],
        elem_id=elem_id,
    )


def verify(
    session: Session, first: str | None, second: str | None, person: str | None, strictness: str
) -> tuple[str, str]:
    """Compares the first picture with the second one, or with a person. Returns the decision and both faces."""
    texts = session.texts
    require(first, texts("verify.no_picture"))
    require(second or person, texts("verify.no_other"))
    identity, external_id = _person(session, person if not second else None)
    response = session.registry.verify(
        first,
        second or None,
        collection=session.collection,
        identity_id=None if identity is None else identity.id,
        external_id=external_id,
        fmr=Strictness.of(strictness).fmr,
    )
    crops: list[tuple[Pixels | None, str]] = [_crop(first, response.face_a, texts("verify.first"))]
    if second:
        crops.append(_crop(second, response.face_b, texts("verify.second")))
    elif identity is not None and (stored := samples.of(session, str(identity.id))):
        crops.append((stored[0], name_of(identity)))
    return decision(session, response), _figures(crops)


def _person(session: Session, choice: str | None) -> tuple[Identity | None, str | None]:
    """Returns the chosen identity, or the typed external id if the key may not read identities."""
    if not choice:
        return None, None
    try:
        return session.find(choice), None
    except NotAllowed:
        return None, choice


def decision(session: Session, response: VerifyResponse) -> str:
    """Returns the decision as HTML: a heading, a scale with score and threshold, and the meaning in words."""
    texts = session.texts
    word, kind = ("verify.match", "match") if response.match else ("verify.no_match", "no-match")
    score, threshold = (max(0.0, min(1.0, value)) * 100 for value in (response.score, response.threshold))
    label = texts("verify.scale", score=f"{response.score:.3f}", threshold=f"{response.threshold:.3f}")
    note = f"<p>{texts('verify.overruled')}</p>" if response.overruled_by_correction else ""
    name = "" if response.identity is None else f" · {text_of(name_of(response.identity))}"
    return (
        f'<section class="decision {kind}" role="status"><h3>{texts(word)}{name}</h3>'
        f'<div class="scale" role="img" aria-label="{label}"><i class="score" style="width:{score:.1f}%"></i>'
        f'<b style="left:{threshold:.1f}%"></b></div><p>{label}</p><p>{rates.meaning(texts, response)}</p>{note}'
        "</section>"
    )


def _figures(crops: list[tuple[Pixels | None, str]]) -> str:
    figures = "".join(
        f"<figure><img src='{as_data_url(pixels)}' width='{pictures.CROP_SIDE}' height='{pictures.CROP_SIDE}' "
        f"alt='{text_of(caption)}'><figcaption>{text_of(caption)}</figcaption></figure>"
        for pixels, caption in crops
        if pixels is not None
    )
    return f"<div class='faces'>{figures}</div>"


def _crop(file: str | None, face: Face | None, caption: str) -> tuple[Pixels | None, str]:
    pixels = pictures.upright(file) if file is not None and face is not None else None
    return (None if pixels is None or face is None else pictures.crop(pixels, face)), caption
