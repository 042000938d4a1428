"""Adding, removing, searching and carrying away a visitor's documents."""

import contextlib
import io
import json
import sys
import zipfile

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from samples import FILES, LEAVE, PHONES, document, encoder, small_corpus

from ragdemo.corpus import Corpus
from ragdemo.embedding import HashingEncoder
from ragdemo.errors import Cancelled, DocumentError, IndexMismatch, RagdemoError
from ragdemo.settings import Chunking
from ragdemo.stores import create_store
from ragdemo.stores.faiss import FaissStore
from ragdemo.types import Chunk, Document


class Counting(HashingEncoder):
    """Counts the passages it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.encoded = 0

    def encode_passages(self, texts, progress=None):
        self.encoded += len(texts)
        return super().encode_passages(texts, progress)


def test_a_question_finds_its_chunk():
    corpus = small_corpus()
    query = corpus.encoder.encode_queries(["How many days of holiday do I have?"])[0]
    ((chunk, score), *_) = corpus.search(query, 3)
    assert "28 days" in chunk.text
    assert -1 <= score <= 1


def test_adding_and_removing_never_embeds_the_others_again():
    counting = Counting()
    corpus = Corpus(counting)
    corpus.add(document("leave.md", LEAVE))
    first = counting.encoded
    corpus.add(document("phones.md", PHONES))
    second = counting.encoded - first
    assert second == len(corpus.chunks_of(document("phones.md", PHONES).id))
    corpus.remove(document("leave.md", LEAVE).id)
    corpus.add(document("phones.md", PHONES))  # already there
    assert counting.encoded == first + second
    assert {c.document_name for c in corpus.chunks} == {"phones.md"}
    assert len(corpus.vectors) == len(corpus.chunks)


def test_a_removed_document_is_never_found():
    corpus = small_corpus()
    corpus.remove(document("leave.md", LEAVE).id)
    query = corpus.encoder.encode_queries(["28 days of paid annual leave"])[0]
    assert {c.document_name for c, _ in corpus.search(query, 20)} == {"phones.md"}
    assert "leave.md" not in corpus.files


def test_fingerprint_follows_encoder_chunking_and_files():
    corpus = small_corpus()
    seen = {corpus.fingerprint, small_corpus().fingerprint}
    assert len(seen) == 1
    seen.add(Corpus(corpus.encoder, Chunking(tokens=100)).fingerprint)
    seen.add(Corpus(HashingEncoder()).fingerprint)
    corpus.remove(next(iter(corpus.documents)))
    seen.add(corpus.fingerprint)
    assert len(seen) == 4


def test_what_is_worked_out_is_kept_until_something_changes():
    corpus = small_corpus()
    assert corpus.chunks is corpus.chunks
    assert corpus.vectors is corpus.vectors
    before = corpus.chunks, corpus.vectors, corpus.fingerprint
    corpus.add(document("third.md", b"# Parking\n\nThe garage opens at six in the morning."))
    assert len(corpus.chunks) == len(corpus.vectors) == len(before[0]) + 1
    corpus.remove(corpus.chunks[-1].document_id)
    assert corpus.chunks == before[0]
    assert np.array_equal(corpus.vectors, before[1])
    assert corpus.fingerprint == before[2]


def test_number_is_the_place_of_a_chunk_and_its_vector():
    corpus = small_corpus()
    for _ in range(2):
        assert [corpus.number(c.id) for c in corpus.chunks] == list(range(len(corpus.chunks)))
        for c in corpus.chunks:
            own = corpus.chunks_of(c.document_id).index(c)
            row = corpus.vectors_of(c.document_id)[own]
            assert np.array_equal(corpus.vectors[corpus.number(c.id)], row)
        corpus.remove(next(iter(corpus.documents)))
    with pytest.raises(KeyError):
        corpus.number("unknown")


def test_search_among_chosen_documents():
    corpus = small_corpus()
    query = corpus.encoder.encode_queries(["28 days of paid annual leave"])[0]
    phones = corpus.files["phones.md"]
    found = corpus.search(query, 20, [phones])
    assert {c.document_name for c, _ in found} == {"phones.md"}
    assert found == [hit for hit in corpus.search(query, 20) if hit[0].document_id == phones]
    assert corpus.search(query, 20, []) == []


@pytest.mark.parametrize("kind", ["faiss flat L2", "faiss HNSW", "faiss IVF", "milvus"])
def test_any_store_finds_the_same(kind, tmp_path):
    options = {"uri": str(tmp_path / "vectors.db")} if kind == "milvus" else {}
    store = create_store(kind, encoder().dimension, **options)
    corpus = Corpus(encoder(), store=store)
    for name, data in FILES:
        corpus.add(document(name, data))
    assert corpus.store is store
    query = encoder().encode_queries(["roaming"])[0]
    expected = [c.id for c, _ in small_corpus().search(query, 4)]
    assert [c.id for c, _ in corpus.search(query, 4)] == expected
    assert corpus.bytes() > 0
    corpus.remove(corpus.files["phones.md"])
    assert {c.document_name for c, _ in corpus.search(query, 20)} == {"leave.md"}
    corpus.close()


def test_an_imported_index_fits_the_store_it_was_in(tmp_path):
    def store():
        return create_store("milvus", encoder().dimension, uri=str(tmp_path / "vectors.db"))

    corpus = Corpus.imported(EXPORTED, encoder(), store())
    query = encoder().encode_queries(["roaming"])[0]
    before = corpus.search(query, 3)
    corpus.close()
    again = Corpus.imported(EXPORTED, encoder(), store())
    assert len(again.store) == len(again.chunks)
    assert again.search(query, 3) == before
    again.close()


def test_a_store_with_something_else_in_it_is_refused():
    small = FaissStore(7)
    with pytest.raises(IndexMismatch, match="7 dimensions"):
        Corpus(encoder(), store=small)
    corpus = small_corpus()
    corpus.store.add(["stranger"], np.ones((1, encoder().dimension), np.float32))
    with pytest.raises(IndexMismatch, match="again"):
        corpus.search(corpus.vectors[0], 3)


class Failing(FaissStore):
    """Refuses to be changed, as a server out of reach does."""

    def add(self, ids, vectors, documents=None):
        raise RagdemoError("out of reach")


def test_a_store_that_fails_leaves_the_corpus_as_it_was():
    corpus = Corpus(encoder(), store=Failing(encoder().dimension))
    with pytest.raises(RagdemoError, match="out of reach"):
        corpus.add(document())
    assert not corpus.documents
    assert not corpus.chunks
    with pytest.raises(RagdemoError, match="out of reach"):
        Corpus.imported(EXPORTED, encoder(), Failing(encoder().dimension))


def test_a_search_of_many_chunks_does_no_work_for_each():
    """Counted in calls of Python functions, which an O(n) step over chunks could not hide."""
    counts = []
    for size in (50, 5000):
        corpus = many(size)
        corpus.search(corpus.vectors[0], 3)
        corpus.number(corpus.chunks[0].id)
        called = []
        sys.setprofile(lambda frame, event, arg, seen=called: seen.append(event))
        try:
            corpus.search(corpus.vectors[3], 3)
            corpus.number(corpus.chunks[7].id)
            _ = corpus.fingerprint
        finally:
            sys.setprofile(None)
        counts.append(len(called))
    assert counts[1] <= counts[0] + 20


def many(size: int) -> Corpus:
    """One document a chunk."""
    corpus = Corpus(HashingEncoder(8))
    rows = np.random.default_rng(0).normal(size=(size, 8)).astype(np.float32)
    for i, row in enumerate(rows):
        chunk = Chunk(f"{i}:0-1", str(i), f"{i}.txt", "x", 0, 1, ())
        corpus.adopt(Document(str(i), f"{i}.txt", "x", ()), [chunk], row[None, :])
    return corpus


def test_stopping_an_upload_adds_nothing():
    corpus = Corpus(encoder())

    def stop(done, of):
        raise Cancelled("stopped")

    with pytest.raises(Cancelled):
        corpus.add(document(), progress=stop)
    assert not corpus.documents
    assert not corpus.chunks
    assert corpus.floor() is None


def test_nonsense_scores_below_a_real_question():
    corpus = small_corpus()
    query = corpus.encoder.encode_queries(["Who must be told that a phone was lost?"])[0]
    assert corpus.floor() < 0.3 < corpus.search(query, 1)[0][1]


def test_export_comes_back_the_same():
    corpus = small_corpus()
    again = Corpus.imported(corpus.export(), corpus.encoder)
    assert again.chunks == corpus.chunks
    assert list(again.documents.values()) == list(corpus.documents.values())
    assert np.array_equal(again.vectors, corpus.vectors)
    assert again.fingerprint == corpus.fingerprint
    query = corpus.encoder.encode_queries(["roaming"])[0]
    assert again.search(query, 3) == corpus.search(query, 3)


def test_an_index_of_another_encoder_is_refused():
    with pytest.raises(IndexMismatch, match="hashing"):
        Corpus.imported(small_corpus().export(), HashingEncoder(384))


def changed(**facts) -> bytes:
    exported = zipfile.ZipFile(io.BytesIO(small_corpus().export()))
    index = json.loads(exported.read("index.json")) | facts
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("index.json", json.dumps(index))
        archive.writestr("vectors.npy", exported.read("vectors.npy"))
    return out.getvalue()


@pytest.mark.parametrize(
    "facts",
    [
        {"format": "other"},
        {"fingerprint": "0" * 16},
        {"documents": []},
        {"documents": [{"id": 1}]},
        {"chunks": {}},
        {"chunking": {"tokens": -1}},
        {"dimension": 7},
    ],
    ids=lambda f: next(iter(f)),
)
def test_a_damaged_index_ends_in_a_sentence(facts):
    with pytest.raises(RagdemoError):
        Corpus.imported(changed(**facts), encoder())


def test_a_pickled_array_is_refused():
    out = io.BytesIO()
    array = io.BytesIO()
    np.save(array, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("index.json", json.dumps({"format": "ragdemo-index-1"}))
        archive.writestr("vectors.npy", array.getvalue())
    with pytest.raises(DocumentError):
        Corpus.imported(out.getvalue(), encoder())


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_any_bytes_end_in_a_typed_error(data):
    good = data.draw(st.sampled_from([b"", b"PK\x03\x04", EXPORTED]))
    at = data.draw(st.integers(0, len(good)))
    junk = good[:at] + data.draw(st.binary(max_size=40)) + good[at + 20 :]
    with contextlib.suppress(RagdemoError):
        Corpus.imported(junk, encoder())


EXPORTED = small_corpus().export()
