"""Orders, priors and the marginal against its definition; the queue; what cannot be done."""

import itertools
import math
import threading
import time

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from samples import hit, mini
from test_generators import bart, gpt2

from ragdemo import fusion
from ragdemo.errors import Cancelled, RagdemoError
from ragdemo.generation.base import run
from ragdemo.generation.causal import CausalGenerator
from ragdemo.generation.openai import OpenAIGenerator
from ragdemo.generation.seq2seq import Seq2SeqGenerator
from ragdemo.serving import ROWS, SharedGenerator
from ragdemo.settings import ORDERS, Ask
from ragdemo.types import Answer, Chunk, Decoding, Hit, Marginal, Prompt

GREEDY = Decoding(max_tokens=6)
QUESTION = "How many days of leave?"
PASSAGES = [
    hit("Employees receive twenty-five days of annual leave each calendar year.", 1, "leave.md"),
    hit("Mobile phones must not be used while driving; see section 4.2.", 2, "phones.md"),
    hit("The policy is on page 3.", 3, "policy.md"),
]


def found(places: list[tuple[int, int]]) -> list[Hit]:
    """Hits by rank from (document, start); the text is as long as it needs to be."""
    return [
        Hit(Chunk(f"{d}:{s}", f"d{d}", f"{d}.md", "word", s, s + 4, (1,)), 1 / rank, rank, "dense")
        for rank, (d, s) in enumerate(places, start=1)
    ]


places = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 50)), max_size=8, unique=True)

# -- orders


@given(places, st.sampled_from(ORDERS), st.randoms())
def test_an_order_is_the_same_hits_whatever_order_they_come_in(where, order, random):
    hits = found(where)
    mixed = random.sample(hits, len(hits))
    assert fusion.ordered(mixed, order) == fusion.ordered(hits, order)
    assert sorted(fusion.ordered(mixed, order), key=lambda h: h.rank) == hits


@given(places)
def test_orders_are_what_they_say(where):
    hits = found(where)
    assert [h.rank for h in fusion.ordered(hits, "best first")] == list(range(1, len(hits) + 1))
    assert fusion.ordered(hits, "best last") == hits[::-1]
    read = fusion.ordered(hits, "as in the document")
    documents = [h.chunk.document_id for h in read]
    assert documents == sorted(documents, key=documents.index)  # each document in one piece
    assert not hits or read[0].chunk.document_id == hits[0].chunk.document_id
    for before, after in itertools.pairwise(read):
        if before.chunk.document_id == after.chunk.document_id:
            assert before.chunk.start < after.chunk.start


def test_unknown_choices_name_the_known():
    with pytest.raises(RagdemoError, match="best last"):
        fusion.ordered([], "worst first")
    with pytest.raises(ValueError, match="marginalise"):
        Ask(fusion="blended")
    with pytest.raises(ValueError, match="best last"):
        Ask(order="worst first")


@pytest.fixture(scope="module")
def causal(tmp_path_factory) -> CausalGenerator:
    folder = tmp_path_factory.mktemp("gpt2")
    torch.manual_seed(7)
    gpt2(folder)
    return CausalGenerator(folder)


@pytest.fixture(scope="module")
def seq2seq(tmp_path_factory) -> Seq2SeqGenerator:
    folder = tmp_path_factory.mktemp("bart")
    torch.manual_seed(7)
    bart(folder)
    return Seq2SeqGenerator(folder)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("words", [5, 60, 130, 900])
def test_the_budget_drops_the_worst_in_every_order(causal, order, words):
    text = "policy leave " * words
    hits = [hit(text, rank, f"{rank}.md") for rank in range(1, 9)]

    def make(chosen):
        return causal.prompt(QUESTION, chosen, decoding=GREEDY)

    prompt = fusion.arranged(make, hits, order)
    ranks = [h.rank for h in prompt.used]
    assert sorted(ranks) == list(range(1, len(ranks) + 1))
    assert list(prompt.used) == fusion.ordered(prompt.used, order)
    assert [h.rank for h in prompt.dropped] == list(range(len(ranks) + 1, 9))
    assert not prompt.cut or order == "best first" or len(ranks) == 1
    shown = [prompt.text.index(f"[{n}] ({h.chunk.document_name}") for n, h in
             enumerate(prompt.used, start=1)]  # fmt: skip
    assert shown == sorted(shown)


# -- the marginal


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=8), st.floats(0.01, 5))
def test_the_prior_is_a_softmax(scores, warmth):
    hits = [Hit(PASSAGES[0].chunk, s, n, "dense") for n, s in enumerate(scores, start=1)]
    p = fusion.prior(hits, warmth)
    assert math.isclose(sum(p), 1, abs_tol=1e-9)
    for a, p_a in zip(scores, p, strict=True):
        for b, p_b in zip(scores, p, strict=True):
            if p_a > 1e-12 and p_b > 1e-12:
                assert math.isclose(math.log(p_a / p_b), (a - b) / warmth, abs_tol=1e-6)


def test_temperatures():
    def at(retriever, *scores, parts=()):
        return fusion.temperature(
            [Hit(PASSAGES[0].chunk, s, 1, retriever, dict.fromkeys(parts, 1.0)) for s in scores]
        )

    assert at("dense", 0.7, 0.4, parts=["cosine"]) == 0.05
    assert at("dense", 70.0, 60.0, parts=["dot"]) == at("dpr", 70.0, 60.0) == 1.0
    assert at("bm25", 4.0, 8.0) == 2.0
    assert at("bm25", 4.0) == at("bm25", 3.0, 3.0) == at("bm25") == 1.0


def alone(generator, hits):
    return [generator.prompt(QUESTION, [h], decoding=GREEDY) for h in hits]


def weighed(generator, hits, answers=None) -> Marginal:
    prompts = alone(generator, hits)
    answers = answers or run(generator, prompts, [GREEDY] * len(prompts))
    *numbers, marginal = fusion.weigh(generator, prompts, hits, answers)
    assert numbers == list(range(1, len(hits) + 1))
    return marginal


def product(generator, prompt: Prompt, text: str) -> float:
    """p(y|x,z) from the definition: one token after the other, the whole model anew for each."""
    model, reader = generator._model, generator._reader
    read = reader.encode(prompt.text)
    p = 1.0
    if isinstance(generator, CausalGenerator):
        ids = reader.encode(prompt.text + " " + text)[len(read) :]
        written = list(read)
    else:
        ids, written = reader.encode(text), list(generator._first)
    (end,) = generator._ends
    for token in [*ids, end]:
        with torch.inference_mode():
            if isinstance(generator, CausalGenerator):
                logits = model(input_ids=torch.tensor([written])).logits
            else:
                logits = model(
                    input_ids=torch.tensor([read]), decoder_input_ids=torch.tensor([written])
                ).logits
        p *= float(logits[0, -1].double().softmax(-1)[token])
        written.append(token)
    return p


@pytest.mark.parametrize("kind", ["causal", "seq2seq"])
def test_the_marginal_is_its_definition(kind, request):
    generator = request.getfixturevalue(kind)
    prompts = alone(generator, PASSAGES)
    texts = ["leave", "the policy is annual", "leave"]  # the third says what the first says
    answers = [Answer(t, p, "m") for t, p in zip(texts, prompts, strict=True)]
    scores = (0.6, 0.55, 0.5)
    hits = [Hit(h.chunk, s, h.rank, "dense") for h, s in zip(PASSAGES, scores, strict=True)]
    m = weighed(generator, hits, answers)
    assert m.candidates == ("leave", "the policy is annual")
    assert m.written_from == ((0, 2), (1,))
    weights = [math.exp(s / 0.05) for s in scores]
    sums = []
    for row, text in enumerate(m.candidates):
        joint = [
            w / sum(weights) * product(generator, p, text)
            for w, p in zip(weights, prompts, strict=True)
        ]
        sums.append(math.log(sum(joint)))
        assert m.log_marginals[row] == pytest.approx(sums[-1], abs=1e-4, rel=1e-6)
        assert m.posteriors[row] == pytest.approx([j / sum(joint) for j in joint], abs=1e-4)
    assert m.winner == sums.index(max(sums))


def test_passages_that_refuse_give_no_candidate():
    prompts = alone(mini(), PASSAGES)
    said = [Answer("x", p, "m", finish="refused") for p in prompts]
    assert list(fusion.weigh(mini(), prompts, PASSAGES, said)) == []
    said[1] = Answer("Twenty-five days", prompts[1], "m")
    assert weighed(mini(), PASSAGES, said).written_from == ((1,),)
    assert fusion.leading(said) == 1


def test_stopping_while_weighing(causal):
    event = threading.Event()
    prompts = alone(causal, PASSAGES)
    steps = fusion.weigh(causal, prompts, PASSAGES, run(causal, prompts, [GREEDY] * 3), event)
    assert next(steps) == 1
    event.set()
    with pytest.raises(Cancelled):
        next(steps)


# -- what a generator can do


def test_every_generator_says_what_it_can_do(causal, seq2seq):
    endpoint = OpenAIGenerator("http://localhost:1/v1", "some-model")
    for generator in (causal, seq2seq, mini(), SharedGenerator(mini()), endpoint):
        assert set(generator.fusions) <= set(fusion.FUSIONS)
        for name in fusion.FUSIONS:
            assert bool(fusion.why_not(name, generator)) == (name not in generator.fusions)
    assert fusion.check("together", mini()) == "in decoder"
    assert fusion.check("together", causal) == "together"
    assert "decoder" in fusion.why_not("in decoder", causal)
    with pytest.raises(RagdemoError, match="Choose 'Read together'"):
        fusion.check("marginalise", endpoint)
    with pytest.raises(RagdemoError, match="bundled generator"):
        endpoint.log_likelihood([], [])


def test_what_it_costs_is_what_is_counted(causal):
    """Passes of the model and tokens, counted at the model itself."""
    counted = {"passes": 0, "tokens": 0}

    def count(module, args, kwargs):
        counted["passes"] += 1
        counted["tokens"] += kwargs["input_ids"].numel()

    equal = [hit("policy leave annual", rank, "n.md") for rank in (1, 2, 3)]  # nothing is padded
    prompts = alone(causal, equal)
    length = len(causal._reader.encode(prompts[0].text))
    tokens = causal._reader.encode(" leave annual year")
    text = causal._reader.decode(tokens).strip()
    answer = Answer(text, prompts[0], "m")
    hook = causal._model.register_forward_pre_hook(count, with_kwargs=True)
    try:
        list(fusion.weigh(causal, prompts, equal, [answer] * 3))
    finally:
        hook.remove()
    whole = fusion.FUSIONS["marginalise"].cost(3, length, 0, len(tokens))
    writing = fusion.FUSIONS["together"].cost(3, length, 0, len(tokens))
    assert counted["passes"] == whole.passes - writing.passes == 6
    # one candidate here, where `cost` counts on as many as passages
    assert counted["tokens"] == whole.read - writing.read + whole.scored / 3


# -- through the queue


class Slow:
    """A real, tiny generator whose scoring takes a while."""

    name, limit, fusions = "slow", 100, ("together", "marginalise")

    def __init__(self) -> None:
        self.order: list[str] = []

    def log_likelihood(self, prompts, texts, cancelled=None):
        self.order.append(f"score {len(prompts)}")
        time.sleep(0.05)
        return [-float(len(t)) for t in texts]

    def stream(self, prompts, decodings, cancelled):
        from ragdemo.generation.base import Step

        self.order.append(f"write {len(prompts)}")
        for row, p in enumerate(prompts):
            yield Step(row, p.question, Answer(p.question, p, self.name))


def question(text: str) -> Prompt:
    return Prompt(text, (), (), {}, (), 100)


def test_scores_come_back_in_order_through_the_queue():
    prompts = alone(mini(), PASSAGES) * 4
    texts = [f"{n} days of leave" for n in range(len(prompts))]
    shared = SharedGenerator(mini())
    assert shared.log_likelihood(prompts, texts) == pytest.approx(
        mini().log_likelihood(prompts, texts), rel=0.02
    )
    assert shared.log_likelihood([], []) == []


def test_a_long_scoring_lets_other_visitors_in():
    inner = Slow()
    shared = SharedGenerator(inner)
    rows = 6 * ROWS
    scored: list[float] = []
    thread = threading.Thread(
        target=lambda: scored.extend(
            shared.log_likelihood([question("q")] * rows, ["x" * n for n in range(rows)])
        )
    )
    thread.start()
    time.sleep(0.08)
    assert [a.text for a in run(shared, [question("mine")], [GREEDY])] == ["mine"]
    thread.join()
    assert scored == [-float(n) for n in range(rows)]
    assert 0 < inner.order.index("write 1") < len(inner.order) - 2
    assert set(inner.order) == {f"score {ROWS}", "write 1"}


def test_a_visitor_who_stops_leaves_the_line_at_once():
    shared = SharedGenerator(Slow())
    event = threading.Event()
    threading.Timer(0.1, event.set).start()
    begun = time.monotonic()
    with pytest.raises(Cancelled):
        shared.log_likelihood([question("q")] * 100 * ROWS, ["x"] * 100 * ROWS, event)
    assert time.monotonic() - begun < 2


def test_more_rows_than_a_batch_take_turns():
    inner = Slow()
    answers = run(SharedGenerator(inner), [question(str(n)) for n in range(20)], [GREEDY] * 20)
    assert [a.text for a in answers] == [str(n) for n in range(20)]
    assert inner.order == ["write 8", "write 8", "write 4"]
