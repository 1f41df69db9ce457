"""The candidates of a search: limits of their number and size, and the decision about each."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from service.errors import RateNotCalibrated, ResponseTooLarge
from service.gallery.search.results import Candidate
from service.recognition.decision import Decision

ITEM_BYTES = 600
"""Bytes of an item of a response without its metadata, rounded up."""


@dataclass(frozen=True, slots=True)
class ResponseLimits:
    """Maximum number of candidates of a search, and maximum size of a response in bytes."""

    max_candidates: int = 2000
    max_bytes: int = 8 * 1024**2

    def require_candidates(self, faces: int, top_k: int) -> None:
        """Raises ResponseTooLarge if `faces` results with `top_k` candidates each exceed the limit."""
        if faces * top_k > self.max_candidates:
            raise ResponseTooLarge(
                f"{faces} faces with top_k={top_k} have up to {faces * top_k:,} candidates; at most "
                f"{self.max_candidates:,} are allowed (limits.max_candidates): lower top_k",
                pointer="/top_k",
            )

    def require_bytes(self, metadata: Iterable[dict[str, Any] | None]) -> None:
        """Raises ResponseTooLarge if items with this metadata exceed the limit; None: the item has none."""
        size = 0
        for item in metadata:
            size += ITEM_BYTES + (len(json.dumps(item)) if item else 0)
            if size > self.max_bytes:
                raise ResponseTooLarge(
                    f"the response has more than {self.max_bytes:,} bytes (limits.max_response_bytes); request fewer "
                    "items, or omit the metadata with fields=label"
                )


@dataclass(frozen=True, slots=True)
class CandidateDecision:
    """The decision.

    Attributes:
        match: False if the decision is undecided.
        threshold: that of an identity with this number of templates; None: undecided.
        undecided: the reason why there is no decision; None: there is one.
    """

    match: bool
    threshold: float | None
    undecided: str | None = None


def decide(decision: Decision, candidate: Candidate) -> CandidateDecision:
    """Decides whether a candidate is a match that no correction overrules.

    For an identity with so many templates that its threshold is beyond the calibration, the result is undecided: one
    such identity must not make a search fail.
    """
    try:
        threshold = decision.threshold_at(candidate.score, candidate.template_count)
    except RateNotCalibrated as error:
        return CandidateDecision(False, None, error.detail)
    return CandidateDecision(candidate.score >= threshold and not candidate.overruled, threshold)
