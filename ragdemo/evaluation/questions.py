"""Question sets: the sample documents' `questions.jsonl`, or a CSV or JSONL file of a visitor.

One question a row, the columns of `COLUMNS`; only `question` is needed, columns of other names are
left alone. A file with a faulty row is refused as a whole, every fault named by its row: a set
that silently lost questions would measure something else.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ragdemo.errors import DocumentError, LimitReached
from ragdemo.evaluation.ranking import Place
from ragdemo.loading.plain import decode
from ragdemo.settings import MIB
from ragdemo.text import clean
from ragdemo.types import Example

COLUMNS = {
    "question": "the question; the only column that is needed",
    "answer": "the answer you would accept, in a sentence",
    "short": "short answers that count as right; in CSV parted by |",
    "file": "name of the file that holds the answer",
    "pages": "its pages that hold the answer, counted from 1: 2, or 2-4, or 2; 5",
    "answerable": "yes (as when left empty), or no where the documents don't say",
    "kind": "a word to group results by, such as plain or paraphrase",
    "id": "a name for the row; without it, its number",
    "also": 'JSONL only: further places of the answer, [{"file": ..., "pages": ...}]',
}
BYTES = 5 * MIB
ROWS = 5_000
CHARACTERS = 5_000  # of one field
FAULTS_SHOWN = 10

_YES, _NO = {"", "yes", "true", "1", "y"}, {"no", "false", "0", "n"}
_RANGE = re.compile(r"(\d{1,6})(?:-(\d{1,6}))?")


@dataclass(frozen=True, slots=True)
class Question(Example):
    """An example whose answer may stand in, or need, more places than one."""

    also: tuple[Place, ...] = ()

    @property
    def places(self) -> tuple[Place, ...]:
        """Where the answer stands; () where that is not known or there is none."""
        return (*([(self.file, self.pages)] if self.pages else []), *self.also)


class _Fault(ValueError):
    """What is wrong with one row."""


def read_questions(data: bytes, name: str) -> list[Question]:
    """The questions of a CSV or JSONL file, told apart by its first character.

    Raises DocumentError naming the faulty rows (the number a spreadsheet or an editor shows), and
    LimitReached.
    """
    if len(data) > BYTES:
        raise LimitReached(f"{name} is larger than {BYTES // MIB} MiB. Split it.")
    text, _ = decode(data, name)
    rows = _json_rows(text) if text.lstrip()[:1] in ("{", "[") else _csv_rows(text, name)
    found: list[Question] = []
    faults: list[str] = []
    seen: set[str] = set()
    for number, row in rows:
        if len(found) + len(faults) == ROWS:
            raise LimitReached(f"{name} has more than {ROWS:,} questions. Split it.")
        try:
            question = _question(row, number)
            if question.id in seen:
                raise _Fault(f"the id {question.id[:40]!r} was used before")
            seen.add(question.id)
            found.append(question)
        except _Fault as fault:
            faults.append(f"row {number}: {fault}")
    if faults:
        more = len(faults) - FAULTS_SHOWN
        shown = "; ".join(faults[:FAULTS_SHOWN]) + (f"; and {more} more" if more > 0 else "")
        raise DocumentError(f"{name} was not taken. {shown}. Correct the file and load it again.")
    if not found:
        raise DocumentError(f"{name} holds no question. It needs a row for each.")
    return found


def sample_questions(folder: Path) -> list[Question]:
    """The questions that come with the sample documents."""
    path = folder / "questions.jsonl"
    try:
        return read_questions(path.read_bytes(), path.name)
    except OSError as problem:
        raise DocumentError(f"{folder} holds no questions.jsonl. Name another folder.") from problem


def write_questions(asked: Sequence[Question]) -> str:
    """JSONL that `read_questions` reads."""
    rows = []
    for q in asked:
        also = [{"file": file, "pages": list(pages)} for file, pages in q.also]
        rows.append(
            {
                "id": q.id,
                "question": q.question,
                "answer": q.answer,
                "short": list(q.short),
                "file": q.file,
                "pages": list(q.pages),
                "answerable": q.answerable,
                "kind": q.kind,
                **({"also": also} if also else {}),
            }
        )
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def _json_rows(text: str) -> Iterator[tuple[int, object]]:
    # only "\n" parts rows: JSON strings may hold the other line ends that splitlines knows
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            try:
                yield number, json.loads(line)
            except (ValueError, RecursionError):
                yield number, _Fault("this line is no JSON object of its own")


def _csv_rows(text: str, name: str) -> Iterator[tuple[int, object]]:
    head = text.lstrip().split("\n", 1)[0]
    parted_by = max(",;\t", key=head.count)
    rows = csv.reader(io.StringIO(text.replace("\x00", ""), newline=""), delimiter=parted_by)
    try:
        columns = [column.strip().casefold() for column in next(rows, [])]
        if "question" not in columns or len(set(columns)) < len(columns):
            raise DocumentError(
                f"The first row of {name} must name its columns, each once, among them 'question'; "
                f"it holds {', '.join(columns)[:200] or 'nothing'}. Columns that are read: "
                f"{', '.join(list(COLUMNS)[:-1])}."
            )
        for number, row in enumerate(rows, start=2):
            if any(cell.strip() for cell in row):
                spare = [cell for cell in row[len(columns) :] if cell.strip()]
                fault = _Fault(f"{len(row)} fields for {len(columns)} columns: quote a field")
                yield number, fault if spare else dict(zip(columns, row, strict=False))
    except csv.Error as problem:
        raise DocumentError(
            f"{name} is not a readable table near line {rows.line_num}. Check its quotation marks, "
            "or save it again as CSV."
        ) from problem


def _question(row: object, number: int) -> Question:
    if isinstance(row, _Fault):
        raise row
    if not isinstance(row, dict):
        raise _Fault("this line is no JSON object of its own")
    text = {column: _text(row, column) for column in ("question", "answer", "file", "kind", "id")}
    if not text["question"]:
        raise _Fault("there is no question")
    file, pages = text["file"], _pages(row.get("pages"))
    if pages and not file:
        raise _Fault("pages are given without the file they are of")
    also = row.get("also") or []
    if not isinstance(also, list) or not all(isinstance(place, dict) for place in also):
        raise _Fault("also must be a list of objects with file and pages")
    further = tuple((_text(place, "file"), _pages(place.get("pages"))) for place in also)
    if not all(file and pages for file, pages in further):
        raise _Fault("each place in also needs a file and pages")
    return Question(
        id=text["id"] or str(number),
        question=text["question"],
        answer=text["answer"],
        short=_short(row.get("short")),
        file=file,
        pages=pages,
        answerable=_answerable(row.get("answerable")),
        kind=text["kind"],
        also=further,
    )


def _text(row: dict, column: str) -> str:
    value = "" if row.get(column) is None else row[column]
    if isinstance(value, bool | list | dict):
        raise _Fault(f"{column} must be text, got {str(value)[:40]!r}")
    kept = clean(str(value))[0].strip()
    if len(kept) > CHARACTERS:
        raise _Fault(f"{column} has {len(kept):,} characters, at most {CHARACTERS:,} are read")
    return kept


def _short(value: object) -> tuple[str, ...]:
    listed = value if isinstance(value, list) else str(value or "").split("|")
    texts = (_text({"short": item}, "short") for item in listed)
    return tuple(dict.fromkeys(text for text in texts if text))


def _pages(value: object) -> tuple[int, ...]:
    """ "2; 4-6" or [2, "4-6"] -> (2, 4, 5, 6)."""
    listed = value if isinstance(value, list) else ["" if value is None else value]
    pages: set[int] = set()
    for item in (
        re.sub(r"\s*[-–]\s*", "-", "; ".join(map(str, listed))).replace(",", ";").split(";")
    ):
        if not item.strip():
            continue
        found = _RANGE.fullmatch(item.strip())
        first, last = (int(found[1]), int(found[2] or found[1])) if found else (0, 0)
        if not 1 <= first <= last <= first + 1_000:
            raise _Fault(f"pages must be numbers like 2 or 2-4, got {item.strip()[:40]!r}")
        pages.update(range(first, last + 1))
    return tuple(sorted(pages))


def _answerable(value: object) -> bool:
    said = "" if value is None else str(value).strip().casefold()
    if said not in _YES | _NO:
        raise _Fault(f"answerable must be yes or no, got {said[:40]!r}")
    return said not in _NO
