"""CSV and TSV bytes -> Document: one table, a line a row, its header known to every row."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable

from ragdemo.errors import DocumentError
from ragdemo.loading.build import Builder
from ragdemo.loading.plain import decode
from ragdemo.settings import Limits
from ragdemo.types import Document, FileReport

_DELIMITERS = ",;\t|"
_NUMBER = re.compile(r"[£$€¥+\-(]*\d[\d.,:/%\-) ]*")
_BIGGEST_CELL = 100_000  # characters


def load_csv(
    data: bytes,
    name: str,
    *,
    limits: Limits,
    progress: Callable[[int, int], None] | None = None,
) -> Document:
    """Raises DocumentError for what is no table of text."""
    text, notes = decode(data, name)
    builder = Builder(data, name, limits)
    builder.start_page()
    rows, full = _rows(text, name, limits)
    if rows:
        # a first row that holds a number is data: names of columns are words
        named = len(rows) > 1 and not any(_NUMBER.fullmatch(cell.strip()) for cell in rows[0])
        if not named:
            notes.append("The first row holds numbers, so no row was taken for the column names.")
        builder.table(rows, named)
    some = builder.end_page(1)
    if progress is not None:
        progress(1, 1)
    return builder.document(
        FileReport(
            name,
            len(data),
            pages=1,
            empty_pages=() if some else (1,),
            hit_limit=builder.limit_reached() if full or builder.full else None,
            notes=tuple(notes),
        )
    )


def _rows(text: str, name: str, limits: Limits) -> tuple[list[list[str]], bool]:
    """Rows that are not blank, and whether the character limit cut them short."""
    csv.field_size_limit(_BIGGEST_CELL)
    rows: list[list[str]] = []
    characters = 0
    try:
        # \x00 ends a field in some versions of the module, and clean() would drop it anyway
        reader = csv.reader(io.StringIO(text.replace("\x00", "")), delimiter=_delimiter(text))
        for row in reader:
            if not any(cell.strip() for cell in row):
                continue
            characters += sum(map(len, row)) + 3 * len(row)
            rows.append(row)
            if characters > limits.characters:
                return rows, True
    except csv.Error as error:
        raise DocumentError(
            f"{name} is not a readable table near line {len(rows) + 1}. Check its quotation marks, "
            "or save it again as CSV."
        ) from error
    return rows, False


def _delimiter(text: str) -> str:
    """The sign that parts the first lines most evenly."""
    lines = [line for line in text[:20_000].splitlines() if line.strip()][:20]

    def evenness(sign: str) -> tuple[int, int]:
        counts = [line.count(sign) for line in lines]
        usual = max(set(counts), key=counts.count, default=0)
        return (counts.count(usual) if usual else 0, usual)

    return max(_DELIMITERS, key=evenness)
