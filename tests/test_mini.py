"""The bundled generator: one real answer, refusing, provenance, weights, and the network's sums."""

import itertools
import math
import re
import threading
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from samples import encoder, handbook, hit, mini

from ragdemo.generation import strange
from ragdemo.generation.base import run
from ragdemo.generation.contrary import OPPOSITES, contrary
from ragdemo.generation.mini import FOLDER, REFUSAL, MiniGenerator
from ragdemo.generation.mini import source as src
from ragdemo.generation.mini.again import log_odds, not_here
from ragdemo.generation.mini.choosing import WholeWords
from ragdemo.generation.mini.decode import pieces
from ragdemo.generation.mini.model import MiniModel, config, log_likelihood, mixture
from ragdemo.generation.mini.prior import Candidates, Prior
from ragdemo.generation.mini.row import Row, likeliest
from ragdemo.generation.mini.surface import Place, Writer
from ragdemo.generation.mini.weights import load, quantise, save
from ragdemo.generation.mini.words import words
from ragdemo.pipeline import retrieve
from ragdemo.training.likelihood import network
from ragdemo.types import Copied, Decoding

LEAVE = hit(
    "Full-time staff get 28 days of leave. Dr O'Neil approves it in writing.", 1, "leave.md"
)
PHONE = hit(
    "A lost phone must be reported within 24 hours. Roaming costs £5.50 a day.", 2, "phones.md"
)
CAR = hit(
    "Company cars are cleaned on Fridays. The garage opens at 7:30 a.m. for drivers.", 3, "cars.md"
)
GREEDY = Decoding()


def ask(question, hits, generator=None, decoding=GREEDY):
    generator = generator or mini()
    prompt = generator.prompt(question, hits, decoding=decoding)
    return run(generator, [prompt], [decoding])[0]


def test_weights_are_small_enough_to_ship():
    assert (FOLDER / "model.safetensors").stat().st_size < 45_000_000


def test_a_real_answer_from_a_sample_document():
    question = "How many days of paid annual leave do full-time employees get?"
    hits = retrieve(question, handbook(), 5)
    said = ask(question, hits)
    assert said.finish == "stop"
    assert any(w in said.text for w in ("26", "27", "28", "25")), said.text
    assert said.shares
    assert sum(said.shares) == pytest.approx(1, abs=1e-3)


def test_numbers_and_names_come_out_as_written():
    assert "£5.50" in ask("How much does roaming cost a day?", [LEAVE, PHONE]).text
    assert "O'Neil" in ask("Who approves leave?", [LEAVE, PHONE]).text


def test_an_unrelated_question_is_refused():
    said = ask("Which river flows through Vienna?", [LEAVE, PHONE, CAR])
    assert (said.text, said.finish) == (REFUSAL, "refused")
    assert said.confidence < 0.5


def test_the_order_of_passages_does_not_matter():
    for hits in ([LEAVE, PHONE, CAR], [CAR, LEAVE, PHONE], [PHONE, CAR, LEAVE]):
        assert "24 hours" in ask("Within how many hours must a lost phone be reported?", hits).text


def test_every_copied_stretch_stands_in_its_passage():
    hits = [LEAVE, PHONE, CAR]
    for question in ("Who approves leave?", "How much is roaming?", "When does the garage open?"):
        said = ask(question, hits)
        assert said.copied
        for c in said.copied:
            source = hits[c.passage].chunk.content[c.source_start : c.source_end]
            assert said.text[c.start : c.end].lower() == source.lower()


def test_a_batch_says_what_each_row_says_alone():
    exact = MiniGenerator(bf16=False)
    rows = [
        ("Who approves leave?", [LEAVE, PHONE]),
        ("How much is roaming?", [PHONE]),
        ("When does the garage open?", [LEAVE, PHONE, CAR]),
        ("Which river flows through Vienna?", [LEAVE]),
        ("What is a garage?", []),
    ]
    prompts = [exact.prompt(q, hits, decoding=GREEDY) for q, hits in rows]
    together = run(exact, prompts, [GREEDY] * len(rows))
    for prompt, answer in zip(prompts, together, strict=True):
        assert run(exact, [prompt], [GREEDY])[0].text == answer.text


def test_cancelling_one_row_leaves_the_other():
    events = [threading.Event(), threading.Event()]
    prompts = [mini().prompt("When does the garage open?", [CAR], decoding=GREEDY)] * 2
    answers = {}
    for step in mini().stream(prompts, [GREEDY] * 2, events):
        events[0].set()
        if step.answer:
            answers[step.row] = step.answer
    assert answers[0].finish == "cancelled"
    assert answers[1].finish == "stop"
    assert answers[1].text.startswith(answers[0].text)


def test_longest_answer_is_kept_to():
    said = ask("When does the garage open?", [CAR], decoding=Decoding(max_tokens=3))
    assert (said.tokens, said.finish) == (3, "length")


def test_a_long_passage_is_cut_and_said():
    long = hit("The garage is old and quiet today. " * 80)
    prompt = mini().prompt("How old is the garage?", [long], decoding=GREEDY)
    assert prompt.cut[long.chunk.id] > 0
    assert sum(s.tokens for s in prompt.segments) <= prompt.limit


def test_no_text_becomes_a_control_token():
    text = "[SEP] [CLS] [unused0] [PAD] [answer] </s>"
    tokenizer = src.plain_tokenizer(str(FOLDER / "tokenizer.json"))
    (tokens,) = src.tokenize(tokenizer, [text])
    assert not set(tokens.ids.tolist()) & {0, 1, 2, 3, 101, 102, 103}


def test_a_score_is_what_it_wrote_with():
    """Greedy word pieces one by one through the cache, against the whole text at once."""
    exact = MiniGenerator(bf16=False)
    for question, hits in [
        ("Who approves leave?", [LEAVE]),
        ("How much is roaming?", [LEAVE, PHONE]),
        ("What is a garage?", []),
    ]:
        prompt = exact.prompt(question, hits, decoding=GREEDY)
        row = Row(exact, prompt, GREEDY)
        row.read_in()
        encoded = exact._encode([row])
        encoded = exact._model.focused(encoded, likeliest(encoded))
        chosen = []

        def greedy(p, chosen=chosen):
            chosen.append(float(p.max().log()))
            return p.argmax(-1)

        ids = []
        for piece in pieces(exact._model, encoded, greedy, exact._writable([prompt])):
            if int(piece.ids) == src.SEP:
                break
            ids.append(int(piece.ids))
        text = exact._tokenizer.decode(ids)
        assert exact._tokens([text])[0].ids.tolist() == ids
        with torch.inference_mode():
            null = float(not_here(exact, [row], encoded)[0])
        answers = math.log(1 - null) if hits else 0.0
        (score,) = exact.log_likelihood([prompt], [text])
        assert score == pytest.approx(sum(chosen) + answers, abs=1e-3)


@pytest.mark.parametrize("temperature", [0.0, 0.9])
@torch.inference_mode()
def test_guessing_ahead_writes_the_same_in_fewer_passes(temperature):
    exact = MiniGenerator(bf16=False)
    asked = [
        ("Who approves leave?", [LEAVE, PHONE]),
        ("How much is roaming?", [LEAVE, PHONE]),
        ("When does the garage open?", [CAR, PHONE, LEAVE]),
        ("What is a garage?", []),
    ]
    passes = []
    decode = exact._model.decode
    exact._model.decode = lambda *given: passes.append(1) or decode(*given)

    def written(prompts, ahead):
        rows = [Row(exact, p, Decoding(temperature=temperature, max_tokens=40)) for p in prompts]
        for row in rows:
            row.read_in()
        encoded = exact._encode(rows)
        for at, row in enumerate(rows):
            row.begin(encoded.selection[at], encoded.tokens[at].tolist())
        drafts = [row.drafts[0] for row in rows]
        encoded = exact._model.focused(encoded, torch.tensor([d.sentence for d in drafts]))
        passes.clear()

        def choose(p):
            return torch.tensor([d.pick(q) for d, q in zip(drafts, p, strict=True)])

        for piece in pieces(exact._model, encoded, choose, exact._writable(prompts), ahead):
            for row, draft, token, source in zip(
                rows, drafts, piece.ids.tolist(), piece.source.tolist(), strict=True
            ):
                if draft.end is None:
                    row.take(draft, token, source, piece.pointer[rows.index(row)])
            if all(row.drafts[0].end for row in rows):
                return [draft.text for draft in drafts], len(passes)

    prompts = [exact.prompt(q, hits, decoding=GREEDY) for q, hits in asked]
    for some in ([0], [1], [2], [3], [0, 1, 2], [2, 3]):
        texts, slow = written([prompts[n] for n in some], 0)
        guessed, fast = written([prompts[n] for n in some], 32)
        assert guessed == texts
        assert fast <= slow
        if 3 not in some and not temperature:
            assert fast <= slow / 3, "an answer that is copied is guessed"


@pytest.mark.parametrize(
    ("question", "found"),
    [
        ("Who led the Normans in 1066?", []),
        ("Who led the Saxons in 1067?", ["Saxons", "1067"]),
        ("Who was William's heir?", []),
        ("Saxons led by whom?", []),  # any first word is capitalised
        ("WHO LED THE SAXONS?", []),
        ("Who Led The Saxons Then?", []),
        ("who led the saxons in 1,100?", ["1,100"]),
        ("Did I see a U-turn?", ["U-turn"]),
        ("", []),
    ],
)
def test_names_and_figures_that_stand_in_no_passage(question, found):
    passages = ["William the Norman landed in 1066.", "He led a thousand ships."]
    assert strange.strange(question, passages) == found


def test_what_a_strange_name_is_worth_is_the_ratio_of_the_counts():
    nats = strange.telling([True] * 9 + [False] * 89, [True] * 19 + [False] * 79)
    assert nats == pytest.approx(math.log(2))
    for p in (0.01, 0.5, 0.9):
        odds = p / (1 - p) * 2
        assert strange.shifted(p, nats) == pytest.approx(odds / (1 + odds))
        assert strange.shifted(p, 0.0) == pytest.approx(p)


def test_a_strange_name_makes_the_model_less_sure():
    exact = MiniGenerator(bf16=False)
    asked = "Within how many hours must a lost phone be reported to Zebulon?"
    prompt = exact.prompt(asked, [PHONE], decoding=GREEDY)

    def sure(nats: float) -> float:
        exact.facts = replace(exact.facts, strange_name=nats)
        (refusal,) = exact.log_likelihood([prompt], [REFUSAL])
        answer = run(exact, [prompt], [GREEDY])[0]
        assert math.exp(refusal) == pytest.approx(1 - answer.confidence, abs=1e-3)
        return answer.confidence

    def odds(p: float) -> float:
        return math.log(p / (1 - p))

    assert odds(sure(0.0)) - odds(sure(1.5)) == pytest.approx(1.5, abs=0.01)


@pytest.mark.parametrize(
    ("question", "sentence", "expected"),
    [
        ("Which empires did not thrive?", "The Aztec empire thrived.", True),
        ("Who can't carry leave over?", "Staff may carry over five days.", True),
        ("Who can’t carry leave over?", "Staff may carry over five days.", True),
        ("Which costs are never paid?", "Minibar costs are not paid.", False),
        ("Who may not drive?", "Only staff over 21 may drive.", False),
        ("What is not allowed?", "Smoking is prohibited.", False),
        ("Who may drive?", "Staff under 21 may not drive.", False),
        ("What does the notice on knots say?", "It says nothing.", False),
        ("What does the notice say?", "Northern staff notified us.", False),
        ("Who lost the battle?", "The Normans won the battle.", True),
        ("Who lost the battle?", "The Normans won what others lost.", False),
        ("Which is the smallest empire?", "The Inca empire is the largest.", True),
        ("Which is the smallest empire?", "The Inca empire is old.", False),
        ("Which graphs are unconnected?", "Such graphs are connected.", True),
        ("How are packets irregularly sent?", "Packets are sent at regular times.", True),
        ("Which graphs are connected?", "Graphs that are unconnected are rare.", False),
        ("Where did non-Arab groups meet?", "Arab groups met in Cairo.", True),
        ("Who is unable to drive?", "Staff over 21 may drive.", True),
        ("Who is unable to drive?", "Staff under 21 failed the test.", False),
        ("What is the least common error?", "Typing is a common error.", True),
        ("What is the least common error?", "Rarely somebody types 0 for O.", False),
        ("Who has at least two keys?", "The porter has two keys.", False),
    ],
)
def test_a_sentence_says_the_contrary_of_the_question(question, sentence, expected):
    assert contrary(question, sentence) is expected


def test_opposites_go_both_ways():
    assert all(word in OPPOSITES[other] for word in [*OPPOSITES] for other in OPPOSITES[word])


def test_a_contrary_sentence_makes_the_model_less_sure():
    exact = MiniGenerator(bf16=False)

    def odds(question, hits, nats) -> float:
        exact.facts = replace(exact.facts, contrary=nats)
        asked = exact.prompt(question, hits, decoding=GREEDY)
        null = 1 - run(exact, [asked], [GREEDY])[0].confidence
        refusal = exact.log_likelihood([asked], [REFUSAL])[0]
        assert math.exp(refusal) == pytest.approx(null, abs=1e-4)
        return math.log(null / (1 - null))

    asked = "Which phones need not be reported?"
    assert odds(asked, [PHONE], 1.5) - odds(asked, [PHONE], 0.0) == pytest.approx(1.5, abs=0.02)
    # counted alone with a paragraph, it says nothing of several passages, nor of other questions
    assert odds(asked, [LEAVE, PHONE], 1.5) == pytest.approx(odds(asked, [LEAVE, PHONE], 0.0))
    said = "When must a lost phone be reported?"
    assert odds(said, [PHONE], 1.5) == pytest.approx(odds(said, [PHONE], 0.0))


@pytest.mark.parametrize(
    ("hits", "share", "read"), [([PHONE], "again_alone", 2), ([LEAVE, PHONE], "again", 1)]
)
def test_the_sentences_that_seem_to_answer_are_read_once_more(hits, share, read):
    exact = MiniGenerator(bf16=False)
    once = replace(exact.facts, again=0.0, again_alone=0.0, before_alone=0.0, strange_name=0.0)

    def odds(passages, **changes) -> float:
        exact.facts = replace(once, **changes)
        asked = exact.prompt("When must a stolen phone be reported?", passages, decoding=GREEDY)
        null = math.exp(exact.log_likelihood([asked], [REFUSAL])[0])
        assert run(exact, [asked], [GREEDY])[0].confidence == pytest.approx(1 - null, abs=1e-5)
        return math.log(null / (1 - null))

    whole = odds(hits)
    said = ["A lost phone must be reported within 24 hours.", "Roaming costs £5.50 a day."]
    alone = [odds([hit(text, 2, "phones.md")]) for text in said[:read]]
    none = math.prod(1 / (1 + math.exp(-each)) for each in alone)  # neither answers
    sentences = math.log(none / (1 - none))
    assert abs(whole - sentences) > 0.1
    for part in (0.25, 1.0):
        expected = (1 - part) * whole + part * sentences
        assert odds(hits, **{share: part}) == pytest.approx(expected, abs=0.01)
    other = "again" if share == "again_alone" else "again_alone"
    assert odds(hits, **{other: 1.0}) == pytest.approx(whole)


def test_the_likeliest_of_a_passage_alone_is_read_with_the_one_before_it():
    exact = MiniGenerator(bf16=False)
    once = replace(exact.facts, again=0.0, again_alone=0.0, before_alone=0.0, strange_name=0.0)
    two = "A lost phone must be reported within 24 hours. Roaming costs £5.50 a day."
    after = " A day abroad costs £20 for a meal and £90 for a room."

    def odds(text, **changes) -> float:
        exact.facts = replace(once, **changes)
        question = "How much is roaming?"
        asked = exact.prompt(question, [hit(text, 2, "phones.md")], decoding=GREEDY)
        null = math.exp(exact.log_likelihood([asked], [REFUSAL])[0])
        return math.log(null / (1 - null))

    whole, read = odds(two + after), odds(two)
    assert abs(whole - read) > 0.1
    for part in (0.25, 1.0):
        expected = (1 - part) * whole + part * read
        assert odds(two + after, before_alone=part) == pytest.approx(expected, abs=0.01)
    # the first sentence has none before it
    first = "A trip abroad is approved by Priya Raman."
    assert odds(first, before_alone=1.0) == pytest.approx(odds(first), abs=0.01)
    several = [hit(two, 1, "phones.md"), LEAVE]  # it is said of a passage alone
    asked = exact.prompt("How much is roaming?", several, decoding=GREEDY)
    nulls = []
    for share in (0.0, 1.0):
        exact.facts = replace(once, before_alone=share)
        nulls += exact.log_likelihood([asked], [REFUSAL])
    assert nulls[0] == pytest.approx(nulls[1])


@given(st.floats(-14, -1e-6))
def test_log_odds_of_a_log_probability(log_p):
    p = math.exp(log_p)
    expected = log_p - math.log1p(-p)
    assert float(log_odds(torch.tensor(log_p))) == pytest.approx(
        expected, abs=0.2 if p > 0.99 else 1e-3
    )


def test_certainty_has_finite_log_odds():
    assert log_odds(torch.tensor([0.0, -torch.inf])).isfinite().all()


def test_an_answer_is_likeliest_under_its_passage():
    hits = [LEAVE, PHONE, CAR]
    question = "Within how many hours must a lost phone be reported?"
    prompts = [mini().prompt(question, [h], decoding=GREEDY) for h in hits]
    scores = mini().log_likelihood(prompts, [PHONE.chunk.text[:48]] * 3)
    assert int(np.argmax(scores)) == 1
    refusals = mini().log_likelihood(prompts, [REFUSAL] * 3)
    assert int(np.argmin(refusals)) == 1


def test_a_number_that_stands_nowhere_is_never_written():
    prompt = mini().prompt("How many days?", [LEAVE], decoding=GREEDY)
    said = "Full-time staff get {} days of leave."
    right, wrong = mini().log_likelihood([prompt] * 2, [said.format(28), said.format(71)])
    assert right - wrong > 10


def test_an_answer_from_passages_opens_a_sentence():
    prompt = mini().prompt("When does the garage open?", [CAR, LEAVE], decoding=GREEDY)
    inside, whole = mini().log_likelihood(
        [prompt] * 2, ["garage opens at 7:30 a.m. for drivers.", CAR.chunk.text[37:]]
    )
    assert whole - inside > 10


def test_its_questions_lead_back():
    chunks = [LEAVE.chunk, PHONE.chunk, CAR.chunk]
    for number, question in enumerate(mini().ask(chunks)):
        scores = mini().question_log_likelihood(question, chunks)
        assert int(np.argmax(scores)) == number


def test_a_question_is_likeliest_from_its_passage():
    chunks = [LEAVE.chunk, PHONE.chunk, CAR.chunk]
    scores = mini().question_log_likelihood("How much does roaming cost a day?", chunks)
    assert int(np.argmax(scores)) == 1


def test_int8_agrees_with_what_it_was_made_from(tmp_path):
    model, facts = load(FOLDER)
    save(model, tmp_path, facts)
    again, same = load(tmp_path)
    assert same == facts
    weight = model.bart.encoder.layers[0].fc1.weight
    values, scale = quantise(weight)
    assert values.dtype == torch.int8
    assert ((values.float() * scale[:, None] - weight).abs() <= scale[:, None] * 0.5001).all()
    # stored once more, it is the same to the bit: no drift through saving
    for (name, a), (_, b) in zip(
        model.state_dict().items(), again.state_dict().items(), strict=True
    ):
        assert torch.allclose(a, b, atol=1e-6), name


def test_a_missing_model_says_what_to_do(tmp_path):
    from ragdemo.errors import ModelUnavailable

    with pytest.raises(ModelUnavailable, match="Check out"):
        MiniGenerator(tmp_path)


# -- the network by itself, with random weights


def tiny() -> MiniModel:
    torch.manual_seed(0)
    shape = config(1, 1)
    shape.d_model, shape.encoder_ffn_dim, shape.decoder_ffn_dim = 24, 32, 32
    shape.encoder_attention_heads = shape.decoder_attention_heads = 2
    model = MiniModel(shape).eval()
    torch.nn.init.normal_(model.gate.weight)
    return model


def laid(question: str, *texts: str) -> list[src.Passage]:
    tokenizer = src.plain_tokenizer(str(FOLDER / "tokenizer.json"))
    asked, *rest = src.tokenize(tokenizer, [question, *texts])
    return [src.passage("answer", asked, text) for text in rest]


@torch.inference_mode()
def test_probabilities_sum_to_one_and_match_the_likelihood():
    model = tiny()
    batch = src.batch([laid("Who?", "One here. Two there.", "Three."), laid("What?", "Four cats.")])
    encoded = model.encode(batch)
    target = torch.tensor([[101, 2028, 2182], [101, 2176, 8870]])
    step = model.decode(target, encoded)
    assert step.pointer.sum(-1).allclose(torch.ones(2, 3), atol=1e-5)
    assert encoded.selection.exp().sum(1).allclose(torch.ones(2), atol=1e-5)
    p = mixture(step, encoded)
    assert p.sum(-1).allclose(torch.ones(2, 3), atol=1e-4)
    labels = torch.tensor([[2028, 2182, 102], [2176, 8870, 102]])
    wanted = p.gather(-1, labels.unsqueeze(-1)).squeeze(-1).log()
    kept = torch.tensor([[True, False, True], [True, True, True]])
    assert log_likelihood(step, encoded, labels, kept).allclose(wanted[kept], atol=1e-4)


@torch.inference_mode()
def test_word_by_word_equals_all_at_once():
    from transformers import DynamicCache, EncoderDecoderCache

    model = tiny()
    encoded = model.encode(src.batch([laid("Who?", "One here. Two there.", "Three.")]))
    target = torch.tensor([[101, 2028, 2182, 2028]])
    whole = mixture(model.decode(target, encoded), encoded)
    cache = EncoderDecoderCache(DynamicCache(), DynamicCache())
    before = torch.zeros((1, 1), dtype=torch.long)
    for at in range(4):
        step = model.decode(target[:, at : at + 1], encoded, cache, before)
        assert mixture(step, encoded)[:, 0].allclose(whole[:, at], atol=1e-5)
        before = target[:, at : at + 1]


@torch.inference_mode()
def test_neighbours_in_the_batch_do_not_matter():
    model = tiny()
    one, two = (
        laid("Who?", "One here. Two there."),
        laid("What of it?", "Four.", "Five cats and a dog."),
    )
    alone = model.encode(src.batch([one]))
    both = model.encode(src.batch([one, two]))
    width = alone.tokens.shape[1]
    assert both.states[0, :width].allclose(alone.states[0], atol=1e-5)
    assert both.selection[0, : alone.selection.shape[1]].allclose(alone.selection[0], atol=1e-4)


def test_sentences_are_numbered_through_a_row():
    batch = src.batch([laid("Who?", "One here. Two there.", "Three.")])
    numbers = batch.sentence[0][batch.sentence[0] > 0].tolist()
    assert sorted(set(numbers)) == [1, 2, 3]
    assert numbers == sorted(numbers)
    assert (batch.sentence[0] == 0).sum() == 2  # a [CLS] for each passage


# -- spelling


def test_spacing_and_case_follow_the_source():
    text = "Dr O'Neil pays £1,250.50 (net) to B-grade staff."
    tokenizer = src.plain_tokenizer(str(FOLDER / "tokenizer.json"))
    (tokens,) = src.tokenize(tokenizer, [text])
    writer = Writer((text,))
    for number, start, end in zip(tokens.ids, tokens.start, tokens.end, strict=True):
        piece = tokenizer.id_to_token(int(number))
        writer.add(piece, Place(0, int(start), int(end), text[start:end]))
    assert writer.text == text
    (run_,) = writer.copied
    assert (run_.start, run_.end, run_.source_start, run_.source_end) == (
        0,
        len(text),
        0,
        len(text),
    )


def test_written_words_get_spaces_and_a_capital():
    writer = Writer(())
    for piece in ["staff", "pay", "##s", "(", "net", ")", ",", "at", "5", "%", "."]:
        writer.add(piece, None)
    assert writer.text == "Staff pays (net), at 5%."


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=80))
def test_copying_a_whole_text_gives_it_back(text):
    tokenizer = src.plain_tokenizer(str(FOLDER / "tokenizer.json"))
    (tokens,) = src.tokenize(tokenizer, [text])
    if not len(tokens.ids):
        return
    writer = Writer((text,))
    for number, start, end in zip(tokens.ids, tokens.start, tokens.end, strict=True):
        piece = tokenizer.id_to_token(int(number))
        writer.add(piece, Place(0, int(start), int(end), text[start:end]))
    kept = {i for s, e in zip(tokens.start, tokens.end, strict=True) for i in range(s, e)}
    wanted = "".join(text[i] for i in sorted(kept))
    assert "".join(writer.text.casefold().split()) == "".join(wanted.casefold().split())
    assert np.all(np.diff([c.start for c in writer.copied]) > 0)


def test_two_sentences_that_are_nearly_as_likely_both_answer():
    """With the bar at nothing, every answer from several passages has a second sentence."""
    both = MiniGenerator(encoder=encoder())
    both.facts = replace(both.facts, second_above=0.0, refuse_above=1.0, refuse_alone_above=1.0)
    hits = [LEAVE, PHONE, CAR]
    said = ask("How many days of leave do staff get?", hits, both)
    one = ask("How many days of leave do staff get?", hits)
    assert said.text.startswith(one.text + " ")
    assert said.tokens > one.tokens
    for c in said.copied:
        source = hits[c.passage].chunk.content[c.source_start : c.source_end]
        assert source.lower() == said.text[c.start : c.end].lower()
    # what has been shown is never taken back
    prompt = both.prompt("How many days of leave do staff get?", hits, decoding=GREEDY)
    texts = [s.text for s in both.stream([prompt], [GREEDY], [threading.Event()])]
    assert all(b.startswith(a) for a, b in itertools.pairwise(texts))
    # and half a second sentence is never shown
    short = ask("How many days of leave do staff get?", hits, both, Decoding(max_tokens=16))
    assert short.text == one.text
    assert short.finish == "stop"


def test_one_passage_gives_one_sentence():
    both = MiniGenerator(encoder=encoder())
    both.facts = replace(both.facts, second_above=0.0, refuse_above=1.0, refuse_alone_above=1.0)
    assert ask("Who approves leave?", [LEAVE], both).text.count(".") == 1


def test_copied_words_names_and_figures_stay_whole():
    text = "Dr O'Neil pays £5.50 (net), 20% of it at 7:30 by e-mail. Teleconferencing ended."
    tokenizer = src.plain_tokenizer(str(FOLDER / "tokenizer.json"))
    (tokens,) = src.tokenize(tokenizer, [text])
    places = [
        Place(0, int(a), int(b), text[a:b]) for a, b in zip(tokens.start, tokens.end, strict=True)
    ]
    ids = tokens.ids.tolist()
    inner = torch.tensor(
        [tokenizer.id_to_token(i).startswith("##") for i in range(tokenizer.get_vocab_size())]
    )
    words, groups = WholeWords(ids, places, inner), [""]
    for at, place in enumerate(places):
        groups[-1] += place.text
        if words.pending(at) is None:
            groups.append("")
        else:
            assert words.pending(at) == ids[at + 1]
    assert (
        groups[:-1]
        == (
            "Dr O'Neil pays £5.50 ( net ) , 20% of it at 7:30 by e-mail . Teleconferencing ended ."
        ).split()
    )
    open_to = words.begin(torch.ones(len(inner)))
    begins = {word: bool(open_to[tokenizer.token_to_id(word)]) for word in ("o", "'", "neil", "50")}
    assert begins == {"o": True, "'": False, "neil": False, "50": False}
    assert not open_to[inner].any()


@pytest.mark.parametrize("most", range(1, 12))
def test_an_answer_cut_short_ends_with_a_whole_word(most):
    text = "Reimbursements for teleconferencing need Ganondorf's countersignature by telefacsimile."
    # a passage alone may seem not to answer; here it is asked to
    bold = MiniGenerator(encoder=encoder())
    bold.facts = replace(bold.facts, refuse_alone_above=1.0)
    asked = "What do reimbursements need?"
    answer = ask(asked, [hit(text)], bold, Decoding(max_tokens=most))
    assert set(re.findall(r"\w+", answer.text)) <= set(re.findall(r"\w+", text))
    assert all(0 <= c.start < c.end <= len(answer.text) for c in answer.copied)


def test_a_writer_takes_back_what_it_copied():
    writer = Writer(("Ganondorf rules",))
    for piece, (start, end) in {"gan": (0, 3), "##ond": (3, 6), "##orf": (6, 9)}.items():
        writer.add(piece, Place(0, start, end, "Ganondorf"[start:end]))
    writer.cut(6)
    assert writer.text == "Ganond"
    assert writer.copied == (Copied(0, 6, 0, 0, 6),)


def test_sentence_vectors_live_as_long_as_their_chunk():
    prior = Prior(encoder(), 1.0, 1.0)

    def candidates():
        found = hit("Leave is 28 days. Phones are blue.")
        return Candidates(found, 2)

    mine, other = candidates(), candidates()
    ((first,),) = prior(["How many days of leave?"], [[mine]])
    assert mine.hit.chunk in prior._known
    assert mine.hit.chunk == other.hit.chunk
    assert other.hit.chunk not in prior._known
    ((again,),) = prior(["How many days of leave?"], [[mine]])
    assert again == pytest.approx(first, abs=0.02)  # bfloat16 in a batch of another size
    assert first[0] > first[1]
    del mine
    assert not prior._known._held


def test_the_prior_is_what_score_and_cosine_weigh():
    texts = ["Leave is 28 days.", "Phones are blue.", "Cars are cleaned on Fridays."]
    exact = encoder()
    asked, *own = exact.encode_queries(["How many days of leave?", *texts])
    whole = hit(" ".join(texts[:2]), 1), hit(texts[2], 2)
    row = [Candidates(h, 1) for h in whole]
    ((one, two), none) = Prior(exact, 3.0, 8.0)(["How many days of leave?", "Why?"], [row, []])
    assert one == pytest.approx([3 * whole[0].score + 8 * float(own[0] @ asked)], abs=0.05)
    assert two == pytest.approx([3 * whole[1].score + 8 * float(own[2] @ asked)], abs=0.05)
    assert none == []


# -- the vocabulary in int8


def test_the_vocabulary_in_int8_says_what_float32_says():
    exact = MiniGenerator(bf16=False)
    weight = exact._model.bart.shared.weight.detach()
    quick = words(weight)
    if quick is None:
        pytest.skip("this processor or library has no such kernel")
    task = exact.prompt("How long is the notice period?", [], decoding=Decoding())
    row = Row(exact, task, Decoding())
    row.read_in()
    with torch.inference_mode():
        encoded = exact._encode([row])
        hidden = exact._model.decode(torch.tensor([[101, 1996, 5060, 2003, 2048]]), encoded).hidden
        wanted, found = torch.nn.functional.linear(hidden, weight), quick(hidden)
        assert found.shape == wanted.shape
        assert (found - wanted).abs().max() < 2e-3 * wanted.abs().max()
        assert found.argmax(-1).tolist() == wanted.argmax(-1).tolist()
        # a row is the same whoever stands beside it, and how many do
        loud = torch.cat([hidden[0], 40 * hidden[0], torch.zeros(60, hidden.shape[-1])])
        assert torch.equal(quick(loud)[:5], found[0])


def test_without_the_kernel_words_are_weighed_in_float32(monkeypatch):
    def missing(*_):
        raise RuntimeError("no such engine")

    monkeypatch.setattr("ragdemo.generation.mini.words.Words", missing)
    generator = MiniGenerator(bf16=None)
    assert "int8" not in generator.precision
    prompt = generator.prompt("How long is the notice period?", [], decoding=Decoding())
    assert run(generator, [prompt], [Decoding()])[0].text


def test_what_is_trained_has_no_frozen_vocabulary():
    assert MiniGenerator(bf16=False).precision == "float32"
    quick = MiniGenerator()
    network(quick)
    assert "int8" not in quick.precision
