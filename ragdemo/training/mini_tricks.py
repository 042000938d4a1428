"""Questions written for this project about paragraphs of Wikipedia -> training rows.

`questions/*.jsonl` holds questions that a paragraph seems to answer and does not (a name swapped, a
negation put in, a fact of the kind it might give), and in the same manner others that it does
answer, so that the manner gives nothing away; after SQuAD 2.0 (Rajpurkar et al. 2018,
https://arxiv.org/abs/1806.03822), whose own questions are too few here. Those of `pairs-*` come as
many of either kind, most of them two by two, alike but for the one thing that decides. A line names
its paragraph by a row of SQuAD or QED that asks about it, or by article and number among those on
places: `{"about": id, "q": question, "a": span or null}`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

# the files of the data folder whose paragraphs are asked about
QUESTIONED = ("squad_train_subset", "qed_train")
FOLDER = Path(__file__).parent / "questions"


def read_questions(folder: Path = FOLDER) -> list[dict]:
    """All lines, in the order of the files."""
    return [
        json.loads(line)
        for path in sorted(folder.glob("*.jsonl"))
        for line in path.read_text(encoding="utf-8").splitlines()
    ]


def trick_rows(rows: Sequence[dict], questions: Sequence[dict]) -> list[dict]:
    """The questions about the paragraphs of `rows`, as rows of the same form."""
    passages = {row["id"]: row["passages"] for row in rows}
    return [
        {
            "question": asked["q"],
            "passages": passages[asked["about"]],
            "short": [asked["a"]] if asked["a"] else [],
            "answerable": asked["a"] is not None,
        }
        for asked in questions
        if asked["about"] in passages
    ]
