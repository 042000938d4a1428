"""The contract of every vector store."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ragdemo.stores.faiss import FaissStore

STORES = {
    "faiss inner product": lambda d: FaissStore(d),
    "faiss L2": lambda d: FaissStore(d, "L2"),
}


@pytest.fixture(params=list(STORES))
def make(request):
    return STORES[request.param]


def unit(rows: int, dimension: int, seed: int = 0) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(rows, dimension)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_empty(make):
    assert make(4).search(unit(2, 4), 3) == [[], []]


def test_more_asked_than_held(make):
    store = make(4)
    store.add(["a", "b"], unit(2, 4))
    found = store.search(unit(1, 4, seed=1), 10)[0]
    assert sorted(name for name, _ in found) == ["a", "b"]


def test_order_is_that_of_an_exhaustive_search(make):
    vectors, query = unit(200, 16), unit(1, 16, seed=1)
    store = make(16)
    store.add([str(i) for i in range(200)], vectors)
    found = [name for name, _ in store.search(query, 10)[0]]
    assert found == [str(i) for i in np.argsort(-(vectors @ query[0]))[:10]]


def test_scores_in_closed_form():
    vectors = np.array([[1, 0], [0.6, 0.8]], dtype=np.float32)
    query = np.array([[1, 0]], dtype=np.float32)
    inner, squared = FaissStore(2), FaissStore(2, "L2")
    for store in (inner, squared):
        store.add(["a", "b"], vectors)
    assert inner.search(query, 2)[0] == [("a", 1.0), ("b", pytest.approx(0.6))]
    # for vectors of length 1, |x - y|^2 = 2 - 2 x.y
    assert squared.search(query, 2)[0] == [("a", 0.0), ("b", pytest.approx(-0.8))]


def test_removed_is_never_found_again(make):
    store = make(8)
    store.add([str(i) for i in range(20)], unit(20, 8))
    store.remove(["3", "4", "unknown"])
    found = {name for name, _ in store.search(unit(1, 8, seed=2), 20)[0]}
    assert len(store) == 18
    assert found == {str(i) for i in range(20)} - {"3", "4"}


def test_same_id_replaces(make):
    store = make(2)
    store.add(["a", "a"], np.array([[1, 0], [0, 1]], dtype=np.float32))
    store.add(["a"], np.array([[-1, 0]], dtype=np.float32))
    assert len(store) == 1
    assert store.search(np.array([[-1, 0]], dtype=np.float32), 5)[0][0][0] == "a"


def test_equal_vectors_are_all_kept(make):
    store = make(4)
    store.add(["a", "b", "c"], np.repeat(unit(1, 4), 3, axis=0))
    assert {n for n, _ in store.search(unit(1, 4), 3)[0]} == {"a", "b", "c"}


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_none_are_refused(make, bad):
    store = make(2)
    rows = np.array([[1, bad]], dtype=np.float32)
    with pytest.raises(ValueError, match="finite"):
        store.add(["a"], rows)
    with pytest.raises(ValueError, match="finite"):
        store.search(rows, 1)


def test_wrong_shapes_are_named(make):
    store = make(3)
    with pytest.raises(ValueError, match=r"\[n, 3\]"):
        store.add(["a"], unit(1, 4))
    with pytest.raises(ValueError, match="2 ids"):
        store.add(["a", "b"], unit(1, 3))
    with pytest.raises(ValueError, match="k must"):
        store.search(unit(1, 3), 0)


def test_unknown_metric_is_named():
    with pytest.raises(ValueError, match="inner product, L2"):
        FaissStore(2, "cosine")


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("ar"), st.integers(0, 9)), max_size=30))
def test_any_history_agrees_with_a_dictionary(steps):
    vectors = unit(10, 4)
    store, held = FaissStore(4), {}
    for what, number in steps:
        if what == "a":
            store.add([str(number)], vectors[number : number + 1])
            held[str(number)] = number
        else:
            store.remove([str(number)])
            held.pop(str(number), None)
    assert len(store) == len(held)
    assert {n for n, _ in store.search(unit(1, 4, 5), 10)[0]} == set(held)
