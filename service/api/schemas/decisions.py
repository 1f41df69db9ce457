"""The part of a response that documents the decision."""

from typing import Any

from pydantic import BaseModel, Field

from service.inference.calibration import Interval
from service.recognition.operating_point import Rate


class DecisionView(BaseModel):
    threshold: float = Field(
        description="lowest score that is a match. In a search with `fmr` it is that of an identity with one template; "
        "each candidate has its own `threshold`, which applies to it"
    )
    fmr: float | None = Field(description="false match rate against one identity at the threshold; null: unknown")
    fmr_interval: Interval | None = Field(description="95 % confidence interval of `fmr`")
    fpir: float | None = Field(
        description="false positive identification rate of a search at the threshold; null: unknown, or no search"
    )
    fpir_interval: Interval | None = Field(description="95 % confidence interval of `fpir`")
    note: str | None = Field(
        None, description="why the default rate of searches does not apply; null: it does, or the request names a rate"
    )
    model_id: str
    precision: str


def decision_fields(
    threshold: float, fmr: Rate | None, fpir: Rate | None, model_id: str, precision: str, note: str | None = None
) -> dict[str, Any]:
    """Returns the values of `DecisionView`."""
    return {
        "threshold": threshold,
        "fmr": None if fmr is None else _significant(fmr.value),
        "fmr_interval": None if fmr is None else _interval(fmr),
        "fpir": None if fpir is None else _significant(fpir.value),
        "fpir_interval": None if fpir is None else _interval(fpir),
        "model_id": model_id,
        "precision": precision,
        "note": note,
    }


def _interval(rate: Rate) -> Interval | None:
    return None if rate.interval is None else (_significant(rate.interval[0]), _significant(rate.interval[1]))


def _significant(rate: float) -> float:
    """Rounds to four significant digits; no rate is measured more precisely."""
    return float(f"{rate:.4g}")
