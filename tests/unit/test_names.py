"""The form in which names are compared."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.names import as_sent, comparable, forms


@pytest.mark.parametrize(
    ("sent", "compared"),
    [("Jose\u0301", "José"), (" Ada\t", "Ada"), ("\u212b", "Å"), ("ﬁ", "ﬁ"), ("a\u0327\u0301", "a\u0327\u0301")],
)
def test_worked_answers(sent: str, compared: str) -> None:
    """Compatibility characters such as ligatures stay: NFC is not NFKC."""
    assert comparable(sent) == unicodedata.normalize("NFC", compared)
    assert as_sent(sent) == (None if sent == comparable(sent) else sent)


@given(st.text())
def test_all_forms_of_a_name_are_the_same_name(name: str) -> None:
    variants = [name, f" {name}\n", *(unicodedata.normalize(form, name) for form in ("NFC", "NFD")), *forms(name)]
    assert {comparable(variant) for variant in variants} == {comparable(name)}
    assert comparable(comparable(name)) == comparable(name)
