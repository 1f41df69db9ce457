"""The generators of the documentation site render models, options and links as the pages expect."""

from pathlib import Path
from typing import Annotated, Literal

import pytest
from pydantic import BaseModel, Field

from tools.docs import hooks, links
from tools.docs.model_tables import ROOT, cell, field_rows, type_text


class Inner(BaseModel):
    size: int = 3


class Outer(BaseModel):
    """An example.

    Attributes:
        rate: share of the pictures,
            from 0 to 1.
        first, second: two paths.
    """

    rate: Annotated[float, Field(ge=0, le=1)] = 0.5
    limit: int | None = Field(None, ge=1, description="requests per minute")
    kind: Literal["fast", "exact"]
    first: Path = ROOT / "configs" / "train.yaml"
    second: Path | None = None
    inner: Inner = Inner()


def test_rows_contain_type_default_and_description() -> None:
    assert {name: tuple(rest) for name, *rest in field_rows(Outer)} == {
        "rate": ("number ≥ 0, ≤ 1", "`0.5`", "Share of the pictures, from 0 to 1."),
        "limit": ("integer ≥ 1 or unset", "unset", "Requests per minute."),
        "kind": ("`fast` or `exact`", "required", ""),
        "first": ("path", "`configs/train.yaml`", "Two paths."),
        "second": ("path or unset", "unset", "Two paths."),
        "inner": ("[Inner](#inner)", "its defaults", ""),
    }


def test_marker_includes_the_note_for_readers_of_the_repository() -> None:
    page = "Text.\n\n<!-- generated: cli -->\nA note\nof two lines.\n\n## Next\n"
    assert hooks.MARKER.sub("TABLE", page) == "Text.\n\nTABLE\n\n## Next\n"


def test_types_of_lists() -> None:
    assert type_text(list[str]) == "list of text"
    assert type_text(tuple[float, float]) == "[number, number]"


def test_cells_escape_markup_outside_code() -> None:
    assert cell("a <b> | `<c>`") == "a &lt;b&gt; \\| `<c>`"


@pytest.mark.parametrize(
    ("page", "link", "expected"),
    [
        ("how-to/a.md", "[x](../../deploy/systemd/)", "x"),
        ("how-to/a.md", "[x](../../configs/train.yaml)", "[x](../repository/configs/train.yaml)"),
        ("model-cards/embedder.md", "[x](../../NOTICE)", "[x](../notice.md)"),
        ("index.md", "[deploy](../deploy)", "deploy"),
        ("index.md", "[x](../Makefile)", "x"),
        ("repository/deploy/secrets/README.md", "[x](../../README.md)", "[x](../../../index.md)"),
        ("repository/deploy/secrets/README.md", "[x](../../docs/how-to/README.md)", "[x](../../../how-to/README.md)"),
        ("index.md", "[x](how-to/README.md#a)", "[x](how-to/README.md#a)"),
        ("index.md", "[x](https://example.org/a)", "[x](https://example.org/a)"),
        ("index.md", "[x](../no-such-file)", "[x](../no-such-file)"),
    ],
)  # fmt: skip
def test_links_that_leave_the_documentation(page: str, link: str, expected: str) -> None:
    assert links.rewrite(page, link, copied=lambda path: path.startswith("configs/")) == expected


def test_linked_repository_files_are_copied() -> None:
    pages = [("how-to/a.md", "[x](../../deploy/monitoring/alerts.yml) [y](../../NOTICE) [z](b.md)")]
    assert links.copied_files(iter(pages)) == {"deploy/monitoring/alerts.yml"}
