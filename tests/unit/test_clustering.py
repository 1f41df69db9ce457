"""Average linkage and the members of groups."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.cluster import AgglomerativeClustering

from service.recognition import clustering
from service.recognition.clustering import Floats, cluster, members_of


def normalised(vectors: np.ndarray) -> Floats:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def partition(labels: np.ndarray) -> set[frozenset[int]]:
    return {frozenset(np.flatnonzero(labels == label).tolist()) for label in set(labels.tolist())}


@given(seed=st.integers(0, 10_000), people=st.integers(1, 12), threshold=st.floats(-0.2, 0.9))
def test_clusters_are_those_of_average_linkage(seed: int, people: int, threshold: float) -> None:
    """Compares with scikit-learn, which needs the distances of all pairs."""
    random = np.random.default_rng(seed)
    vectors = np.repeat(random.normal(size=(people, 16)), 6, axis=0) + random.normal(size=(6 * people, 16))
    embeddings = normalised(vectors)
    reference = AgglomerativeClustering(
        n_clusters=None, distance_threshold=1 - threshold, metric="cosine", linkage="average"
    )
    assert partition(cluster(embeddings, threshold)) == partition(reference.fit_predict(embeddings))


def test_equal_embeddings_are_one_cluster() -> None:
    """Each is a nearest one of the others, so that no two need to be nearest to each other."""
    embeddings = np.repeat(normalised(np.random.default_rng(0).normal(size=(5, 8))), 7, axis=0)
    assert partition(cluster(embeddings, 0.99)) == {frozenset(range(7 * index, 7 * index + 7)) for index in range(5)}


@pytest.mark.parametrize("count", [0, 1])
def test_fewer_than_two_embeddings_form_no_group(count: int) -> None:
    embeddings = np.ones((count, 1), np.float32)
    labels = cluster(embeddings, 0.5)
    assert labels.tolist() == [0] * count
    assert members_of(embeddings, labels).groups == 0


def test_members_are_sorted_by_group_and_similarity() -> None:
    angles = np.radians([0, 90, 10, 200, 95, 21])
    embeddings = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    members = members_of(embeddings, cluster(embeddings, 0.9))
    assert members.rows[:3].tolist() == [2, 0, 5]
    assert set(members.rows[3:]) == {1, 4}
    assert members.numbers.tolist() == [1, 1, 1, 2, 2]
    assert members.positions.tolist() == [1, 2, 3, 1, 2]
    assert members.similarities[0] == pytest.approx(1, abs=1e-3)
    assert members.similarities[3] == pytest.approx(np.cos(np.radians(2.5)))


def test_a_chain_does_not_take_unbounded_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """In this chain each embedding is nearest to the one before it, so that a round merges a single pair."""
    monkeypatch.setattr(clustering, "MAX_ROUNDS", 20)
    count = 60
    cosines = np.diag(np.linspace(0.5, 0.4, count - 1), 1)
    embeddings = np.linalg.cholesky(cosines + cosines.T + np.eye(count)).astype(np.float32)
    with pytest.raises(clustering.TooManyRoundsError):
        cluster(embeddings, 0.01)
