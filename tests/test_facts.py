"""JSON from strangers becomes our dataclasses, or nothing: alone, and in an imported index."""

from __future__ import annotations

import dataclasses
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_security import ENCODER, FACTS, VECTORS, altered, index

from ragdemo import facts
from ragdemo.corpus import Corpus
from ragdemo.errors import RagdemoError
from ragdemo.text import clean
from ragdemo.types import Block, Marginal


@pytest.mark.parametrize(
    ("kind", "raw"),
    [
        (int, True), (int, 1.0), (int, "1"), (bool, 0), (float, "1"), (float, True),
        (float, float("inf")), (float, float("nan")), (float, 10**400), (str, 1),
        (str, "a\ud800"), (str, "a" * 11), (tuple[int, ...], {}), (tuple[int, ...], [1, None]),
        (object, [1]), (object, {"a": float("-inf")}), (Block, []), (Block, {}),
        (Block, {"kind": "table", "start": 0, "end": 1, "level": 0}),
    ],
)  # fmt: skip
def test_what_is_not_of_its_type_is_refused(kind, raw):
    with pytest.raises((ValueError, TypeError)):
        facts.value(kind, raw, longest=10)


def test_nested_values_and_fields_that_came_later():
    raw = {"kind": "table", "start": 0, "end": 9, "level": 0, "header": {"start": 0, "end": 3}}
    assert dataclasses.asdict(facts.value(Block, raw)) == raw
    raw = {f.name: [] for f in dataclasses.fields(Marginal)} | {"temperature": 1}
    made = facts.value(Marginal, raw)
    assert made.temperature == 1.0
    del raw["temperature"]
    with pytest.raises(ValueError, match="fields of Marginal"):
        facts.value(Marginal, raw)
    with pytest.raises(ValueError, match="NaN is no number"):
        facts.loads(b"[NaN]")


@given(st.text(st.characters(), max_size=30))
def test_a_text_is_refused_exactly_where_clean_would_change_it(text):
    if clean(text)[0] == text:
        assert facts.value(str, text) == text
    else:
        with pytest.raises(ValueError, match="characters"):
            facts.value(str, text)


@pytest.mark.parametrize("hidden", "\U000e0041 \U000e007f \u061c \u2063 \u206e \ufffa".split())
def test_no_letters_are_smuggled_in_characters_nobody_sees(hidden):
    assert clean(f"a{hidden}b") == ("ab", 1)
    with pytest.raises(ValueError, match="characters"):
        facts.value(str, f"a{hidden}b")


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_any_imported_index_is_refused_or_can_be_shown(data):
    try:
        corpus = Corpus.imported(index(altered(FACTS, data.draw), VECTORS), ENCODER)
    except RagdemoError:
        return
    for document in corpus.documents.values():
        for text in (document.name, document.text, *(p.label for p in document.pages)):
            assert clean(text)[0] == text
        spans = [*document.pages, *document.blocks]
        assert document.pages
        assert all(0 <= s.start <= s.end <= len(document.text) for s in spans)
        assert document.report is None or json.dumps(dataclasses.asdict(document.report))
    for chunk in corpus.chunks:
        for text in (chunk.id, chunk.text, chunk.heading, chunk.context, chunk.document_name):
            assert clean(text)[0] == text
        assert all(type(page) is int for page in chunk.pages)
    corpus.search(ENCODER.encode_queries(["leave"])[0], 2)
    corpus.floor()
    Corpus.imported(corpus.export(), ENCODER)
