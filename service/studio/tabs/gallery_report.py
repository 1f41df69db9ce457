"""The section of the tab Health that lists people who may be enrolled twice and templates that may be misplaced."""

import gradio

from identity_registry.responses.collections import GalleryReport, Outlier, Person, SimilarPair
from service.studio import samples
from service.studio.pictures import text_of
from service.studio.rates import count_text
from service.studio.sessions import Session
from service.studio.texts import Texts
from service.studio.thumbnails import as_data_url
from service.studio.ui import Ui
from service.vision.image import Pixels

PICTURED = 10
"""Number of listed pairs with pictures. Each picture is read with an export, which the audit trail records."""


def build(ui: Ui) -> None:
    """Adds a button that compares all templates, and the report."""
    with gradio.Accordion(ui.texts("report.title"), open=False):
        gradio.Markdown(ui.texts("report.info"))
        button = gradio.Button(ui.texts("report.button"), elem_id="report-button")
        report = gradio.HTML(elem_id="report")
    ui.on(button.click, read_report, [], [report])


def read_report(session: Session) -> str:
    """Compares the templates of the collection and returns the report."""
    report = session.registry.read_gallery_report(session.collection)
    if not report.compared_templates:
        return f"<p>{session.texts('report.empty')}</p>"
    pairs = report.duplicates[:PICTURED]
    shown = dict.fromkeys(str(person.identity_id) for pair in pairs for person in (pair.first, pair.second))
    faces = samples.first_of_each(session, list(shown))
    return _summary(session.texts, report) + _pairs(session.texts, report, faces) + _outliers(session.texts, report)


def _summary(texts: Texts, report: GalleryReport) -> str:
    parts = {
        "templates": count_text(texts, report.templates),
        "compared": count_text(texts, report.compared_templates),
        "people": count_text(texts, report.identities),
        "threshold": f"{report.threshold:.3f}",
        "measured": f"{report.measured_fpir:.2%}",
    }
    return f"<p>{texts('report.summary', **parts)}</p>"


def _pairs(texts: Texts, report: GalleryReport, faces: dict[str, Pixels]) -> str:
    rows = [_pair(texts, pair, faces) for pair in report.duplicates]
    found = texts(
        "report.pairs_found",
        count=count_text(texts, report.duplicate_count),
        threshold=f"{report.duplicate_threshold:.3f}",
    )
    heads = ("person", "person", "score", "remark")
    return f"<h3>{texts('report.pairs')}</h3><p>{found}</p>{_table(texts, heads, rows)}"


def _pair(texts: Texts, pair: SimilarPair, faces: dict[str, Pixels]) -> list[str]:
    remark = texts("report.one_person") if pair.candidate else ""
    return [_name(pair.first, faces), _name(pair.second, faces), f"{pair.score:.3f}", remark]


def _outliers(texts: Texts, report: GalleryReport) -> str:
    heads = ("person", "template", "own", "nearest", "other")
    table = _table(texts, heads, [_outlier(outlier) for outlier in report.outliers])
    found = texts("report.outliers_found", count=count_text(texts, report.outlier_count))
    return f"<h3>{texts('report.outliers')}</h3><p>{found}</p>{table}"


def _outlier(outlier: Outlier) -> list[str]:
    nearest = "" if outlier.nearest is None else _name(outlier.nearest, {})
    score = "" if outlier.nearest_similarity is None else f"{outlier.nearest_similarity:.3f}"
    template = f"<code>{outlier.template_id}</code>"
    return [_name(outlier.person, {}), template, f"{outlier.similarity:.3f}", nearest, score]


def _name(person: Person, faces: dict[str, Pixels]) -> str:
    face = faces.get(str(person.identity_id))
    picture = "" if face is None else f"<img src='{as_data_url(face)}' alt='' width='56' height='56'> "
    return picture + text_of(person.label or person.external_id)


def _table(texts: Texts, heads: tuple[str, ...], rows: list[list[str]]) -> str:
    if not rows:
        return ""
    head = "".join(f"<th scope='col'>{texts(f'report.{name}')}</th>" for name in heads)
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table class='candidates'><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
