"""`docs/reference/problems.md` describes every error code, and the site adds its status and title."""

import re
from pathlib import Path

from service.errors import RegistryError, all_errors
from tools.docs.problems import HEADING, add_titles

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "problems.md").read_text()


def paragraphs(text: str) -> dict[str, str]:
    """Returns the text below each code's heading, by code."""
    _, *parts = HEADING.split(text)
    bodies = (re.split(r"^## ", body, flags=re.MULTILINE)[0] for body in parts[1::2])
    return dict(zip(parts[::2], bodies, strict=True))


def all_codes() -> list[str]:
    return [kind.code for kind in all_errors(RegistryError)]


def test_the_page_describes_every_code_and_no_other() -> None:
    assert sorted(HEADING.findall(PAGE)) == sorted(all_codes())


def test_every_code_has_a_paragraph() -> None:
    assert [code for code, text in paragraphs(PAGE).items() if not text.strip()] == []


def test_the_site_shows_status_and_title_of_every_code() -> None:
    texts = paragraphs(add_titles(PAGE))
    for kind in all_errors(RegistryError):
        first_line = texts[kind.code].strip().splitlines()[0]
        assert first_line.startswith(f"**{kind.status}**")
        assert first_line.endswith(f"{kind.title}.")


def test_titles_are_sentences_without_a_full_stop() -> None:
    for kind in all_errors(RegistryError):
        assert kind.title[0].isupper()
        assert not kind.title.endswith(".")


def test_codes_are_unique() -> None:
    assert len(all_codes()) == len(set(all_codes()))
