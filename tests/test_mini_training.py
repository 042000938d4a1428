"""Training the bundled generator: what is drawn, and that ten real steps lower the loss."""

import json
import lzma
import multiprocessing
import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers.models.bart.modeling_bart import BartAttention, BartEncoder

from ragdemo.errors import RagdemoError
from ragdemo.training.loop import Progress, Run, rate
from ragdemo.training.mini import drop, losses, optimiser_of, start_model, train
from ragdemo.training.mini_calibrate import choose_threshold, recognised_near
from ragdemo.training.mini_data import (
    Item,
    Mixer,
    Text,
    closed_items,
    copy_items,
    item_of,
    load,
    page_items,
    paragraphs,
    sentence_alone,
    without_evidence,
)
from ragdemo.training.mini_draws import Draws, Stage, Workers
from ragdemo.training.mini_pages import fill, read_pages
from ragdemo.training.mini_tensors import Tensors
from ragdemo.training.mini_tricks import read_questions, trick_rows
from ragdemo.types import Span

THINGS = ["lathe", "kiln", "crane", "boiler", "press", "furnace", "drill", "saw"]
PLACES = ["Kendal", "Stirling", "Reading", "Leeds", "Perth", "Truro", "York", "Derby"]


def rows() -> list[dict]:
    made = []
    for i in range(64):
        thing, place = THINGS[i % 8], PLACES[i // 8]
        text = (
            f"The {thing} of {place} weighs {i + 20} tonnes. Visitors to {place} see it daily. "
            f"Nobody in {place} may touch it after noon."
        )
        made.append(
            {
                "id": str(i),
                "question": f"How heavy is the {thing} of {place}?",
                "passages": [{"title": place, "text": text}],
                "short": [f"{i + 20} tonnes"],
                "evidence": f"The {thing} of {place} weighs {i + 20} tonnes.",
                "answerable": True,
            }
        )
    return made


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    (folder / "train").mkdir()
    (folder / "text").mkdir()

    def write(path, items):
        with lzma.open(path, "wt", encoding="utf-8") as out:
            out.writelines(json.dumps(item) + "\n" for item in items)

    write(folder / "train" / "squad_train_subset.jsonl.xz", rows())
    prose = " ".join(
        f"The {thing} stands beside the old {place} railway bridge every single winter."
        for thing, place in zip(THINGS, PLACES, strict=True)
    )
    write(folder / "text" / "openstax.jsonl.xz", [{"title": "T", "paras": [["T", prose]]}])
    write(folder / "text" / "wikipedia_places.jsonl.xz", [{"title": "1_T", "text": prose}])
    return folder


def test_a_row_becomes_its_evidence_sentence():
    item = item_of(rows()[0], "squad_train_subset")
    assert item.target == "The lathe of Kendal weighs 20 tonnes."
    ((number, span),) = item.gold
    assert item.passages[number].text[span.start : span.end] == item.target


def test_an_unanswerable_row_has_nothing_to_write():
    item = item_of({**rows()[0], "answerable": False, "short": []}, "squad2_9articles")
    assert (item.target, item.gold) == ("", ())


def test_missing_data_is_named(tmp_path):
    with pytest.raises(RagdemoError, match="squad_train_subset"):
        load(tmp_path)


def test_near_misses_never_hold_the_answer(data):
    train, watch = load(data)
    mixer = Mixer(train + watch, random.Random(0))
    for item in train[:20]:
        for miss in mixer.near_misses(item, 3):
            assert not any(s.lower() in miss.text.lower() for s in item.short)


def test_drawn_items_keep_their_evidence_in_place(data):
    train, watch = load(data)
    mixer = Mixer(train + watch, random.Random(1))
    seen = set()
    for _ in range(300):
        item = mixer.draw(several=0.7, refuse=0.2, ask=0.2)
        seen.add((item.task, bool(item.target)))
        for number, span in item.gold:
            text = item.passages[number].text[span.start : span.end]
            if item.task == "answer":
                assert " ".join(text.split()) == item.target
    assert seen == {("answer", True), ("answer", False), ("closed", True), ("ask", True)}


PAGES = read_pages()


@pytest.mark.parametrize("seed", range(5))
def test_every_page_holds_its_answers_once_filled(seed):
    for page in PAGES:
        filled = fill(page, random.Random(seed))
        assert not set("{}") & set(filled.text + filled.title)
        for asked in filled.asked:
            assert not set("{}") & set(asked.question)
            if asked.sentence:
                said = filled.text[asked.sentence.start : asked.sentence.end]
                assert asked.answer.lower() in said.lower()


def test_pages_are_many_and_leave_questions_open():
    assert len(PAGES) > 200
    asked = [a for page in PAGES for a in fill(page, random.Random(0)).asked]
    assert sum(a.sentence is None for a in asked) > 500
    assert len({a.question for a in asked}) > 0.98 * len(asked)


def test_filling_again_changes_the_facts():
    first, second = ([fill(p, random.Random(seed)).text for p in PAGES] for seed in (1, 2))
    assert np.mean([a != b for a, b in zip(first, second, strict=True)]) > 0.9


def test_taking_the_evidence_out_takes_the_answer_out():
    items = [i for page in PAGES for i in page_items(page, random.Random(0)) if i.target]
    bare = [(i, without_evidence(i)) for i in items]
    assert sum(b is not None for _, b in bare) > len(items) / 2
    for item, rest in bare:
        if rest:
            assert rest.target == ""
            assert rest.gold == ()
            assert item.short[0].lower() not in rest.passages[0].text.lower()
            assert len(rest.passages[0].text) < len(item.passages[0].text)


def test_near_misses_of_a_page_are_never_the_page_itself(data):
    train, _ = load(data)
    mixer = Mixer(train, random.Random(0))
    for item in [i for i in train if i.source == "pages"][::40]:
        assert all(m.title != item.passages[0].title for m in mixer.near_misses(item, 4))


def test_closed_book_rows_have_a_question_and_no_passages(data):
    closed = closed_items(data, paragraphs(data), random.Random(0))
    for _ in range(20):
        item = next(closed)
        assert (item.task, item.passages) == ("closed", ())
        assert item.question
        assert item.target


def test_warm_up_asks_with_the_words_of_one_sentence(data):
    copies = copy_items(paragraphs(data), random.Random(0))
    for _ in range(20):
        item = next(copies)
        ((_, span),) = item.gold
        assert item.passages[0].text[span.start : span.end] == item.target
        assert all(w in item.target.lower() for w in item.question.split())


def test_the_marked_tokens_are_the_short_answer():
    encoder = Tensors()
    text = "Cranes are old. The lathe weighs 20 tonnes today."
    item = Item(
        "answer", "How heavy?", (Text("Nothing here."), Text(text)), text[16:],
        ((1, Span(16, len(text))),), ("20 tonnes",),
    )  # fmt: skip
    batch = encoder.batch([item, Item("answer", "Who?", (Text("Nothing."),), "")])
    pieces = batch.source.tokens[0][batch.spots[0]].tolist()
    assert encoder.tokenizer.decode(pieces) == "20 tonnes"
    # without an answer, the [CLS] of each passage stands for "not here"
    assert batch.source.tokens[1][batch.spots[1]].tolist() == [101]
    assert (batch.labels[1] == 0).all()


def test_rate_rises_and_falls():
    run = Run(steps=1000)
    rates = [rate(Progress(step=s), run) for s in range(0, 1000, 50)]
    assert rates[0] < rates[2] == 1.0
    assert rates[-1] < 0.15
    assert rates[6:] == sorted(rates[6:], reverse=True)


def test_ten_steps_lower_the_loss(data):
    torch.manual_seed(0)
    draws = Draws(data, 0, 1200, (Stage("one passage", 1.0),))
    fixed = [draws.next(0.0) for _ in range(5)]
    model = start_model()
    optimiser = optimiser_of(model)
    for group in optimiser.param_groups:
        group["lr"] = group["peak"] / 3

    def loss() -> float:
        with torch.no_grad():
            return sum(float(sum(losses(model, batch))) for batch in fixed)

    before = loss()
    for step in range(10):
        sum(losses(model, fixed[step % 5])).backward()
        optimiser.step()
        optimiser.zero_grad()
    assert loss() < 0.8 * before


def test_a_run_leaves_weights_and_goes_on(data, tmp_path):
    from ragdemo.generation.mini.weights import load as load_weights

    stages = (Stage("one passage", 1.0),)
    first = train(data, tmp_path, Run(steps=2), cap=600, stages=stages, watched=6)
    assert first.step == 2
    again = train(data, tmp_path, Run(steps=4), cap=600, stages=stages, watched=6)
    assert again.step == 4
    assert len(again.history) == 2
    model, facts = load_weights(tmp_path / "weights")
    assert facts.examples == again.examples
    stored = torch.load(tmp_path / "checkpoint.pt", weights_only=True)["model"]
    scale = stored["bart.shared.weight"].abs().amax(1, keepdim=True) / 127
    error = (model.bart.shared.weight - stored["bart.shared.weight"]).abs()
    assert (error <= scale * 0.51).all()
    assert np.isfinite(again.history[-1]["found"])
    # and another run can begin where the stored weights stand
    further = start_model(tmp_path / "weights")
    assert torch.equal(further.bart.shared.weight, model.bart.shared.weight)


def test_frozen_layers_stay_and_the_others_learn(data, tmp_path):
    before = start_model().state_dict()
    stages = (Stage("one passage", 1.0),)
    train(data, tmp_path, Run(steps=2), cap=600, stages=stages, watched=2, frozen=2)
    after = torch.load(tmp_path / "checkpoint.pt", weights_only=True)["model"]
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    encoder = {int(n.split(".")[3]) for n in moved if n.startswith("bart.encoder.layers.")}
    assert encoder == {2, 3, 4, 5}
    assert "bart.shared.weight" not in moved
    assert any(n.startswith("bart.decoder.layers.0.") for n in moved)


def test_workers_draw_for_a_run_that_drops_out(data, tmp_path):
    stages = (Stage("one passage", 1.0),)
    run = Run(steps=3)
    done = train(data, tmp_path, run, cap=600, stages=stages, watched=2, dropped=0.1, workers=2)
    assert done.step == 3
    assert done.examples >= 3
    assert not multiprocessing.active_children()


def test_each_worker_draws_its_own_rows(data):
    draws = Draws(data, 0, 600, (Stage("one passage", 1.0),))
    workers = Workers(draws, 0, 2)
    try:
        drawn = [workers.next(0.0) for _ in range(6)]
    finally:
        workers.close()
    different = {tuple(batch.source.input_ids.flatten().tolist()) for batch in drawn}
    assert len(different) > 3
    assert all(batch.selects.all() for batch in drawn)


def test_dropout_reaches_every_layer_and_only_where_it_is_asked_for():
    model = start_model()
    drop(model, 0.25)
    shares = [m.dropout for m in model.bart.modules() if isinstance(m, BartAttention | BartEncoder)]
    assert set(shares) == {0.25}
    assert len(shares) > 14
    batch = Tensors().batch([Item("answer", "Who?", (Text("Ann is here."),), "")])
    with torch.no_grad():
        model.eval()
        assert torch.equal(model.encode(batch.source).spot, model.encode(batch.source).spot)
        model.train()
        assert not torch.equal(model.encode(batch.source).spot, model.encode(batch.source).spot)


def test_the_bar_of_refusal_lets_no_more_pass_than_allowed():
    answerable = np.linspace(0, 0.9, 91)
    silent, quiet = [0.95] * 20 + [0.2] * 5, lambda line: None

    def wrong(bar: float, articles: np.ndarray) -> float:  # with the standard error by article
        refused = answerable > bar
        among = [(refused[articles == a] - refused.mean()).sum() for a in set(articles.tolist())]
        return refused.mean() + np.linalg.norm(among) / 91

    bars = []
    for articles in (np.arange(91), np.arange(91) // 13):  # each question's own, or 13 of each
        bar = choose_threshold("", answerable, silent, [str(a) for a in articles], 0.2, quiet)
        assert wrong(bar, articles) <= 0.2 < wrong(bar - 0.0101, articles)
        bars.append(bar)
    # alone, the error is nearly that of any share; questions that come together tell less
    share = np.mean(answerable > bars[0])
    error = (share * (1 - share) / 91) ** 0.5
    assert wrong(bars[0], np.arange(91)) == pytest.approx(share + error)
    assert bars[1] > bars[0]
    assert choose_threshold("", [0.99] * 9, [1.0], ["a"] * 9, 0.1, quiet) == 0.98  # the highest


def test_recognised_about_the_bar_is_the_curve_there():
    even = np.linspace(0, 1, 1001)
    # for an even spread w of the answerable lie above 1 - w, and 0.2 + w of one shifted by 0.2
    assert recognised_near(even, even + 0.2, 0.2) == pytest.approx(0.4, abs=2e-3)
    assert recognised_near(even, even, 0.06) == pytest.approx(0.06, abs=2e-3)
    assert recognised_near(even, even + 2, 0.2) == 1.0
    # what happens far from the bar does not count
    assert recognised_near(even, np.where(even > 0.5, even, 0), 0.2) == pytest.approx(0.2, abs=2e-3)


def test_a_sentence_alone_is_the_one_that_answers_or_seems_to():
    text = Text("Rome is old. The Normans came from Denmark. They settled in France.", "Normans")
    gold = Span(13, 43)
    told = Item("answer", "Who came from Denmark?", (text,), "x", ((0, gold),), ("Normans",))
    alone = sentence_alone(told)
    assert alone.passages == (Text("The Normans came from Denmark.", "Normans"),)
    assert alone.gold == ((0, Span(0, 30)),)
    silent = Item("answer", "In which land of France did they settle?", (text,), "")
    assert sentence_alone(silent).passages[0].text == "They settled in France."
    assert sentence_alone(silent).gold == ()


def test_a_tricky_question_is_joined_to_its_paragraph():
    questions = [
        {"about": "3", "q": "How heavy is the boiler of Kendal not?", "a": None},
        {"about": "3", "q": "What does the boiler weigh?", "a": "23 tonnes"},
        {"about": "gone", "q": "Where is it?", "a": None},
    ]
    silent, told = trick_rows(rows(), questions)
    assert item_of(silent, "tricks").target == ""
    item = item_of(told, "tricks")
    assert item.target == "The boiler of Kendal weighs 23 tonnes."
    mixer = Mixer([item, item_of(silent, "tricks")], random.Random(0))
    drawn = [mixer.trick(share) for share in (0.0, 1.0) for _ in range(40)]
    assert {i.source for i in drawn} == {"tricks", "pages"}
    assert {i.question for i in drawn if i.source == "tricks"} == {q["q"] for q in questions[:2]}


def test_the_written_questions_are_well_formed():
    questions = read_questions()
    assert len({(q["about"], q["q"].lower()) for q in questions}) == len(questions)
    assert all(q["q"].strip() and (q["a"] is None or q["a"].strip()) for q in questions)
    silent = sum(q["a"] is None for q in questions)
    assert 0.4 < silent / len(questions) < 0.65  # neither kind is the trivial answer


def test_a_question_is_written_about_the_sentence_that_answers_it(data):
    item = next(i for i in load(data)[0] if i.source == "squad_train_subset")
    asked = replace(item, task="ask", target=item.question, question="")
    answer, ask, free = (Tensors().batch([i]) for i in (item, asked, replace(asked, gold=())))
    assert [b.about.tolist() for b in (answer, ask, free)] == [[0], [1], [0]]
    only = Tensors().batch([item], write=False)
    assert not only.labels.any()
    assert only.selects.all()
