"""The tab that shows the state of the registry: calibration, effect of the rates, jobs, models, gallery report."""

import itertools

import gradio

from identity_registry.errors import CalibrationNotFound, NotAllowed
from identity_registry.responses.models import Calibration, Model
from service.studio.pictures import text_of
from service.studio.rates import count_text
from service.studio.sessions import Session
from service.studio.tabs import gallery_report
from service.studio.thumbnails import svg_as_data_url
from service.studio.ui import Ui

MAX_JOBS = 20
REFRESH_S = 5.0


def build(ui: Ui, tab: gradio.Tab) -> None:
    """Adds the state, and a button that reads it again."""
    texts = ui.texts
    button = gradio.Button(texts("health.refresh"), size="sm", elem_id="health-refresh")
    state = gradio.HTML(elem_id="health-state")
    with gradio.Row():
        rates = gradio.HTML(elem_id="health-rates")
        curve = gradio.HTML(elem_id="health-curve")
    jobs = gradio.HTML(elem_id="health-jobs")
    gallery_report.build(ui)
    for event in (tab.select, button.click):
        ui.on(event, read_state, [], [state, rates, curve])
        ui.on(event, read_jobs, [], [jobs])
    # Progress of running jobs, while the page is open.
    ui.on(gradio.Timer(REFRESH_S).tick, read_jobs, [], [jobs], show_progress="hidden")


def read_state(session: Session) -> tuple[str, str, str]:
    """Returns collection and models, the effect of each rate, and the DET curve."""
    collection = session.read_collection()
    ready = session.registry.readyz()
    models = list(session.registry.list_models())
    rates, curve = _calibration(session, collection.model_id, collection.identity_count)
    facts = {
        "state": f"{text_of(ready.status)} · {text_of(ready.inference)} · {text_of(ready.schema_revision)}",
        "collection": text_of(collection.name),
        "people": count_text(session.texts, collection.identity_count),
        "model": text_of(collection.model_id),
        "migration": text_of(collection.secondary_model_id or "-"),
        "quality": text_of(collection.quality),
        "duplicates": text_of(collection.duplicates),
        "crops": session.texts("health.yes" if collection.store_crops else "health.no"),
        "models": ", ".join(_model(session, model) for model in models),
    }
    rows = "".join(
        f"<tr><th scope='row'>{session.texts(f'health.{name}')}</th><td>{value}</td></tr>"
        for name, value in facts.items()
    )
    return f"<table class='candidates'>{rows}</table>", rates, curve


def read_jobs(session: Session) -> str:
    """Returns the newest jobs of the collection with their progress."""
    texts = session.texts
    try:
        jobs = list(itertools.islice(session.registry.list_jobs(collection=session.collection), MAX_JOBS))
    except NotAllowed:
        return ""
    if not jobs:
        return f"<p>{texts('health.no_jobs')}</p>"
    rows = []
    for job in jobs:
        done = ""
        if not job.finished:
            detail = session.registry.read_job(job.id, collection=session.collection)
            done = f"<progress max='{detail.total or 1}' value='{detail.done}'></progress> {detail.done}/{detail.total}"
        rows.append(
            f"<tr><th scope='row'>{text_of(job.kind)}</th><td>{text_of(job.state)}</td><td>{done}</td>"
            f"<td>{job.created_at:%Y-%m-%d %H:%M}</td><td>{text_of(job.problem or '')}</td></tr>"
        )
    heads = "".join(
        f"<th scope='col'>{texts(f'health.{name}')}</th>" for name in ("job", "state", "progress", "since", "problem")
    )
    return f"<table class='candidates'><thead><tr>{heads}</tr></thead><tbody>{''.join(rows)}</tbody></table>"


def _calibration(session: Session, model_id: str, people: int) -> tuple[str, str]:
    try:
        calibration = session.registry.read_calibration(model_id).calibration
    except CalibrationNotFound:
        return f"<p>{session.texts('health.uncalibrated')}</p>", ""
    curve = ""
    if calibration.picture is not None:
        address = svg_as_data_url(session.registry.read_det_curve(model_id))
        curve = f"<img src='{address}' alt='{session.texts('health.curve')}' style='max-width:100%'>"
    return _rates(session, calibration, people), curve


def _percent(rate: float | None) -> str:
    return "" if rate is None else f"{rate:.1%}"


def _rates(session: Session, calibration: Calibration, people: int) -> str:
    """Returns for each rate: threshold, missed matches, and false matches of 1,000 searches in this gallery."""
    texts = session.texts
    rows = "".join(
        f"<tr><th scope='row'>{point.fmr:g}</th><td>{point.threshold:.3f}</td><td>{_percent(point.fnmr)}</td>"
        f"<td>{_false_matches(point.fmr, people):.3g}</td></tr>"
        for point in calibration.points
    )
    heads = "".join(f"<th scope='col'>{texts(f'health.{name}')}</th>" for name in ("fmr", "threshold", "fnmr", "false"))
    note = texts(
        "health.measured",
        impostors=count_text(texts, calibration.impostor_pairs),
        genuine=count_text(texts, calibration.genuine_pairs),
        data=text_of(calibration.data),
    )
    table = f"<table class='candidates'><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table>"
    return f"<h3>{texts('health.effect', people=count_text(texts, people))}</h3>{table}<p><small>{note}</small></p>"


def _false_matches(fmr: float, people: int) -> float:
    """Returns the expected number of 1,000 searches for strangers that match somebody, without score correction.

    Comparisons with different people are taken as independent: 1 - (1 - FMR)^N (ISO/IEC 19795-1).
    """
    return 1000 * (1 - (1 - fmr) ** people)


def _model(session: Session, model: Model) -> str:
    kind = "health.calibrated" if model.calibrated else "health.not_calibrated"
    return f"{text_of(model.id)} ({model.dim}, {text_of(model.precision)}, {session.texts(kind)})"
