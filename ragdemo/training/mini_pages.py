"""Invented pages of handbooks, notices and rules with questions -> training rows.

The public question sets ask about encyclopedias; visitors ask about policies. `pages/*.jsonl`, all
written for this project, holds pages of 5 to 9 sentences that are easily confused, questions whose
answer stands in one of them, close in wording or far from it, and questions that the page leaves
open. Slots vary the facts: `{n=3-40}` a whole number, `{who=HR|Finance}` a choice; `{n}` the same
value again.
"""

from __future__ import annotations

import json
import random
import re
from dataclasses import dataclass
from pathlib import Path

from ragdemo.types import Span

FOLDER = Path(__file__).parent / "pages"
_SLOT = re.compile(r"\{(\w+)(?:=([^{}]*))?\}")
_RANGE = re.compile(r"(\d+)-(\d+)")


@dataclass(frozen=True)
class Asked:
    """A question about a page; `sentence` is where its answer stands, None where nowhere."""

    question: str
    answer: str = ""
    sentence: Span | None = None


@dataclass(frozen=True)
class Filled:
    """A page with its slots filled."""

    title: str
    text: str
    asked: tuple[Asked, ...]


def read_pages(folder: Path = FOLDER) -> list[dict]:
    """All pages, in the order of the files."""
    lines = [
        line
        for path in sorted(folder.glob("*.jsonl"))
        for line in path.read_text(encoding="utf-8").splitlines()
    ]
    return [json.loads(line) for line in lines]


def fill(page: dict, rng: random.Random) -> Filled:
    """The page with a value drawn for each slot, laid out as prose, as lines or as a list."""
    values: dict[str, str] = {}

    def put(found: re.Match) -> str:
        name, spec = found[1], found[2]
        if spec is not None:
            bounds = _RANGE.fullmatch(spec)
            low_high = (int(bounds[1]), int(bounds[2])) if bounds else None
            values[name] = str(rng.randint(*low_high)) if low_high else rng.choice(spec.split("|"))
        return values[name]

    between, mark = rng.choice(((" ", ""), (" ", ""), (" ", ""), ("\n", ""), ("\n", "• ")))
    text, asked, row_before = "", [], False
    for sentence in page["sentences"]:
        said = _SLOT.sub(put, sentence["text"])
        row = " | " in said
        if text:
            text += "\n" if row or row_before else between
        text += "" if row else mark
        row_before = row
        span = Span(len(text), len(text) + len(said))
        text += said
        asked += [
            Asked(_SLOT.sub(put, ask["q"]), _SLOT.sub(put, ask["a"]), span)
            for ask in sentence.get("asks", ())
        ]
    asked += [Asked(_SLOT.sub(put, question)) for question in page["unanswerable"]]
    return Filled(page["title"], text, tuple(asked))
