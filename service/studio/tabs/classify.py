"""The tab of the closed-set classifier: the most probable people of each face."""

from typing import Any

import gradio

from identity_registry.responses.recognition import PredictedFace
from service.live.drawing import MATCH
from service.studio import pictures
from service.studio.sessions import Session
from service.studio.tabs.verify import picture
from service.studio.ui import Ui, require

TOP = 3


def build(ui: Ui, _: gradio.Tab) -> None:
    """Adds the field, the results and their handler."""
    texts = ui.texts
    gradio.Markdown(texts("classify.info"))
    with gradio.Row():
        with gradio.Column():
            photo = picture(texts("search.photo"), "classify-photo")
            button = gradio.Button(texts("classify.button"), variant="primary", elem_id="classify-button")
        with gradio.Column():
            shown = gradio.Image(label=texts("search.faces"), interactive=False, format="jpeg", buttons=["fullscreen"])
            guesses = gradio.Label(label=texts("classify.guesses"), num_top_classes=TOP, elem_id="classify-guesses")
    ui.on(button.click, classify, [photo], [shown, guesses])


def classify(session: Session, photo: str | None) -> tuple[Any, dict[str, float]]:
    """Returns the photo with a name for each face, and the probabilities of the most certain face."""
    file = require(photo, session.texts("verify.no_picture"))
    response = session.registry.predict(file, collection=session.collection, face="all", top_k=TOP)
    pixels = pictures.upright(file)
    labels = [_label(face) for face in response.faces]
    colors = [MATCH] * len(labels)
    shown = (
        file if pixels is None else pictures.annotated(pixels, [item.face for item in response.faces], labels, colors)
    )
    strongest = max(response.faces, key=lambda item: item.face.detection_score)
    return shown, {guess.label: guess.probability for guess in strongest.guesses}


def _label(face: PredictedFace) -> str:
    return f"{face.guesses[0].label} {face.guesses[0].probability:.0%}"
