"""Searches a synthetic gallery with numpy, exactly, and with FAISS' HNSW index, for comparison with the registry."""

import time

import faiss
import numpy as np
from rich.progress import track

from tools.search_figures import FPIR, TOP_K, SearchFigures, SearchResults, Truth, search_figures
from tools.synthetic_gallery import Gallery

M, EF_CONSTRUCTION, EF_SEARCH = 16, 64, 800
"""Parameters of the HNSW graph."""


def exact(gallery: Gallery) -> tuple[SearchFigures, Truth]:
    """Compares every probe with every person by a matrix product."""
    times, candidates, scores = [], [], []
    for probe in track(gallery.probes, description="numpy", transient=True):
        started = time.perf_counter()
        similarity = gallery.people @ probe
        best = np.argpartition(similarity, -TOP_K)[-TOP_K:]
        best = best[np.argsort(-similarity[best])]
        times.append(time.perf_counter() - started)
        candidates.append(best)
        scores.append(similarity[best])
    strangers = np.sort([float((gallery.people @ probe).max()) for probe in gallery.strangers])
    results = SearchResults(times, np.array(candidates), np.array(scores))
    truth = Truth(results.candidates, float(np.quantile(strangers, 1 - FPIR)))
    return search_figures("numpy, exact", 0, gallery.people.nbytes / 1e6, results, gallery, truth), truth


def faiss_hnsw(gallery: Gallery, truth: Truth) -> SearchFigures:
    """Searches an HNSW graph in memory."""
    index = faiss.IndexHNSWFlat(gallery.people.shape[1], M, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction = EF_CONSTRUCTION
    index.hnsw.efSearch = EF_SEARCH
    started = time.perf_counter()
    index.add(gallery.people)
    build_s = time.perf_counter() - started
    times, candidates, scores = [], [], []
    for probe in track(gallery.probes, description="FAISS", transient=True):
        started = time.perf_counter()
        score, best = index.search(probe[None], TOP_K)
        times.append(time.perf_counter() - started)
        candidates.append(best[0])
        scores.append(score[0])
    results = SearchResults(times, np.array(candidates), np.array(scores))
    size_mb = len(faiss.serialize_index(index)) / 1e6
    return search_figures("FAISS HNSW, in memory", build_s, size_mb, results, gallery, truth)
