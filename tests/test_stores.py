"""The contract of every vector store, and what only one kind of them promises."""

import sys
import uuid
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import pytest
from conftest import free_port
from fakes import pinecone as fake_pinecone
from fakes import weaviate as fake_weaviate
from hypothesis import given, settings
from hypothesis import strategies as st

from ragdemo.errors import Cancelled, RagdemoError
from ragdemo.stores import STORES, VectorStore, create_store
from ragdemo.stores.base import LARGEST
from ragdemo.stores.costs import costs, recall, synthetic
from ragdemo.stores.faiss import FaissStore
from ragdemo.stores.faiss_index import KINDS, FaissSettings, needed
from ragdemo.stores.remote import Patience, Service

Make = Callable[[int], VectorStore]
QUICK = Patience(timeout_s=5, attempts=3, first_wait_s=0.01)
LASTING = ("milvus", "weaviate", "pinecone")
# small enough for the approximate kinds to be themselves on a few hundred vectors
EAGER = FaissSettings(per_centre=1, ivf_lists=8, ivf_probes=4)


@pytest.fixture(scope="module")
def servers() -> Iterator[dict]:
    running = {"weaviate": fake_weaviate.FakeWeaviate(), "pinecone": fake_pinecone.FakePinecone()}
    yield running
    for server in running.values():
        server.close()


@pytest.fixture(scope="module")
def milvus_file(tmp_path_factory) -> str:
    return str(tmp_path_factory.mktemp("milvus") / "vectors.db")


@pytest.fixture
def opener(servers, milvus_file) -> Iterator[Callable[[str], Make]]:
    """name -> a function that makes the store of that name, the same one each time."""
    opened, name = [], f"t{uuid.uuid4().hex[:12]}"

    def options(kind: str) -> dict:
        if kind == "milvus":
            return {"uri": milvus_file, "collection": name, "patience": QUICK}
        if kind == "weaviate":
            server = servers[kind]
            return {
                "url": server.url, "grpc_port": server.grpc_port, "collection": name,
                "api_key": fake_weaviate.KEY, "patience": QUICK,
            }  # fmt: skip
        if kind == "pinecone":
            return {"url": servers[kind].url, "api_key": fake_pinecone.KEY, "patience": QUICK}
        return {}

    def make(kind: str, dimension: int, **others) -> VectorStore:
        store = create_store(kind, dimension, **{**options(kind), **others})
        opened.append(store)
        return store

    yield lambda kind, **others: partial(make, kind, **others)
    for store in opened:
        store.close()
    if opened and opened[-1].name in LASTING:
        last = opened[-1]
        create_store(last.name, last.dimension, **options(last.name)).drop()


@pytest.fixture(params=list(STORES))
def make(request, opener) -> Make:
    return opener(request.param)


@pytest.fixture(params=LASTING)
def make_lasting(request, opener) -> Make:
    return opener(request.param)


def unit(rows: int, dimension: int, seed: int = 0) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(rows, dimension)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def names(rows: int) -> list[str]:
    return [str(i) for i in range(rows)]


# -- every store


def test_name_and_title(make):
    store = make(4)
    assert store.name in STORES
    assert STORES[store.name].title
    assert store.dimension == 4


def test_empty(make):
    store = make(4)
    assert len(store) == 0
    assert store.search(unit(2, 4), 3) == [[], []]
    assert store.search(unit(2, 4), 3, ["nothing"]) == [[], []]
    store.add([], np.zeros((0, 4), np.float32))
    store.remove([])
    store.remove(["unknown"])
    assert len(store) == 0


def test_no_query_has_no_answer(make):
    store = make(4)
    store.add(["a"], unit(1, 4))
    assert store.search(np.zeros((0, 4), np.float32), 3) == []


def test_more_asked_than_held(make):
    store = make(4)
    store.add(["a", "b"], unit(2, 4))
    for k in (3, 10, 20_000):
        found = store.search(unit(1, 4, seed=1), k)[0]
        assert sorted(name for name, _ in found) == ["a", "b"]


def test_order_and_score_are_those_of_an_exhaustive_search(make):
    vectors, queries = unit(200, 16), unit(3, 16, seed=1)
    store = make(16)
    store.add(names(200), vectors)
    for query, found in zip(queries, store.search(queries, 10), strict=True):
        inner = vectors @ query
        assert [name for name, _ in found] == [str(i) for i in np.argsort(-inner)[:10]]
        # for vectors of length 1, -|x - y|^2 = 2 x.y - 2
        expected = {n: 2 * inner[int(n)] - 2 if "L2" in store.name else inner[int(n)]
                    for n, _ in found}  # fmt: skip
        assert dict(found) == pytest.approx(expected, abs=1e-5)


def test_vectors_of_any_length_are_taken(make):
    store = make(2)
    store.add(["near", "far"], np.array([[1, 0], [9, 9]], dtype=np.float32))
    best = store.search(np.array([[1, 0]], dtype=np.float32), 1)[0][0][0]
    assert best == ("near" if "L2" in store.name else "far")


def test_filter_by_document(make):
    vectors = unit(60, 8)
    documents = [f"d{i % 3}" for i in range(60)]
    store = make(8)
    store.add(names(60), vectors, documents)
    query = unit(1, 8, seed=3)
    for chosen in (["d1"], ["d0", "d2"], ["d2", "unknown"], ["d0", "d1", "d2"]):
        expected = [str(i) for i in np.argsort(-(vectors @ query[0])) if documents[i] in chosen]
        assert [n for n, _ in store.search(query, 5, chosen)[0]] == expected[:5]
        assert len(store.search(query, 100, chosen)[0]) == len(expected)
    assert store.search(query, 5, []) == [[]]
    assert store.search(query, 5, {"unknown"}) == [[]]
    assert len(store.search(query, 100)[0]) == 60


def test_filter_follows_what_is_removed_and_replaced(make):
    store = make(4)
    store.add(["a", "b", "c"], unit(3, 4), ["x", "x", "y"])
    store.remove(["b"])
    store.add(["c"], unit(1, 4, seed=9), ["x"])
    query = unit(1, 4, seed=2)
    assert {n for n, _ in store.search(query, 9, ["x"])[0]} == {"a", "c"}
    assert store.search(query, 9, ["y"]) == [[]]


def test_vectors_without_a_document_are_found_without_a_filter(make):
    store = make(4)
    store.add(["a"], unit(1, 4))
    store.add(["b"], unit(1, 4, seed=1), ["x"])
    assert {n for n, _ in store.search(unit(1, 4), 9)[0]} == {"a", "b"}
    assert {n for n, _ in store.search(unit(1, 4), 9, ["x"])[0]} == {"b"}


ODD = ["été", '"; drop table', "a\\b'c", "日本語 🦆", "x y\tz", "50%25", "{id}"]


def test_odd_names_come_back_as_they_went(make):
    store = make(8)
    store.add(ODD, unit(len(ODD), 8), ODD)
    assert {n for n, _ in store.search(unit(1, 8), 20)[0]} == set(ODD)
    for name in ODD:
        assert [n for n, _ in store.search(unit(1, 8), 20, [name])[0]] == [name]
    store.remove(ODD[:3])
    assert {n for n, _ in store.search(unit(1, 8), 20)[0]} == set(ODD[3:])


def test_removed_is_never_found_again(make):
    store = make(8)
    store.add(names(20), unit(20, 8))
    store.remove(["3", "4", "4", "unknown"])
    for k in (1, 20):
        for found in store.search(unit(30, 8, seed=2), k):
            assert not {"3", "4"} & {name for name, _ in found}
            assert len(found) == min(k, 18)
    assert len(store) == 18


def test_all_removed_leaves_an_empty_store_that_can_be_filled(make):
    store = make(4)
    store.add(["a", "b"], unit(2, 4))
    store.remove(["a", "b"])
    assert len(store) == 0
    assert store.search(unit(1, 4), 3) == [[]]
    store.add(["b"], unit(1, 4, seed=1))
    assert [n for n, _ in store.search(unit(1, 4), 3)[0]] == ["b"]


def test_same_id_replaces(make):
    store = make(2)
    store.add(["a", "a"], np.array([[1, 0], [0, 1]], dtype=np.float32))
    assert len(store) == 1
    store.add(["a"], np.array([[-1, 0]], dtype=np.float32))
    assert len(store) == 1
    ((name, score),) = store.search(np.array([[-1, 0]], dtype=np.float32), 5)[0]
    assert (name, score) == ("a", pytest.approx(0.0 if "L2" in store.name else 1.0))


def test_equal_vectors_are_all_kept(make):
    store = make(4)
    store.add(["a", "b", "c"], np.repeat(unit(1, 4), 3, axis=0))
    assert {n for n, _ in store.search(unit(1, 4), 3)[0]} == {"a", "b", "c"}


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, LARGEST * 10])
def test_numbers_that_are_none_are_refused(make, bad):
    store = make(2)
    rows = np.array([[1, bad]], dtype=np.float32)
    with pytest.raises(ValueError, match="finite"):
        store.add(["a"], rows)
    with pytest.raises(ValueError, match="finite"):
        store.search(rows, 1)
    assert len(store) == 0


def test_wrong_shapes_are_named(make):
    store = make(3)
    with pytest.raises(ValueError, match=r"\[n, 3\]"):
        store.add(["a"], unit(1, 4))
    with pytest.raises(ValueError, match=r"\[n, 3\]"):
        store.search(unit(1, 3)[0], 1)
    with pytest.raises(ValueError, match="2 ids"):
        store.add(["a", "b"], unit(1, 3))
    with pytest.raises(ValueError, match="2 documents"):
        store.add(["a"], unit(1, 3), ["x", "y"])
    with pytest.raises(ValueError, match="k must"):
        store.search(unit(1, 3), 0)
    assert len(store) == 0


def test_memory_is_told_where_it_is_known(make):
    store = make(8)
    store.add(names(50), unit(50, 8))
    if store.name in LASTING:
        assert store.bytes() is None
    else:
        assert store.bytes() >= 50 * 8 * 4


def test_ten_thousand_vectors(make):
    vectors, queries = synthetic(10_020, 32)[:10_000], synthetic(10_020, 32)[10_000:]
    store = make(32)
    store.add(names(10_000), vectors, [f"d{i % 10}" for i in range(10_000)])
    assert len(store) == 10_000
    best = [set(map(str, row)) for row in np.argsort(-(queries @ vectors.T), axis=1)[:, :10]]
    found = [{n for n, _ in row} for row in store.search(queries, 10)]
    assert recall(found, best) > {"faiss PQ": 0.5, "faiss IVF": 0.8}.get(store.name, 0.95)
    (row,) = store.search(queries[:1], 10, ["d7"])
    assert len(row) == 10
    assert {int(n) % 10 for n, _ in row} == {7}


def test_closing_twice_is_allowed(make):
    store = make(2)
    store.close()
    store.close()


# -- those that keep their vectors


def test_reopened_holds_what_was_added(make_lasting):
    store = make_lasting(8)
    store.add(["a", "b", "c"], unit(3, 8), ["x", "y", "y"])
    store.remove(["b"])
    before = store.search(unit(1, 8, seed=1), 5)
    store.close()
    again = make_lasting(8)
    assert len(again) == 2
    ((first, last),) = before
    assert [n for n, _ in again.search(unit(1, 8, seed=1), 5)[0]] == [first[0], last[0]]
    assert [n for n, _ in again.search(unit(1, 8), 5, ["y"])[0]] == ["c"]
    again.add(["a"], unit(1, 8, seed=4))
    assert len(again) == 2


def test_another_dimension_is_refused_on_reopening(make_lasting):
    make_lasting(8).close()
    with pytest.raises(RagdemoError, match=r"8 dimensions.*gives 9"):
        make_lasting(9)


@pytest.mark.parametrize("kind", LASTING)
def test_a_missing_package_names_the_line_that_installs_it(kind, opener, monkeypatch):
    packages = {"milvus": "pymilvus", "weaviate": "weaviate", "pinecone": "pinecone"}
    monkeypatch.setitem(sys.modules, packages[kind], None)
    with pytest.raises(RagdemoError) as caught:
        opener(kind)(4)
    assert STORES[kind].install in str(caught.value)


def test_milvus_lite_is_named_when_it_is_missing(opener, monkeypatch):
    monkeypatch.setitem(sys.modules, "milvus_lite", None)
    with pytest.raises(RagdemoError, match='pip install "pymilvus>=3" "milvus-lite>=3"'):
        opener("milvus")(4)


@pytest.mark.parametrize("kind", LASTING)
def test_a_server_that_is_not_there_ends_in_a_sentence(kind):
    nowhere = f"http://127.0.0.1:{free_port()}"
    patience = Patience(timeout_s=1, attempts=2, first_wait_s=0.01)
    address = {"uri": nowhere} if kind == "milvus" else {"url": nowhere}
    key = {"api_key": "x"} if kind == "pinecone" else {}
    with pytest.raises(RagdemoError, match=r"failed while (connecting|opening)"):
        create_store(kind, 4, patience=patience, **address, **key)


@pytest.mark.parametrize("kind", ["weaviate", "pinecone"])
def test_a_wrong_key_is_told_and_never_shown(kind, opener):
    with pytest.raises(RagdemoError, match="refused the key") as caught:
        opener(kind, api_key="sk-secret")(4)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("kind", ["weaviate", "pinecone"])
def test_a_failure_that_passes_is_waited_out(kind, opener, servers):
    store = opener(kind)(4)
    store.add(["a"], unit(1, 4))
    server = servers[kind].server
    server.failing = 2
    again = opener(kind)(4)
    assert server.failing == 0
    assert len(again) == 1


def test_a_failure_that_stays_names_the_part(opener, servers):
    opener("weaviate")(4).close()
    server = servers["weaviate"].server
    server.failing = 1000
    try:
        with pytest.raises(RagdemoError, match=r"failed while (connecting|opening)"):
            opener("weaviate")(4)
    finally:
        server.failing = 0


@pytest.mark.long  # its client waits for seconds between its attempts
def test_a_write_that_fails_names_its_size(opener, servers):
    store = opener("pinecone")(4)
    server = servers["pinecone"].server
    server.failing = 1000
    try:
        with pytest.raises(RagdemoError, match="failed while adding 2 vectors"):
            store.add(["a", "b"], unit(2, 4))
    finally:
        server.failing = 0


def test_pinecone_is_sent_no_more_than_it_takes(opener, servers):
    store = opener("pinecone")(1536)
    server = servers["pinecone"].server
    before = len(server.requests)
    store.add(names(200), unit(200, 1536))  # refused by the server over 2 MB
    upserts = [path for _, path in server.requests[before:] if path == "/vectors/upsert"]
    assert len(upserts) > 1
    assert len(store) == 200


@pytest.mark.parametrize("uri", ["vectors.sqlite", "/nowhere/at/all.db"])
def test_milvus_names_an_address_it_can_not_use(uri):
    with pytest.raises(RagdemoError, match="Milvus"):
        create_store("milvus", 4, uri=uri, patience=QUICK)


def test_two_stores_share_a_milvus_file(tmp_path):
    path = str(tmp_path / "shared.db")
    first = create_store("milvus", 4, uri=path, collection="one", patience=QUICK)
    second = create_store("milvus", 4, uri=path, collection="two", patience=QUICK)
    first.add(["a"], unit(1, 4))
    first.close()
    second.add(["b", "c"], unit(2, 4))
    assert len(second) == 2
    second.close()
    again = create_store("milvus", 4, uri=path, collection="one", patience=QUICK)
    assert [n for n, _ in again.search(unit(1, 4), 3)[0]] == ["a"]
    again.close()


class Passing(Exception): ...


@pytest.mark.parametrize(("fails", "ends"), [(0, "ok"), (2, "ok"), (3, "error")])
def test_a_call_is_repeated_while_its_failure_may_pass(fails, ends):
    left = [fails]

    def action() -> str:
        if left[0]:
            left[0] -= 1
            raise Passing
        return "ok"

    service = Service(
        "Test", "here", QUICK, passing=lambda p: isinstance(p, Passing), refused=lambda p: False
    )
    if ends == "ok":
        assert service.call("trying", action) == "ok"
    else:
        with pytest.raises(RagdemoError, match="Test at here failed while trying"):
            service.call("trying", action)


def test_a_call_that_can_not_succeed_is_made_once():
    made = []

    def action() -> None:
        made.append(1)
        raise KeyError

    service = Service("Test", "here", QUICK, passing=lambda p: False, refused=lambda p: False)
    with pytest.raises(RagdemoError):
        service.call("trying", action)
    assert len(made) == 1


# -- FAISS


@pytest.mark.parametrize("bad", [{"hnsw_links": 1}, {"ivf_probes": 0}, {"pq_parts": -1}])
def test_settings_are_checked(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        FaissSettings(**bad)


def test_unknown_names_are_told():
    with pytest.raises(ValueError, match="flat IP, flat L2"):
        FaissStore(2, "cosine")
    with pytest.raises(ValueError, match="choose from faiss flat IP"):
        create_store("chroma", 2)


def test_scores_in_closed_form():
    vectors = np.array([[1, 0], [0.6, 0.8]], dtype=np.float32)
    query = np.array([[1, 0]], dtype=np.float32)
    inner, squared = FaissStore(2), FaissStore(2, "flat L2")
    for store in (inner, squared):
        store.add(["a", "b"], vectors)
    assert inner.search(query, 2)[0] == [("a", 1.0), ("b", pytest.approx(0.6))]
    assert squared.search(query, 2)[0] == [("a", 0.0), ("b", pytest.approx(-0.8))]


@pytest.mark.parametrize("kind", ["IVF", "PQ"])
def test_trains_only_when_enough_is_stored(kind):
    store = FaissStore(16, kind, EAGER)
    enough = needed(kind, EAGER)
    assert store.needed == enough
    store.add(names(enough - 1), unit(enough - 1, 16))
    query = unit(1, 16, seed=5)
    before = store.search(query, 5)
    assert store.exact
    flat = FaissStore(16)
    flat.add(names(enough - 1), unit(enough - 1, 16))
    assert before == flat.search(query, 5)
    store.add(["last"], unit(1, 16, seed=8))
    store.search(query, 5)
    assert not store.exact


def test_ivf_learns_again_when_much_was_added():
    store = FaissStore(16, "IVF", FaissSettings(per_centre=2))
    lists = []
    for step in range(3):
        part = unit(1000 * (1 + 9 * step), 16, seed=step)
        store.add([f"{step}-{i}" for i in range(len(part))], part)
        store.prepare()
        lists.append(store._index.nlist)
    assert lists[0] < lists[1]  # 1,000 vectors, then 11,000
    assert lists[1] == lists[2]  # 30,000 are not four times as many
    assert len(store) == 30_000
    assert len({n for n, _ in store.search(unit(1, 16), 30_000)[0]}) == 30_000


@pytest.mark.parametrize("kind", KINDS)
def test_trained_and_emptied_kinds_never_name_what_is_gone(kind):
    """In each kind's own index: filter, k > n, removal, and adding after that."""
    store = FaissStore(16, kind, EAGER)
    rows = synthetic(600, 16)
    store.add(names(600), rows, [f"d{i % 2}" for i in range(600)])
    store.prepare()
    assert store.exact == kind.startswith("flat")
    assert len(store.search(rows[:1], 1000)[0]) == 600
    assert {int(n) % 2 for n, _ in store.search(rows[:1], 1000, ["d1"])[0]} == {1}
    store.remove([str(i) for i in range(0, 600, 2)])
    for found in store.search(rows[:20], 1000):
        assert {n for n, _ in found} == {str(i) for i in range(1, 600, 2)}
    assert store.search(rows[:1], 5, ["d0"]) == [[]]
    store.remove(names(600))
    assert store.search(rows[:1], 5) == [[]]
    store.add(["new"], rows[:1])
    assert [n for n, _ in store.search(rows[:1], 5)[0]] == ["new"]


def test_a_graph_is_built_anew_when_much_was_removed():
    store = FaissStore(16, "HNSW")
    store.add(names(1000), unit(1000, 16))
    store.remove(names(150))
    store.search(unit(1, 16), 1)
    assert store._index.ntotal == 1000  # hidden
    store.remove(names(300))
    store.search(unit(1, 16), 1)
    assert store._index.ntotal == 700
    found = store.search(unit(1000, 16)[300:], 1)
    assert [row[0][0] for row in found] == [str(i) for i in range(300, 1000)]


def test_a_filter_that_keeps_many_walks_the_graph(monkeypatch):
    monkeypatch.setattr("ragdemo.stores.faiss.EXACT_UNDER", 100)
    store = FaissStore(16, "HNSW")
    rows = unit(2000, 16)
    store.add(names(2000), rows, [f"d{i % 2}" for i in range(2000)])
    inner = rows[1::2] @ rows[7]
    best = {str(2 * i + 1) for i in np.argsort(-inner)[:10]}
    found = {n for n, _ in store.search(rows[7:8], 10, ["d1"])[0]}
    assert len(found & best) >= 9
    assert {int(n) % 2 for n in found} == {1}


@pytest.mark.parametrize("kind", KINDS)
def test_memory_by_arithmetic_is_what_faiss_writes(kind):
    import faiss

    store = FaissStore(16, kind, EAGER)
    store.add(names(600), unit(600, 16))
    store.prepare()
    assert store.bytes() == pytest.approx(faiss.serialize_index(store._index).nbytes, rel=0.03)


VECTORS = unit(12, 4)
STEPS = st.lists(st.tuples(st.booleans(), st.integers(0, 11), st.integers(0, 2)), max_size=40)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=40, deadline=None)
@given(steps=STEPS, k=st.integers(1, 15), chosen=st.none() | st.sets(st.sampled_from("012")))
def test_any_history_agrees_with_brute_force(kind, steps, k, chosen):
    """Exact for every kind here: so few are never trained on, and a small graph is walked whole."""
    store, held = FaissStore(4, kind), {}
    for adding, number, document in steps:
        if adding:
            store.add([str(number)], VECTORS[number : number + 1], [str(document)])
            held[str(number)] = str(document)
        else:
            store.remove([str(number)])
            held.pop(str(number), None)
    query = unit(1, 4, seed=5)
    inner = {n: float(VECTORS[int(n)] @ query[0]) for n, d in held.items()
             if chosen is None or d in chosen}  # fmt: skip
    (found,) = store.search(query, k, chosen)
    assert len(store) == len(held)
    assert [n for n, _ in found] == sorted(inner, key=lambda n: -inner[n])[:k]


# -- what they cost


def test_costs_of_every_kind():
    rows = synthetic(2050, 32)
    eager = FaissSettings(per_centre=4)
    measured = {c.kind: c for c in costs(rows[:2000], rows[2000:], k=5, settings=eager)}
    assert list(measured) == list(KINDS)
    for cost in measured.values():
        assert (cost.vectors, cost.dimension, cost.k) == (2000, 32, 5)
        assert cost.search_ms > 0
        assert cost.build_s > 0
    assert measured["flat IP"].recall == measured["flat L2"].recall == 1.0
    assert 0.9 < measured["HNSW"].recall <= 1.0
    assert 0.2 < measured["PQ"].recall < 1.0
    flat = 2000 * (32 * 4 + 8)
    assert measured["flat IP"].bytes == flat
    assert measured["PQ"].bytes < flat / 2 < flat < measured["HNSW"].bytes
    assert [c.kind for c in measured.values() if c.exact] == ["flat IP", "flat L2"]


def test_costs_without_the_flat_kind_have_the_same_recall():
    rows = synthetic(1040, 16)
    whole = {c.kind: c.recall for c in costs(rows[:1000], rows[1000:])}
    (alone,) = costs(rows[:1000], rows[1000:], kinds=("HNSW",))
    assert alone.recall == pytest.approx(whole["HNSW"], abs=0.05)


def test_measuring_can_be_watched_and_stopped():
    rows, seen = synthetic(5000, 16), []

    def stop(kind: str, done: int, of: int) -> None:
        seen.append((kind, done, of))
        if kind == "flat L2" and done > 2000:
            raise Cancelled("stopped")

    made = costs(rows, rows[:5], progress=stop)
    assert next(made).kind == "flat IP"
    with pytest.raises(Cancelled):
        next(made)
    assert seen == [
        *(("flat IP", done, 5000) for done in (2000, 4000, 5000)),
        ("flat L2", 2000, 5000),
        ("flat L2", 4000, 5000),
    ]


def test_synthetic_vectors_are_of_length_one_clustered_and_repeatable():
    rows = synthetic(2000, 64, seed=3)
    assert rows.dtype == np.float32
    assert np.linalg.norm(rows, axis=1) == pytest.approx(np.ones(2000), abs=1e-5)
    assert np.array_equal(rows, synthetic(2000, 64, seed=3))
    assert not np.allclose(rows[0], synthetic(2000, 64, seed=4)[0])
    nearest = np.sort(rows[:100] @ rows.T, axis=1)
    # the second best (the best is itself) stands out against the middle of all
    assert np.median(nearest[:, -2]) > 0.5 > 0.2 > np.abs(np.median(nearest))
