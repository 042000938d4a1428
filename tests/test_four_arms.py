"""Four kinds of evidence for one question, with the bundled model."""

import threading

import pytest
from samples import handbook, mini, small_corpus

from ragdemo.evaluation.four_arms import VERDICTS, four_arms, is_right, judged, nearest_wrong
from ragdemo.evaluation.refusing import says_not
from ragdemo.settings import Ask
from ragdemo.types import Answer, Chunk, Hit, Prompt

QUESTION = "How soon must a lost phone be reported to the IT desk?"
SHORT = ("24 hours", "within 24 hours")


def holding(corpus, text: str) -> Chunk:
    return next(c for c in corpus.chunks if text in " ".join(c.text.split()))


def said(text: str, finish: str = "stop") -> Answer:
    return Answer(text, Prompt("", (), (), {}, (), 0), "test", finish=finish)


def test_found_and_answered():
    corpus = small_corpus()
    gold = holding(corpus, "24 hours")
    four = four_arms(QUESTION, corpus, mini(), gold=gold, short=SHORT)
    assert list(four.answers) == ["none", "retrieved", "gold", "wrong"]
    assert four.right == {"none": False, "retrieved": True, "gold": True, "wrong": False}
    assert (four.verdict, four.because) == ("fine", VERDICTS["fine"])
    assert four.wrong.document_name == "leave.md"
    assert four.answers["gold"].prompt.used[0].chunk is gold
    assert not four.answers["none"].prompt.used


def test_retrieval_missed_it():
    """k = 1, and a question in other words than the passage that answers it."""
    corpus = handbook()
    gold = holding(corpus, "in Harbour with form HR-14")
    question, short = "What is form HR-14 for?", ("work remotely",)
    four = four_arms(question, corpus, mini(), gold=gold, short=short, ask=Ask(k=1))
    assert gold not in [hit.chunk for hit in four.found]
    assert four.right["gold"]
    assert not four.right["retrieved"]
    assert four.verdict == "retrieval missed it"


@pytest.mark.parametrize(
    ("right", "there", "verdict"),
    [
        ({"none": True, "retrieved": True, "gold": True}, True, "the model already knew"),
        ({"none": False, "retrieved": True, "gold": True}, False, "fine"),
        ({"none": False, "retrieved": False, "gold": True}, False, "retrieval missed it"),
        ({"none": False, "retrieved": False, "gold": True}, True, "the generator ignored it"),
        ({"none": False, "retrieved": False, "gold": False}, False, "the generator ignored it"),
    ],
)
def test_every_verdict(right, there, verdict):
    gold = Chunk("d:0-9", "d", "d.md", "the seven", 0, 9, (1,))
    used = [Hit(gold, 1.0, 1, "dense")] if there else []
    assert judged(gold, used, right, ("seven",)) == verdict


def test_no_gold_means_the_documents_do_not_say():
    four = four_arms("Which pets may I bring to the office?", small_corpus(), mini(), gold=None)
    assert "gold" not in four.answers
    assert four.verdict == "the documents don't say"
    assert four.right["retrieved"] == (four.answers["retrieved"].finish == "refused")


def test_a_gold_passage_without_the_answer_is_no_gold():
    corpus = small_corpus()
    four = four_arms(
        "How many bicycles are lent?", corpus, mini(), gold=corpus.chunks[0], short=("seven",)
    )
    assert four.verdict == "the documents don't say"


def test_without_accepted_answers_the_gold_passage_judges():
    corpus = small_corpus()
    gold = holding(corpus, "24 hours")
    right = said("It must be reported to the IT desk within 24 hours.")
    assert is_right(right, QUESTION, gold, ())
    assert not is_right(said("It must be reported within 36 hours."), QUESTION, gold, ())
    assert not is_right(said("The documents do not say.", "refused"), QUESTION, gold, ())


def test_the_wrong_passage_holds_no_accepted_answer():
    corpus = handbook()
    gold = holding(corpus, "At most 15 working days of annual leave")
    wrong = nearest_wrong("How many days of annual leave in one stretch?", corpus, gold, ("15",))
    assert wrong.document_id != gold.document_id
    assert "15" not in wrong.content.split()


def test_stopped_answers_are_there_all_the_same():
    event = threading.Event()
    event.set()
    corpus = small_corpus()
    four = four_arms(QUESTION, corpus, mini(), gold=corpus.chunks[-1], short=SHORT, cancelled=event)
    assert {a.finish for a in four.answers.values()} == {"cancelled"}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("The documents do not say.", True),
        ("I don't know.", True),
        ("The passages don't mention a dress code.", True),
        ("I could not find this information in the documents.", True),
        ("No information is provided in the context.", True),
        ("Employees may not bring pets.", False),
        ("You do not need approval for courses under £400.", False),
        ("24 hours.", False),
        ("", False),
    ],
)
def test_what_counts_as_a_refusal(text, says):
    assert says_not(text) == says
