"""A question taken apart: every figure against another way to work it out."""

from __future__ import annotations

import math
import threading

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from samples import encoder, handbook, mini, small_corpus
from test_generators import folders, load  # noqa: F401 (fixtures, used by being here)

from ragdemo.anatomy import Anatomy, take_apart
from ragdemo.anatomy.parts import left_out, place
from ragdemo.anatomy.pieces import reader
from ragdemo.embedding import HashingEncoder, minilm_path
from ragdemo.errors import Cancelled, RagdemoError
from ragdemo.generation import create, run
from ragdemo.generation.tracing import KEPT, TEMPERATURES, left, step_of
from ragdemo.pipeline import build, compare, retrieve
from ragdemo.retrieval import create as retriever
from ragdemo.serving import SharedGenerator
from ragdemo.settings import Ask
from ragdemo.text import sentences
from ragdemo.types import Decoding, Hit

QUESTION = "How long are backups of Quillmere drives kept?"


@pytest.fixture(scope="module")
def watched():
    """The bundled generator as the app makes it, without a queue."""
    return create("mini", encoder=encoder())


@pytest.fixture(scope="module")
def anatomy(watched) -> Anatomy:
    *_, last = take_apart(QUESTION, handbook(), watched, ask=Ask(k=3))
    return last


# -- temperature and top-p


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.floats(-8, 8), min_size=1, max_size=90),
    st.sampled_from(TEMPERATURES),
    st.floats(0.05, 1.0),
)
def test_temperature_and_top_p_are_a_softmax_and_a_nucleus(logits, temperature, top_p):
    """Against numpy over the whole vocabulary, also where most of it was not kept."""
    values = np.array(logits)
    step = step_of(torch.tensor(values).softmax(-1), 0, str)
    shown = left(step, temperature, top_p)
    exact = np.exp((values - values.max()) / temperature)
    exact = np.sort(exact / exact.sum())[::-1]
    size = min(KEPT, len(values))
    assert [one.p for one in shown] == pytest.approx(exact[:size], abs=1e-9)
    inside = max(1, int((np.cumsum(exact) - exact < top_p - 1e-12).sum()))
    kept = sum(one.drawn > 0 for one in shown)
    assert abs(kept - min(inside, size)) <= 1  # rounding at the border
    if kept < size:
        assert sum(one.drawn for one in shown) == pytest.approx(1.0)
    assert step.chosen.id == 0
    assert [c.p for c in step.likely] == sorted((c.p for c in step.likely), reverse=True)


def test_temperature_closed_form():
    step = step_of(torch.tensor([0.8, 0.2]), 1, "ab".__getitem__)
    hot, cold = left(step, 2.0, 1.0), left(step, 0.5, 1.0)
    assert hot[0].p == pytest.approx(math.sqrt(0.8) / (math.sqrt(0.8) + math.sqrt(0.2)))
    assert cold[0].p == pytest.approx(0.64 / 0.68)
    assert [one.drawn for one in left(step, 1.0, 0.8)] == [1.0, 0.0]
    assert (step.chosen.token, step.chosen.p) == ("b", pytest.approx(0.2))


# -- the steps


@pytest.mark.parametrize("name", ["gpt2", "qwen", "t5", "bart"])
@pytest.mark.parametrize("sample", [False, True])
def test_steps_of_a_local_model_are_those_of_its_answer(load, name, sample):  # noqa: F811
    """Written again, the same text; each p is the one a whole pass over the tokens gives."""
    generator = load(name)
    hits = [Hit(c, 0.5, n, "dense") for n, c in enumerate(small_corpus().chunks, 1)][:2]
    decoding = Decoding(max_tokens=8, sample=sample, temperature=1.3, top_p=0.8, seed=5)
    prompt = generator.prompt("How many days?", hits, decoding=decoding)
    (answer,) = run(generator, [prompt], [decoding])
    steps = generator.trace(prompt, decoding)
    ended = answer.finish == "stop"
    assert answer.tokens <= len(steps) <= answer.tokens + ended
    ids = [step.chosen.id for step in steps]
    if not sample:
        assert all(step.chosen == step.likely[0] for step in steps)
    with torch.inference_mode():
        running = _running(generator, prompt)
        logits = torch.cat([running.start()[:, None], running.follow(torch.tensor([ids]))], 1)
    exact = logits[0, : len(ids)].softmax(-1)
    for place_, step in enumerate(steps):
        assert step.chosen.p == pytest.approx(float(exact[place_, step.chosen.id]), abs=4e-3)
        assert step.sums[TEMPERATURES.index(1.0)] == pytest.approx(1.0, abs=1e-6)


def _running(generator, prompt):
    from ragdemo.generation import causal, seq2seq

    ids = [generator._reader.encode(prompt.text)]
    if isinstance(generator, causal.CausalGenerator):
        return causal._Running(generator._model, ids)
    return seq2seq._Running(generator._model, ids, generator._first)


def test_steps_of_the_bundled_model_multiply_to_its_likelihood(watched):
    """log p of an answer of one sentence, by teacher forcing, is the sum over the steps and the
    decision to answer."""
    decoding = Decoding()
    for question in (QUESTION, "What is the monthly limit of the company card?"):
        hits = retrieve(question, handbook(), 1)
        prompt = watched.prompt(question, hits, decoding=decoding)
        (answer,) = run(watched, [prompt], [decoding])
        steps = watched.trace(prompt, decoding)
        assert len(steps) == answer.tokens + 1  # the end
        assert all(step.passage == 0 for step in steps[1:-1])
        total = math.log(answer.confidence) + sum(math.log(step.chosen.p) for step in steps)
        (exact,) = watched.log_likelihood([prompt], [answer.text])
        assert total == pytest.approx(exact, abs=0.15)  # bfloat16, one step against all at once


def test_a_refusal_has_no_steps_and_the_baseline_has(watched):
    found = compare("Which river flows through Vienna?", handbook(), watched)
    assert found.grounded.finish == "refused"
    assert watched.trace(found.grounded.prompt, Decoding()) == ()
    steps = watched.trace(found.baseline.prompt, Decoding())
    assert steps
    assert all(step.passage is None for step in steps)
    with pytest.raises(RagdemoError, match="refused"):
        left_out(found, watched)


def test_watching_waits_in_line_like_all_work(watched):
    prompt = watched.prompt(QUESTION, retrieve(QUESTION, handbook(), 2), decoding=Decoding())
    queued = SharedGenerator(watched)
    assert queued.trace(prompt, Decoding()) == watched.trace(prompt, Decoding())


# -- all of it


def test_the_search_is_what_was_found(anatomy):
    search, c = anatomy.search, anatomy.comparison
    chunks = list(anatomy.chunks)
    assert anatomy.question == QUESTION
    assert chunks == handbook().chunks
    for hit in c.hits:
        assert search.cosines[chunks.index(hit.chunk)] == pytest.approx(hit.score, abs=1e-5)
    assert chunks[search.best] == c.hits[0].chunk
    assert float(search.question @ search.passage) == pytest.approx(c.hits[0].score, abs=1e-5)
    assert len(search.scores) == len(chunks)
    near = [value for _, value in search.near]
    assert near == sorted(near, reverse=True)
    assert search.best not in dict(search.near)
    assert set(anatomy.seconds) == {"encode", "look up", "steps", "alone", "dropped"}
    assert anatomy.problems == {}


def test_tokens_are_the_encoders(anatomy):
    """Against the tokenizer that transformers loads."""
    from transformers import AutoTokenizer

    theirs = AutoTokenizer.from_pretrained(str(minilm_path()))
    content = anatomy.chunks[anatomy.search.best].content
    for text, ours in (
        (QUESTION, anatomy.search.question_tokens),
        (content, anatomy.search.passage_tokens),
    ):
        ids = theirs(text, truncation=True, max_length=encoder().limit).input_ids
        assert [token.id for token in ours] == ids
        assert [token.text for token in ours] == theirs.convert_ids_to_tokens(ids)


def test_tokens_of_other_encoders():
    hashing = HashingEncoder(64)
    tokens = reader(hashing)("The green lamp and the green boat")
    assert [token.text for token in tokens] == ["green", "lamp", "green", "boat"]
    assert tokens[0].id == tokens[2].id
    vector = hashing.encode_queries(["lamp"])[0]
    assert vector[tokens[1].id] != 0
    hashing.name = "nobody/no-such-encoder"
    with pytest.raises(RagdemoError, match="can't be shown"):
        reader(hashing)


def test_leaving_a_passage_out_is_worked_out_one_by_one(anatomy, watched):
    """Against single calls; the passage that is cited matters most."""
    dropped, answer = anatomy.dropped, anatomy.comparison.grounded
    span = sentences(answer.text)[0]
    assert dropped.text == answer.text[span.start : span.end]
    used = answer.prompt.used
    for n, without in enumerate(dropped.without):
        rest = [hit for m, hit in enumerate(used) if m != n]
        prompt = watched.prompt(QUESTION, rest, decoding=Decoding())
        (exact,) = watched.log_likelihood([prompt], [dropped.text])
        assert without == pytest.approx(exact, abs=0.5)
    cited = anatomy.comparison.support[0].citation
    assert max(range(len(used)), key=dropped.drops.__getitem__) == cited - 1
    assert dropped.drops[cited - 1] > 3


def test_a_generator_that_cannot_be_watched_says_so():
    class Elsewhere:
        """The bundled model with an endpoint's face: what a generator must offer, and no more."""

        name, limit, fusions = "elsewhere", mini().limit, mini().fusions
        prompt, stream, log_likelihood = mini().prompt, mini().stream, mini().log_likelihood

    *_, found = take_apart(QUESTION, handbook(), Elsewhere(), ask=Ask(k=1))
    assert set(found.problems) == {"steps", "alone"}
    assert "does not show what it weighed" in found.problems["steps"]
    assert found.steps is None
    assert found.dropped is not None


def test_a_comparison_at_hand_is_not_asked_again(anatomy, watched):
    first, *_, last = take_apart(QUESTION, handbook(), watched, comparison=anatomy.comparison)
    assert first.comparison is last.comparison is anatomy.comparison
    assert last.steps == anatomy.steps


def test_other_retrievers_keep_their_own_scores(watched):
    bm25 = retriever("bm25", handbook())
    *_, found = take_apart(QUESTION, handbook(), watched, retriever=bm25, ask=Ask(k=2))
    best = found.comparison.hits[0]
    assert found.search.scores[found.search.best] == pytest.approx(best.score, rel=1e-5)
    assert np.isneginf(found.search.scores).any()
    joined = retriever("neighbours", handbook())
    hit = joined.search(QUESTION, 1)[0]
    assert hit.chunk.holds(handbook().chunks[place(handbook(), hit)])
    with pytest.raises(RagdemoError, match="other documents"):
        place(small_corpus(), hit)


def test_nothing_to_take_apart_and_stopping(watched):
    (only,) = take_apart(QUESTION, build([], encoder()), watched)
    assert only.search is None
    assert only.comparison.grounded.finish == "refused"
    stop = threading.Event()
    parts = take_apart(QUESTION, handbook(), watched, ask=Ask(k=1), cancelled=stop)
    next(parts)
    stop.set()
    with pytest.raises(Cancelled):
        next(parts)
