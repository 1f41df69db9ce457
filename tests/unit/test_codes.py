"""Binary codes estimate angles and are the same on every machine."""

import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.gallery.index.centroids import binary_code, binary_codes
from service.gallery.storage.tables import CODE_BITS


def unit(random: np.random.Generator, count: int, dim: int) -> np.ndarray:
    vectors = random.standard_normal((count, dim))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def distance(a: str, b: str) -> int:
    """Returns the Hamming distance of two codes."""
    return sum(bit != other for bit, other in zip(a, b, strict=True))


def test_the_code_of_a_vector_with_one_dimension_is_the_list_of_signs() -> None:
    """In one dimension each rotation is a multiplication by a sign."""
    positive = binary_code(np.array([1.0], np.float32))
    assert binary_code(np.array([0.25], np.float32)) == positive
    assert distance(positive, binary_code(np.array([-1.0], np.float32))) == CODE_BITS
    signs = [hashlib.sha256(f"{rotation}/1/0".encode()).digest()[0] >> 7 for rotation in range(CODE_BITS)]
    assert positive == "".join(map(str, signs))


def test_codes_never_change() -> None:
    """The database stores codes, so every release, library version and machine must compute the same ones."""
    code = binary_code(unit(np.random.default_rng(11), 1, 128)[0])
    assert hashlib.sha256(code.encode()).hexdigest()[:16] == "877bef30886e0c90"


@given(st.integers(8, 1100), st.integers(0, 2**32 - 1))
def test_a_code_ignores_length_and_the_opposite_vector_has_the_opposite_code(dim: int, seed: int) -> None:
    vector = unit(np.random.default_rng(seed), 1, dim)[0]
    code = binary_code(vector)
    assert len(code) == CODE_BITS
    assert set(code) <= {"0", "1"}
    assert distance(code, binary_code(-vector)) == CODE_BITS
    assert code == binary_code(vector * np.float32(4))


@pytest.mark.parametrize("dim", [32, 128, 160, 512, 768])
def test_the_proportion_of_different_bits_is_the_angle_divided_by_pi(dim: int) -> None:
    """The spread is that of 512 independent bits, with a margin."""
    random = np.random.default_rng(1)
    base = unit(random, 200, dim)
    for cosine in (-0.5, 0.0, 0.5, 0.9):
        noise = unit(random, 200, dim)
        noise -= (noise * base).sum(axis=1, keepdims=True) * base
        noise /= np.linalg.norm(noise, axis=1, keepdims=True)
        other = (cosine * base + np.sqrt(1 - cosine**2) * noise).astype(np.float32)
        pairs = zip(binary_codes(base), binary_codes(other), strict=True)
        proportions = np.array([distance(one, two) for one, two in pairs]) / CODE_BITS
        expected = np.arccos(cosine) / np.pi
        assert abs(proportions.mean() - expected) < 0.01
        assert proportions.std() < 2.5 * np.sqrt(expected * (1 - expected) / CODE_BITS)
