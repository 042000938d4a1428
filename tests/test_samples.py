"""The stored index of the sample documents: what reading and embedding them gives, and nothing
else."""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import pytest
from samples import encoder, handbook, mini, small_corpus

from ragdemo import samples
from ragdemo.corpus import Corpus
from ragdemo.pipeline import answer, retrieve
from ragdemo.settings import Chunking
from ragdemo.types import Document
from ragdemo.ui import cache
from ragdemo.ui.asking import EXAMPLES

ANEW = "python -m ragdemo index --docs sample_docs --out sample_docs/index.zip"


def untimed(document: Document) -> Document:
    return replace(document, report=replace(document.report, seconds=0.0))


def test_it_is_what_reading_and_embedding_gives():
    found, made = samples.stored(encoder()), handbook()
    assert found is not None, f"it was made of something else; make it anew: {ANEW}"
    assert [*map(untimed, found.documents.values())] == [*map(untimed, made.documents.values())]
    assert found.chunks == made.chunks, f"they are cut another way now; make it anew: {ANEW}"
    # bfloat16 keeps 8 bits of a number
    np.testing.assert_allclose(found.vectors, made.vectors, atol=0.01)
    assert found.originals == made.originals
    assert found.fingerprint == made.fingerprint


def test_it_is_searched_like_any_other():
    found, made = samples.stored(encoder()), handbook()
    query = encoder().encode_queries(["How long is paternity leave?"])[0]
    (one, score), (other, again) = found.search(query, 1)[0], made.search(query, 1)[0]
    assert one == other
    assert score == pytest.approx(again, abs=0.02)


def changed(corpus: Corpus) -> Corpus:
    first = next(iter(corpus.documents))
    corpus.remove(first)
    return corpus


def cut_otherwise() -> Corpus:
    made = handbook()
    other = Corpus(encoder(), Chunking(tokens=100))
    for name, document in made.documents.items():
        other.adopt(document, made.chunks_of(name), made.vectors_of(name))
    return other


@pytest.mark.parametrize(
    "content",
    [
        lambda: b"PK\x03\x04 not an archive",
        lambda: samples.INDEX.read_bytes()[:-100],
        lambda: small_corpus().export(),
        lambda: changed(samples.stored(encoder())).export(),
        lambda: cut_otherwise().export(),
    ],
    ids=["no archive", "cut off", "other documents", "one is missing", "cut another way"],
)
def test_another_is_not_taken(tmp_path, content):
    index = tmp_path / "index.zip"
    index.write_bytes(content())
    assert samples.stored(encoder(), index) is None
    assert samples.stored(encoder(), tmp_path / "missing.zip") is None


def test_a_changed_file_is_noticed(tmp_path, monkeypatch):
    folder = shutil.copytree(samples.SAMPLE_DOCS, tmp_path / "docs")
    monkeypatch.setattr(samples, "SAMPLE_DOCS", folder)
    assert samples.stored(encoder()) is not None
    with (folder / "benefits-summary.md").open("a") as file:
        file.write("\nThe canteen is closed on Fridays.\n")
    assert samples.stored(encoder()) is None


@pytest.mark.parametrize("there", [True, False], ids=["opened", "read and embedded"])
def test_a_start_has_the_samples_with_the_index_and_without(monkeypatch, there):
    if not there:
        monkeypatch.setattr(cache, "stored", lambda encoder: None)
    shared = cache.Shared()
    assert shared.ready.wait(300)
    assert shared.problem is None
    assert shared.indexed(Chunking()).chunks == handbook().chunks
    assert shared.files == handbook().originals
    assert [d.name for d in shared.documents] == [d.name for d in handbook().documents.values()]


@pytest.mark.parametrize(
    ("question", "said"),
    zip(
        EXAMPLES,
        ("lends a work phone", "within two hours", "three days a week", "do not say"),
        strict=True,
    ),
)
def test_the_questions_offered_first_are_answered_right(question: str, said: str):
    """After a training other weights may judge them otherwise: then others are to be offered."""
    found = answer(question, retrieve(question, handbook(), 5), mini())
    assert said in found.text
    assert (found.finish == "refused") == (said == "do not say")
