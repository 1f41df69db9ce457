"""The texts of the studio, from one catalogue with all languages (`texts.yaml`)."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml

LANGUAGES = {"en": "English", "de": "Deutsch"}
DEFAULT_LANGUAGE = "en"
CATALOGUE = Path(__file__).with_name("texts.yaml")


class Texts:
    """The texts of one language. Raises KeyError for a text that the catalogue does not contain."""

    def __init__(self, language: str) -> None:
        self.language = language
        self._texts = catalogue()[language]

    def __call__(self, key: str, **values: object) -> str:
        """Returns the text `section.name` with its placeholders filled in."""
        return self._texts[key].format_map(values)

    def __contains__(self, key: str) -> bool:
        return key in self._texts


@cache
def catalogue() -> dict[str, dict[str, str]]:
    """Returns the texts by language and key."""
    texts: dict[str, dict[str, str]] = {language: {} for language in LANGUAGES}
    document: Mapping[str, Any] = yaml.safe_load(CATALOGUE.read_text(encoding="utf-8"))
    for section, entries in document.items():
        for name, by_language in entries.items():
            for language in LANGUAGES:
                texts[language][f"{section}.{name}"] = by_language[language].rstrip("\n")
    return texts


def preferred_language(accept_language: str) -> str:
    """Returns the supported language that an Accept-Language header (RFC 9110, 12.5.4) prefers."""
    weighted = []
    for entry in accept_language.split(","):
        tag, _, quality = entry.partition(";")
        name = tag.strip().lower().split("-")[0]
        if name in LANGUAGES:
            weighted.append((_quality(quality), name))
    return max(weighted, key=lambda item: item[0], default=(1.0, DEFAULT_LANGUAGE))[1]


def _quality(parameter: str) -> float:
    try:
        return float(parameter.strip().removeprefix("q="))
    except ValueError:
        return 1.0
