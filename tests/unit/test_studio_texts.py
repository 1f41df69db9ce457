"""Tests of the studio's texts and rates."""

import re
import string
from pathlib import Path

import pytest

import service.studio
from identity_registry.responses.recognition import Decision
from service.studio import rates
from service.studio.texts import LANGUAGES, Texts, catalogue, preferred_language

FOLDER = Path(service.studio.__file__).parent
SOURCES = "\n".join(path.read_text() for path in FOLDER.rglob("*.py"))
USED = re.compile(r"""texts\(\s*f?["']([a-z_{}.]+)["']""")


def placeholders(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name is not None}


@pytest.mark.parametrize("key", sorted(catalogue()["en"]))
def test_every_language_has_each_text_with_the_same_placeholders(key: str) -> None:
    texts = [catalogue()[language][key] for language in LANGUAGES]
    assert all(text.strip() for text in texts)
    assert len({frozenset(placeholders(text)) for text in texts}) == 1


def test_every_text_that_the_studio_uses_exists() -> None:
    used = {key for key in USED.findall(SOURCES) if "{" not in key}
    assert len(used) > 80
    assert used - set(catalogue()["en"]) == set()


def test_every_text_is_used() -> None:
    """A text is used by its key, or by the last part of it. Codes of errors and outcomes come from the API."""

    def is_used(key: str) -> bool:
        section, name = key.split(".")
        is_composed = section == "errors" or name in {"tab", "accepted", "duplicate", "rejected"}
        return is_composed or any(quoted in SOURCES for quoted in (f'"{key}"', f"'{key}'", f'"{name}"'))

    assert [key for key in catalogue()["en"] if not is_used(key)] == []


@pytest.mark.parametrize(
    ("header", "language"),
    [
        ("", "en"),
        ("de", "de"),
        ("de-AT,de;q=0.9,en;q=0.8", "de"),
        ("en;q=0.5,de;q=0.4", "en"),
        ("fr,de;q=0.1", "de"),
        ("fr", "en"),
        ("*;q=x, ,;;;", "en"),
    ],
)
def test_the_language_is_that_which_the_browser_prefers(header: str, language: str) -> None:
    assert preferred_language(header) == language


def test_rates_are_explained_in_words() -> None:
    decision = Decision(threshold=0.44, fmr=0.0001, model_id="m", precision="f32")
    assert rates.meaning(Texts("en"), decision).endswith("of 10,000 strangers, one reaches it against a given person.")
    assert "10.000 Fremden" in rates.meaning(Texts("de"), decision)
    unknown = decision.model_copy(update={"fmr": None})
    assert "no calibration" in rates.meaning(Texts("en"), unknown)


def test_the_choices_go_from_lenient_to_strict() -> None:
    choices = rates.choices(Texts("en"))
    assert choices[0] == ("As the collection is set", "default")
    assert choices[1][0].startswith("one false match in 100 comparisons")
    values = [rates.Strictness.of(value).fmr for _, value in choices]
    assert values[0] is None
    assert values[1:] == sorted(values[1:], reverse=True)
