"""Codes of bits tell angles apart, the same on every machine."""

import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.gallery.index.codes import code_of, codes_of
from service.gallery.storage.tables import CODE_BITS


def unit(random: np.random.Generator, count: int, dim: int) -> np.ndarray:
    vectors = random.standard_normal((count, dim))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def distance(one: str, other: str) -> int:
    return sum(a != b for a, b in zip(one, other, strict=True))


def test_a_worked_code() -> None:
    """By hand: one number is turned into itself with a sign for every bit, whatever its size."""
    positive = code_of(np.array([1.0], np.float32))
    assert code_of(np.array([0.25], np.float32)) == positive
    assert distance(positive, code_of(np.array([-1.0], np.float32))) == CODE_BITS
    signs = [hashlib.sha256(f"{turn}/1/0".encode()).digest()[0] >> 7 for turn in range(CODE_BITS)]
    assert positive == "".join(map(str, signs))


def test_codes_stay_what_they_are() -> None:
    """They are stored: another release, library or machine must make the same ones."""
    code = code_of(unit(np.random.default_rng(11), 1, 128)[0])
    assert hashlib.sha256(code.encode()).hexdigest()[:16] == "877bef30886e0c90"


@given(st.integers(8, 1100), st.integers(0, 2**32 - 1))
def test_every_dimension_has_a_code_and_its_opposite_the_opposite_one(dim: int, seed: int) -> None:
    vector = unit(np.random.default_rng(seed), 1, dim)[0]
    code = code_of(vector)
    assert len(code) == CODE_BITS
    assert set(code) <= {"0", "1"}
    assert distance(code, code_of(-vector)) == CODE_BITS
    assert code == code_of(vector * np.float32(4))


@pytest.mark.parametrize("dim", [32, 128, 160, 512, 768])
def test_the_share_of_other_bits_is_the_angle(dim: int) -> None:
    """In parts of a half turn, with the spread of so many independent bits."""
    random = np.random.default_rng(1)
    base = unit(random, 200, dim)
    for cosine in (-0.5, 0.0, 0.5, 0.9):
        noise = unit(random, 200, dim)
        noise -= (noise * base).sum(axis=1, keepdims=True) * base
        noise /= np.linalg.norm(noise, axis=1, keepdims=True)
        other = (cosine * base + np.sqrt(1 - cosine**2) * noise).astype(np.float32)
        pairs = zip(codes_of(base), codes_of(other), strict=True)
        shares = np.array([distance(one, two) for one, two in pairs]) / CODE_BITS
        expected = np.arccos(cosine) / np.pi
        assert abs(shares.mean() - expected) < 0.01
        assert shares.std() < 2.5 * np.sqrt(expected * (1 - expected) / CODE_BITS)
