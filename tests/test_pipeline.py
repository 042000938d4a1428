"""Question in, both answers out, with the real encoder and the bundled generator."""

import itertools
import threading

import pytest
from samples import FILES, handbook, mini, small_corpus

from ragdemo.corpus import Corpus
from ragdemo.embedding import HashingEncoder
from ragdemo.errors import RagdemoError
from ragdemo.pipeline import answer, build, compare, retrieve, standalone, stream, summarise
from ragdemo.settings import Ask
from ragdemo.types import Decoding


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
