from pathlib import Path

from service import errors

PAGE = Path(__file__).parents[2] / "docs" / "problems.md"


def kinds(kind: type[errors.RegistryError]) -> list[type[errors.RegistryError]]:
    return [kind, *(deeper for child in kind.__subclasses__() for deeper in kinds(child))]


def test_every_code_has_a_paragraph_with_its_status_and_title() -> None:
    text = PAGE.read_text()
    for kind in kinds(errors.RegistryError)[1:]:
        assert f"### `{kind.code}`" in text, kind.code
        paragraph = text.split(f"### `{kind.code}`")[1].split("###")[0]
        assert str(kind.status) in paragraph
        assert kind.title in paragraph


def test_every_paragraph_has_a_code() -> None:
    codes = {kind.code for kind in kinds(errors.RegistryError)[1:]}
    headings = {line[5:].strip("`") for line in PAGE.read_text().splitlines() if line.startswith("### `")}
    assert headings == codes


def test_codes_are_unique() -> None:
    codes = [kind.code for kind in kinds(errors.RegistryError)[1:]]
    assert len(codes) == len(set(codes))
