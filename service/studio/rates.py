"""Error rates in words, and the rates that users choose from."""

from dataclasses import dataclass

from identity_registry.responses.recognition import Decision
from service.studio.texts import Texts

RATES = (0.01, 0.003, 0.001, 0.0003, 0.0001, 0.00003, 0.00001)
"""False match rates from lenient to strict."""
COLLECTION_DEFAULT = "default"


@dataclass(frozen=True, slots=True)
class Strictness:
    """The false match rate of a request; None: the default of the collection."""

    fmr: float | None

    @classmethod
    def of(cls, choice: str) -> "Strictness":
        return cls(None if choice == COLLECTION_DEFAULT else float(choice))


def choices(texts: Texts) -> list[tuple[str, str]]:
    """Returns the rates with their meaning in words, for a list."""
    named = [(texts("rates.one_in", count=count_text(texts, _rounded(1 / rate))), f"{rate:g}") for rate in RATES]
    first, last = named[0], named[-1]
    named[0] = f"{first[0]} · {texts('rates.lenient')}", first[1]
    named[-1] = f"{last[0]} · {texts('rates.strict')}", last[1]
    return [(texts("rates.default"), COLLECTION_DEFAULT), *named]


def meaning(texts: Texts, decision: Decision) -> str:
    """Returns what the threshold of a decision means in words."""
    threshold = f"{decision.threshold:.3f}"
    if decision.fmr is None or decision.fmr <= 0:
        return texts("rates.uncalibrated", threshold=threshold)
    return texts("rates.meaning", threshold=threshold, count=count_text(texts, _rounded(1 / decision.fmr)))


def count_text(texts: Texts, value: float) -> str:
    """Returns a count in the notation of the language."""
    text = f"{value:,.0f}"
    return text.replace(",", ".") if texts.language == "de" else text


def _rounded(value: float) -> float:
    """Returns a number with two significant digits."""
    return float(f"{value:.2g}")
