"""States which decisions the service's default settings make with a calibration, and which setting to change."""

import numpy as np

from service.inference.calibration import Calibration, rate_of_one
from trainer.embedder.calibration import MAX_PER_IDENTITY, MIN_PAIRS_ABOVE, RATES

DEFAULT_FMR = 1e-3
"""The service's `recognition.fmr`."""
DEFAULT_DUPLICATE_FPIR = 0.01
"""The service's `recognition.duplicate_fpir`."""


def largest_templates(calibration: Calibration, fmr: float = DEFAULT_FMR) -> int:
    """Returns the maximum number of templates of an identity at which a false match rate is calibrated; 0: none."""
    lowest = calibration.points[-1].fmr
    return int(np.log1p(-fmr) / np.log1p(-lowest) * (1 + 1e-9))


def covers(calibration: Calibration, templates: int, fmr: float = DEFAULT_FMR) -> bool:
    """Returns True if requests with this rate are decided for identities with this many templates."""
    return largest_templates(calibration, fmr) >= templates


def describe(calibration: Calibration, templates: int) -> str:
    """Describes the decisions of the service's default settings for identities with up to `templates` templates.

    Returns:
        A Markdown list.
    """
    most = largest_templates(calibration)
    lines = [_default_rate(most, templates)]
    if most < templates and (rate := _sufficient_rate(calibration, templates)) is not None:
        lines.append(
            f"- To decide about identities with {counted(templates)}, set `REGISTRY_RECOGNITION__FMR={rate:g}` or "
            f"send `fmr={rate:g}` with a request; the command that serves the model sets it. Or measure more people: "
            f"about {_sufficient_people(templates)} held-out people with {max(templates, 2)} photos each reach the "
            f"default (now {calibration.people})."
        )
    galleries = int(np.log1p(-DEFAULT_DUPLICATE_FPIR) / np.log1p(-calibration.points[-1].fmr) * (1 + 1e-9))
    lines.append(
        f"- Collections with `duplicates: warn` or `reject` search for duplicates among up to {counted(galleries)} "
        f"(`recognition.duplicate_fpir={DEFAULT_DUPLICATE_FPIR:g}`)."
        if galleries
        else "- Collections with `duplicates: warn` or `reject` cannot search for duplicates at the default "
        f"`recognition.duplicate_fpir={DEFAULT_DUPLICATE_FPIR:g}`; raise it."
    )
    return "\n".join(lines)


def default_setting(calibration: Calibration, templates: int) -> str:
    """Returns the environment variable with which the service decides by default; "" if it need not be set."""
    rate = None if covers(calibration, templates) else _sufficient_rate(calibration, templates)
    return "" if rate is None else f"REGISTRY_RECOGNITION__FMR={rate:g}"


def counted(templates: int) -> str:
    return "one template" if templates == 1 else f"{templates:,} templates"


def _default_rate(most: int, templates: int) -> str:
    name = f"- Requests without a rate use an FMR of {DEFAULT_FMR:g} (`recognition.fmr`)."
    if most >= templates:
        return f"{name} The service decides about identities with up to {counted(most)}."
    if most:
        return (
            f"{name} The service decides about identities with up to {counted(most)}; for larger ones the response is "
            "`undecided`."
        )
    return f"{name} The calibration does not reach it: such requests are refused (`rate_not_calibrated`)."


def _sufficient_people(templates: int) -> int:
    """Returns the number of people whose pictures form enough impostor pairs for the default rate."""
    needed = rate_of_one(DEFAULT_FMR, templates) * (1 + 1e-9)
    pairs = MIN_PAIRS_ABOVE / max((rate for rate in RATES if rate <= needed), default=needed)
    pictures = np.sqrt(2 * pairs)
    return int(np.ceil(pictures / min(max(templates, 2), MAX_PER_IDENTITY))) + 1


def _sufficient_rate(calibration: Calibration, templates: int) -> float | None:
    lowest = calibration.points[-1].fmr
    rates = sorted(rate for rate in RATES if rate <= calibration.points[0].fmr)
    return next((rate for rate in rates if rate_of_one(rate, templates) >= lowest), None)
