"""Forms of external ids and labels. Systems write the same name as different Unicode texts."""

import unicodedata


def comparable(name: str) -> str:
    """Returns the form in which names are compared: NFC (Unicode Standard Annex 15), without surrounding spaces."""
    return unicodedata.normalize("NFC", name.strip())


def as_sent(name: str) -> str | None:
    """Returns the name if its form differs from the comparable one, otherwise None."""
    return None if comparable(name) == name else name


def forms(name: str) -> list[str]:
    """Returns the texts that programs write for a name: as it is, in NFC (Linux, Windows), and in NFD (macOS)."""
    composed = comparable(name)
    return sorted({name, composed, unicodedata.normalize("NFD", composed)})
