"""Reading question sets: the samples', and what visitors bring."""

import contextlib
import csv
import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from samples import SAMPLE_DOCS

from ragdemo.errors import DocumentError, LimitReached, RagdemoError
from ragdemo.evaluation import questions
from ragdemo.evaluation.questions import COLUMNS, Question, read_questions, sample_questions


def as_csv(*rows, delimiter=",") -> bytes:
    out = io.StringIO()
    csv.writer(out, delimiter=delimiter).writerows(rows)
    return out.getvalue().encode()


def as_jsonl(*rows) -> bytes:
    return "\n".join(json.dumps(row) for row in rows).encode()


def test_the_samples_are_all_read():
    found = sample_questions(SAMPLE_DOCS)
    lines = (SAMPLE_DOCS / "questions.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(found) == len(lines)
    for question, line in zip(found, lines, strict=True):
        row = json.loads(line)
        assert (question.id, question.question) == (row["id"], row["question"])
        assert question.short == tuple(row["short"])
        assert question.answerable == row["answerable"]
        places = [row, *row.get("also", [])] if row["answerable"] else []
        assert question.places == tuple((p["file"], tuple(p["pages"])) for p in places)


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
def test_a_spreadsheet_is_read(delimiter, bom):
    data = bom + as_csv(
        ["Question ", "short", "file", "PAGES", "answerable", "kind", "my notes"],
        ["How many days, at most?", "28|28 days", "leave.pdf", "2; 4 - 5, 7", "", "plain", "x"],
        [],
        ["Who is the king?", "", "", "", "No", "unanswerable", ""],
        delimiter=delimiter,
    )
    first, second = read_questions(data, "mine.csv")
    assert first == Question(
        id="2",
        question="How many days, at most?",
        short=("28", "28 days"),
        file="leave.pdf",
        pages=(2, 4, 5, 7),
        kind="plain",
    )
    assert (second.answerable, second.places, second.id) == (False, (), "4")


def test_a_csv_needs_no_more_than_questions():
    assert [q.question for q in read_questions(b"question\nWhy?\nWhen?\n", "q.csv")] == [
        "Why?",
        "When?",
    ]


def test_json_lines_are_read():
    rows = [
        {"question": "A?", "short": [28, " 28 days "], "pages": [3, "5-6"], "file": "a.pdf"},
        {"question": "B?", "short": None, "answerable": False, "id": 7, "other": {"x": 1}},
        {"question": "C?", "file": "a.pdf", "pages": 1, "also": [{"file": "b.pdf", "pages": [2]}]},
    ]
    a, b, c = read_questions(as_jsonl(*rows), "q.jsonl")
    assert (a.short, a.pages) == (("28", "28 days"), (3, 5, 6))
    assert (b.id, b.answerable, b.short) == ("7", False, ())
    assert c.places == (("a.pdf", (1,)), ("b.pdf", (2,)))


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        ({"question": " "}, "there is no question"),
        ({"question": ["x"]}, "question must be text"),
        ({"question": "x", "pages": "two"}, "numbers like 2 or 2-4, got 'two'"),
        ({"question": "x", "pages": "5-2", "file": "a"}, "got '5-2'"),
        ({"question": "x", "pages": [0], "file": "a"}, "got '0'"),
        ({"question": "x", "pages": "1-999999", "file": "a"}, "got '1-999999'"),
        ({"question": "x", "pages": 2}, "without the file"),
        ({"question": "x", "answerable": "perhaps"}, "yes or no, got 'perhaps'"),
        ({"question": "x", "answer": "y" * 6000}, "answer has 6,000 characters"),
        ({"question": "x", "also": [{"file": "a"}]}, "needs a file and pages"),
        ({"question": "x", "also": {"file": "a"}}, "list of objects"),
        ({"question": "x", "id": "first"}, "'first' was used before"),
        (["x"], "no JSON object"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_fault_is_told_with_its_row(row, fault):
    good = {"question": "Good?", "id": "first"}
    with pytest.raises(DocumentError) as told:
        read_questions(as_jsonl(good, row), "mine.jsonl")
    assert "mine.jsonl was not taken. row 2: " in str(told.value)
    assert fault in str(told.value)


def test_many_faults_are_counted():
    data = as_csv(["question", "pages"], *[["x", "?"]] * 25)
    with pytest.raises(DocumentError, match=r"row 2: .*row 11: .*and 15 more"):
        read_questions(data, "mine.csv")


def test_a_field_too_many_is_a_fault():
    with pytest.raises(DocumentError, match="row 2: 3 fields for 2 columns"):
        read_questions(b"question,answer\nWho, and why?,me\n", "mine.csv")


def test_the_header_is_checked():
    with pytest.raises(DocumentError, match=r"it holds ask, reply\. Columns that are read: quest"):
        read_questions(b"ask,reply\na,b\n", "mine.csv")
    with pytest.raises(DocumentError, match="each once"):
        read_questions(b"question,question\na,b\n", "mine.csv")


def test_limits_and_empty_files(monkeypatch):
    monkeypatch.setattr(questions, "ROWS", 3)
    with pytest.raises(LimitReached, match="more than 3 questions"):
        read_questions(b"question\n" + b"x\n" * 4, "mine.csv")
    assert len(read_questions(b"question\n" + b"x\n" * 3, "mine.csv")) == 3
    with pytest.raises(LimitReached, match="5 MiB"):
        read_questions(b"x" * (questions.BYTES + 1), "mine.csv")
    for nothing in (b"question\n", b"question\n,\n"):
        with pytest.raises(DocumentError, match="no question"):
            read_questions(nothing, "mine.csv")
    with pytest.raises(DocumentError, match=r"no questions\.jsonl"):
        sample_questions(SAMPLE_DOCS / "source")


def test_every_column_described_is_a_field():
    assert set(COLUMNS) == set(Question.__dataclass_fields__)


@given(st.one_of(st.binary(max_size=200), st.text(max_size=200).map(str.encode)))
def test_any_bytes_end_in_questions_or_a_sentence(data):
    for head in (b"", b"question,pages\n", b'{"question": "x"}\n'):
        with contextlib.suppress(RagdemoError):
            assert all(q.question for q in read_questions(head + data, "mine"))


FIELD = st.text(st.characters(codec="utf-8", categories=("L", "N", "P", "Z")), max_size=30)


@given(st.lists(st.tuples(FIELD.filter(lambda t: t.strip()), FIELD), min_size=1, max_size=5))
def test_what_is_written_is_read(rows):
    data = as_csv(["question", "answer"], *rows)
    found = [(q.question, q.answer) for q in read_questions(data, "mine.csv")]
    expected = as_jsonl(*({"question": q, "answer": a} for q, a in rows))
    assert found == [(q.question, q.answer) for q in read_questions(expected, "mine.jsonl")]
