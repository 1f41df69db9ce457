"""What a model was made of, and the terms that follow from it.

The terms of a model are computed from those of its origins: pictures, initial weights, teachers and training software.
They state what the publishers of the origins state; they are no legal advice.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from pydantic import Field

from service.strict_model import Strict

NOT_STATED = "not stated"


class Use(StrEnum):
    """What the terms permit, the most restrictive first."""

    RESEARCH = "research"
    """Research and evaluation, no commercial use."""
    UNKNOWN = "unknown"
    COPYLEFT = "copyleft"
    """Any use; whoever distributes a work based on it, or serves one over a network, must publish its source."""
    ANY = "any"
    """Any use, under the conditions of the terms, such as naming the author."""


class Origin(Strict):
    """Something that a model was made of. `terms`: name of a licence, or what its publisher states."""

    name: str = Field(min_length=1)
    terms: str = Field(min_length=1)
    use: Use = Use.UNKNOWN

    def __str__(self) -> str:
        return f"{self.name} ({self.terms})"


@dataclass(frozen=True)
class StatedTerms:
    """What the user who imports weights states about them. `data`: their training data."""

    data: str
    terms: str
    use: Use = Use.UNKNOWN


class Provenance(Strict):
    """Origin of the weights and the terms of their use.

    Attributes:
        use: What all origins permit; unknown in bundles of release 0.3.0 and before.
        origins: Everything that the model was made of; empty in such bundles.
    """

    created: str
    data: list[str]
    terms: str
    config_sha256: str
    initialised_from: str
    use: Use = Use.UNKNOWN
    origins: tuple[Origin, ...] = ()


def combined_use(origins: Sequence[Origin]) -> Use:
    """Returns what every origin permits; unknown if there is no origin."""
    uses = {origin.use for origin in origins}
    return next((use for use in Use if use in uses), Use.UNKNOWN)


def combined_terms(origins: Sequence[Origin]) -> str:
    """Returns the terms of something that was made of these origins, as a sentence."""
    use = combined_use(origins)
    decisive = "; ".join(str(origin) for origin in origins if origin.use is use)
    everything = "; ".join(str(origin) for origin in origins)
    return {
        Use.RESEARCH: f"research and evaluation only, because of {decisive}",
        Use.UNKNOWN: f"unknown, because of {decisive or 'unknown origins'}",
        Use.COPYLEFT: f"any use, with the source code of works that are based on {decisive}; all: {everything}",
        Use.ANY: f"any use under the terms of {everything}",
    }[use]
