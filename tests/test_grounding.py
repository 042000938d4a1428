"""Citations, support and what is marked, on cases worked out by hand and on any text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragdemo.grounding import marked, stems, support
from ragdemo.types import Chunk, Hit


def hit(text: str, number: int = 1, context: str = "") -> Hit:
    chunk = Chunk(str(number), "d", "d.pdf", text, 0, len(text), (1,), context=context)
    return Hit(chunk, 0.5, number, "dense")


PHONE = hit("Staff may use a work phone for private calls. Roaming costs £5.50 a day.", 1)
LEAVE = hit("Full-time staff get 28 days of annual leave. Dr Amir Khan approves it.", 2)


def test_copied_sentence_is_fully_supported_and_cited():
    (found,) = support("Full-time staff get 28 days of annual leave.", [PHONE, LEAVE])
    assert (found.score, found.citation, found.unsupported) == (1.0, 2, ())
    text = LEAVE.chunk.text[found.evidence.start : found.evidence.end]
    assert text == "Full-time staff get 28 days of annual leave."


def test_number_words_and_endings_count_as_the_same():
    (found,) = support("Roaming costs 5.50 per days.", [PHONE])
    assert found.citation == 1
    assert not support("They get twenty-eight days.", [LEAVE])[0].unsupported
    assert support("They get thirty-eight days.", [LEAVE])[0].unsupported
    assert not support("Amir Khan approves 28 days.", [LEAVE])[0].unsupported


@pytest.mark.parametrize(
    ("answer", "loose"),
    [
        ("Full-time staff get 35 days of annual leave.", ["35"]),
        ("The leave is approved by Maria Gomez.", ["Maria", "Gomez"]),
        ("Roaming costs £6.50 a day.", ["£6.50"]),
        ("Roaming costs £5.50 a day.", []),
    ],
)
def test_made_up_numbers_and_names_are_listed(answer, loose):
    (found,) = support(answer, [PHONE, LEAVE])
    assert [answer[s.start : s.end] for s in found.unsupported] == loose


def test_echoing_the_question_is_no_evidence():
    question = "What does roaming cost a day?"
    (echo,) = support("Roaming cost a day.", [PHONE], question)
    assert (echo.score, echo.citation) == (0.0, None)
    (told,) = support("Roaming costs £5.50 a day.", [PHONE], question)
    assert (told.score, told.citation) == (1.0, 1)


def test_each_sentence_is_judged_on_its_own():
    answer = "Roaming costs £5.50 a day. Penguins elected the carpet."
    first, second = support(answer, [PHONE, LEAVE])
    assert first.citation == 1
    assert second.citation is None
    assert second.evidence is None
    assert second.score < 0.5


def test_evidence_leads_into_the_passage_behind_its_table_header():
    row = hit("B | £120 | £25", context="Grade | Hotel | Meals")
    (found,) = support("Grade B: hotel £120.", [row])
    assert found.citation == 1
    assert 0 <= found.evidence.start <= found.evidence.end <= len(row.chunk.text)


def test_nothing_to_judge_or_to_judge_by():
    assert support("", [PHONE]) == ()
    (found,) = support("Anything at all.", [])
    assert (found.score, found.citation) == (0.0, None)


def test_marked_words_are_those_of_the_question():
    text = PHONE.chunk.text
    assert [text[s.start : s.end] for s in marked("Can I make a private call?", text)] == [
        "private",
        "calls",
    ]


def test_stems_of_numbers():
    assert [w for w, _ in stems("£1,250.50 for twenty managers' trips")] == [
        "1250.50",
        "20",
        "manag",
        "trip",
    ]


@given(st.text(max_size=200), st.lists(st.text(max_size=200), max_size=3))
def test_any_text_is_judged_within_bounds(answer, passages):
    hits = [hit(p, n) for n, p in enumerate(passages, start=1)]
    end = 0
    for found in support(answer, hits):
        assert 0 <= found.score <= 1
        assert end <= found.start < found.end <= len(answer)
        assert found.citation is None or 1 <= found.citation <= len(hits)
        assert all(found.start <= s.start < s.end <= found.end for s in found.unsupported)
        end = found.end


@given(st.text(min_size=1, max_size=200))
def test_a_text_bears_itself_out(text):
    for found in support(text, [hit(text)]):
        assert not found.unsupported
