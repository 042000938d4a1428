"""Results on disk as they come, so that a run that was killed goes on where it stood.

A JSONL file: first what the run is (its plan's digest), then a result a line. A last line that was
cut off by the kill is dropped; a file of another plan is refused, never mixed in.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from ragdemo.errors import DocumentError
from ragdemo.evaluation.arms import Arm
from ragdemo.evaluation.questions import Question
from ragdemo.evaluation.run import Result
from ragdemo.facts import loads, value
from ragdemo.types import Decoding

FORMAT = "ragdemo-results-1"


def plan(asked: Sequence[Question], arms: Sequence[Arm], index: str, decoding: Decoding) -> str:
    """16 hex digits that change with the questions, the arms, the documents (`index`, the
    fingerprint of theirs) or how words are picked."""
    facts = [[asdict(q) for q in asked], [asdict(a) for a in arms], index, asdict(decoding)]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


class Journal:
    """One run's file; made if it is not there. `results`: what it held when opened."""

    def __init__(self, path: Path, plan: str) -> None:
        """Raises DocumentError for a file of another run."""
        self._path = path
        self.results: list[Result] = []
        head = {"format": FORMAT, "plan": plan}
        whole = path.read_bytes() if path.exists() else b""
        lines = whole.split(b"\n")[:-1]  # what follows the last line end was cut off
        if not lines:
            path.write_text(json.dumps(head) + "\n", encoding="utf-8")
            return
        try:
            if loads(lines[0]) != head:
                raise ValueError("another run")
            self.results = [value(Result, loads(line)) for line in lines[1:]]
        except (ValueError, TypeError) as problem:
            raise DocumentError(
                f"{path} holds the results of other questions, documents or arms. Name another "
                "folder, or delete that file."
            ) from problem
        path.write_bytes(b"".join(line + b"\n" for line in lines))

    def add(self, results: Sequence[Result]) -> None:
        """Write them down at once."""
        with self._path.open("a", encoding="utf-8") as file:
            for result in results:
                file.write(json.dumps(asdict(result), ensure_ascii=False) + "\n")
