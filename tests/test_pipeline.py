"""Question in, both answers out, with the real encoder and the bundled generator."""

import itertools
import math
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from samples import FILES, handbook, mini, small_corpus

from ragdemo import report, retrieval
from ragdemo.corpus import Corpus
from ragdemo.embedding import HashingEncoder
from ragdemo.errors import RagdemoError
from ragdemo.generation.causal import CausalGenerator
from ragdemo.pipeline import answer, build, compare, retrieve, standalone, stream, summarise
from ragdemo.retrieval.dense import Dense
from ragdemo.serving import SharedGenerator
from ragdemo.settings import Ask
from ragdemo.types import Decoding

STORIES = Path(__file__).parents[2] / "shared" / "models" / "stories260K"
WEIGHED = Ask(k=3, fusion="marginalise")


def stories() -> CausalGenerator:
    if not STORIES.is_dir():
        pytest.skip(f"{STORIES} is not on this machine")
    return CausalGenerator(STORIES)


def test_both_answers_with_passages_and_times():
    found = compare(
        "How many days of annual leave do full-time employees get?", small_corpus(), mini()
    )
    assert "28 days" in found.grounded.text
    assert found.baseline.text
    assert found.baseline.prompt.used == ()
    assert found.grounded.model == found.baseline.model
    assert found.hits[0].chunk.document_name == "leave.md"
    assert found.support[0].citation is not None
    assert set(found.files) == {"leave.md", "phones.md"}
    assert found.settings["k"] == 5
    assert {"search", "prompt", "first word", "both answers", "check"} <= set(found.seconds)
    assert "torch" in found.versions


def test_updates_come_in_order_and_texts_grow():
    updates = list(stream("Who approves roaming?", small_corpus(), mini()))
    stages = list(dict.fromkeys(u.stage for u in updates))
    assert stages == ["searching", "reading", "writing", "done"]
    writing = [u for u in updates if u.stage == "writing"]
    for before, after in itertools.pairwise(writing):
        assert after.grounded.startswith(before.grounded)
        assert after.baseline.startswith(before.baseline)
    assert updates[-1].comparison.grounded.text == writing[-1].grounded


def test_cancelling_keeps_what_was_written():
    event = threading.Event()
    last = None
    for update in stream("What about a lost phone?", small_corpus(), mini(), cancelled=event):
        if update.grounded:
            event.set()
        last = update
    assert last.comparison.grounded.finish == "cancelled"
    assert last.comparison.grounded.text


def test_no_documents_leaves_the_baseline():
    found = compare("What is leave?", Corpus(HashingEncoder()), mini())
    assert found.hits == ()
    assert found.grounded.text == ""
    assert found.baseline.text
    assert "Documents page" in found.weak


def test_an_unrelated_question_is_called_weak():
    found = compare("Which penguin glaze ferments the comet?", handbook(), mini())
    assert found.weak


def test_an_empty_question_is_refused():
    with pytest.raises(RagdemoError, match="no question"):
        compare("  ", small_corpus(), mini())


def test_more_passages_than_there_are():
    assert 0 < len(retrieve("leave", small_corpus(), 20)) <= len(small_corpus().chunks)


@pytest.mark.parametrize(
    ("question", "history", "wanted"),
    [
        ("And for managers?", [("How much leave do I get?", "28 days.")],
         "How much leave do I get? And for managers?"),
        ("Who approves it?", [("May I work abroad?", "Yes.")],
         "May I work abroad? Who approves it?"),
        ("How many days of parental leave may fathers take?", [("May I work abroad?", "Yes.")],
         "How many days of parental leave may fathers take?"),
        ("And for managers?", [], "And for managers?"),
    ],
)  # fmt: skip
def test_a_follow_up_takes_what_it_needs(question, history, wanted):
    assert standalone(question, history) == wanted


def test_history_is_used_only_when_asked_for():
    history = [("What must I do when a phone is lost?", "Report it.")]
    ask = Ask(use_history=True)
    with_it = compare("Within how many hours?", small_corpus(), mini(), ask=ask, history=history)
    without = compare("Within how many hours?", small_corpus(), mini(), history=history)
    assert with_it.settings["searched_for"].startswith("What must I do")
    assert without.settings["searched_for"] == "Within how many hours?"
    assert "24 hours" in with_it.grounded.text


def test_one_answer_alone():
    corpus = small_corpus()
    said = answer("Who approves roaming?", retrieve("Who approves roaming?", corpus), mini())
    assert "Priya Raman" in said.text


def test_a_summary_names_the_passage_of_each_point():
    corpus = handbook()
    document = next(d for d in corpus.documents.values() if d.name.startswith("mobile"))
    points = summarise(document.id, corpus, mini())
    assert points
    for text, hit in points:
        assert text
        assert hit.chunk.document_id == document.id


def test_files_that_cannot_be_read_are_reported():
    corpus = build([*FILES, ("broken.pdf", b"%PDF-1.7 nothing"), ("again.md", FILES[0][1])],
                   HashingEncoder())  # fmt: skip
    reports = {r.name: r for r in corpus.reports}
    assert set(reports) == {"leave.md", "phones.md", "broken.pdf", "again.md"}
    assert reports["broken.pdf"].error
    assert reports["again.md"].duplicate_of == "leave.md"
    assert len(corpus.documents) == 2


def test_sampling_follows_its_seed():
    corpus = small_corpus()
    decoding = Decoding(sample=True, temperature=1.3, top_p=1.0, seed=3, max_tokens=20)
    first = compare("What is a phone for?", corpus, mini(), decoding=decoding)
    again = compare("What is a phone for?", corpus, mini(), decoding=decoding)
    assert first.baseline.text == again.baseline.text


# -- fusion


def test_a_question_weighed_under_every_passage():
    question = "How many days of annual leave do full-time employees get?"
    updates = list(stream(question, small_corpus(), SharedGenerator(mini()), ask=WEIGHED))
    stages = list(dict.fromkeys(u.stage for u in updates))
    assert stages == ["searching", "reading", "writing", "scoring", "done"]
    told = list(dict.fromkeys(u.progress for u in updates if u.progress))
    assert told[0].startswith("writing candidates")
    assert "writing candidates 3 of 3" in told
    assert told[-3:] == [f"scoring under passage {n} of 3" for n in (1, 2, 3)]
    found = updates[-1].comparison
    assert "28 days" in found.grounded.text
    assert [h.rank for h in found.hits] == [1, 2, 3]
    m = found.marginal
    assert found.grounded.text == m.candidates[m.winner]
    source = m.written_from[m.winner][0]
    assert found.grounded.prompt.used == (found.hits[source],)
    assert len(m.prior) == 3
    assert sum(m.prior) == pytest.approx(1)
    assert all(sum(row) == pytest.approx(1) for row in m.posteriors)
    for row, total in zip(m.log_likelihoods, m.log_marginals, strict=True):
        parts = [p * math.exp(value) for p, value in zip(m.prior, row, strict=True)]
        assert math.exp(total) == pytest.approx(sum(parts), rel=1e-6)
    assert m.posteriors[m.winner][source] > 0.9
    assert found.support[0].citation == source + 1
    assert found.settings["fused"] == "marginalise"
    assert "scoring" in found.seconds


def test_a_weighed_comparison_is_saved_and_shown():
    found = compare("Who approves roaming?", small_corpus(), mini(), ask=WEIGHED)
    assert found.marginal
    assert report.from_json(report.to_json(found)) == found
    assert "p(passage | question)" in report.to_html(found)
    shorter = report.to_json(found).replace('"prior": [', '"prior": [0.5, ')
    with pytest.raises(RagdemoError, match="was changed"):
        report.from_json(shorter)


def test_a_continuing_model_weighs_too():
    ask = Ask(k=2, fusion="marginalise")
    decoding = Decoding(max_tokens=12)
    model = stories()
    found = compare("What about a lost phone?", small_corpus(), model, ask=ask, decoding=decoding)
    m = found.marginal
    assert found.grounded.text == m.candidates[m.winner]
    assert max(m.log_marginals) == m.log_marginals[m.winner] < 0
    assert all(value < 0 for row in m.log_likelihoods for value in row)


def test_stopping_while_candidates_are_written_or_weighed():
    for stage in ("writing", "scoring"):
        event = threading.Event()
        updates = []
        for update in stream(
            "What about a lost phone?", small_corpus(), mini(), ask=WEIGHED, cancelled=event
        ):
            updates.append(update)
            if update.stage == stage and update.grounded:
                event.set()
        found = updates[-1].comparison
        assert found.grounded.finish == "cancelled"
        assert found.marginal is None
        assert found.grounded.text == updates[-2].grounded != ""


def test_one_passage_or_none_is_weighed_all_the_same():
    one = Ask(k=1, fusion="marginalise")
    found = compare("Who approves roaming?", small_corpus(), mini(), ask=one)
    assert found.marginal.prior == (1.0,)
    assert found.marginal.posteriors == ((1.0,),)
    empty = compare("What is leave?", Corpus(HashingEncoder()), mini(), ask=WEIGHED)
    assert empty.hits == ()
    assert empty.marginal is None
    assert empty.baseline.text


def test_a_refusal_of_every_passage_is_the_answer():
    found = compare("Which penguin glaze ferments the comet?", handbook(), mini(), ask=WEIGHED)
    assert found.grounded.finish == "refused"
    assert found.marginal is None


@pytest.mark.parametrize("order", ["best first", "best last", "as in the document"])
def test_passages_stand_in_the_prompt_as_asked_and_citations_follow(order):
    decoding = Decoding(max_tokens=8)
    model = CausalGenerator(STORIES, limit=512) if STORIES.is_dir() else stories()
    found = compare(
        "What about a lost phone?", small_corpus(), model, ask=Ask(order=order), decoding=decoding
    )
    prompt = found.grounded.prompt
    assert found.hits == (*prompt.used, *prompt.dropped)
    assert len(prompt.used) > 1
    ranks = [h.rank for h in prompt.used]
    assert 1 in ranks
    if order != "as in the document":
        assert ranks == sorted(ranks, reverse=order == "best last")
    for number, hit in enumerate(prompt.used, start=1):
        assert f"[{number}] ({hit.chunk.document_name}" in prompt.text
    assert not found.weak.startswith("The best passage")  # the best, wherever it stands


def test_another_retriever_is_used_all_the_way():
    class Reversed(Dense):
        """The real one, worst first."""

        def search(self, question, k):
            found = super().search(question, len(self.corpus.chunks))[::-1][:k]
            return [replace(h, rank=rank) for rank, h in enumerate(found, start=1)]

    corpus = small_corpus()
    other = Reversed(corpus)
    wanted = other.search("Who approves roaming?", 2)
    assert retrieve("Who approves roaming?", corpus, 2, other) == wanted
    assert wanted != retrieve("Who approves roaming?", corpus, 2)
    found = compare("Who approves roaming?", corpus, mini(), ask=Ask(k=2), retriever=other)
    assert list(found.hits) == wanted
    words = retrieval.create("bm25", corpus)
    found = compare("Who approves roaming?", corpus, mini(), retriever=words)
    assert found.settings["retriever"] == found.hits[0].retriever == "bm25"
    assert found.floor == retrieval.floor(words)
    assert not found.weak.startswith("The best passage")
    nonsense = compare("Do clouds prefer the marble?", corpus, mini(), retriever=words)
    assert nonsense.weak


def test_what_is_raised_while_a_file_is_read_ahead_reaches_the_caller():
    def progress(name, done, pages):
        if name == FILES[1][0]:
            raise ZeroDivisionError(name)

    before = threading.active_count()
    with pytest.raises(ZeroDivisionError):
        build(FILES, HashingEncoder(), progress=progress)
    assert threading.active_count() == before
