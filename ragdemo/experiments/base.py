"""What an experiment is, what a run of it gives, and a run as a file. Loads no model.

predict   a visitor picks one of `Experiment.options`
run       `Experiment.run` on the sample documents gives a `Record`
reveal    `Experiment.outcome` says which option came true
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from hashlib import file_digest
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING

from ragdemo.errors import DocumentError
from ragdemo.facts import loads, value
from ragdemo.settings import MIB

if TYPE_CHECKING:
    from ragdemo.experiments.lab import Lab

FORMAT = "ragdemo-experiment-1"
MOST_BYTES = MIB
BUNDLED = "ragdemo-mini"
EXCERPT = 1200  # characters kept of a passage; a chunk of 200 tokens has fewer


@dataclass(frozen=True, slots=True)
class Read:
    """A passage that the generator was given."""

    source: str  # "expenses-policy.pdf, page 4"
    text: str  # at most `EXCERPT` characters of it
    score: float
    holds: bool  # what the experiment looks for stands in it


@dataclass(frozen=True, slots=True)
class Arm:
    """One of the answers that an experiment compares."""

    title: str
    answer: str
    right: bool  # holds what the experiment looks for
    refused: bool  # says that the documents don't say
    read: tuple[Read, ...]  # in the order given; none without retrieval
    note: str = ""


@dataclass(frozen=True, slots=True)
class Record:
    """A run of an experiment: plain values, made to be saved."""

    experiment: str
    question: str
    arms: tuple[Arm, ...]
    made: str  # "2026-11-25", UTC
    generator: str
    weights: str  # first 12 hex digits of the SHA-256 of the bundled weights; "" for others
    encoder: str
    seconds: float
    versions: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Experiment:
    """Predict, run, reveal."""

    id: str
    title: str
    question: str
    setup: str  # what will be done, before anything is known
    options: tuple[str, ...]  # predictions
    point: int  # the option that comes true with the bundled models
    lesson: str  # why
    arms: Callable[[Lab], Sequence[Arm]]
    came: Callable[[Sequence[Arm]], int]  # the option that came true

    def run(self, lab: Lab) -> Record:
        """On the sample documents, with the models of `lab`. Raises RagdemoError."""
        begun = monotonic()
        arms = tuple(self.arms(lab))
        return Record(
            experiment=self.id,
            question=self.question,
            arms=arms,
            made=datetime.now(UTC).date().isoformat(),
            generator=lab.generator.name,
            weights=bundled_weights() if lab.generator.name == BUNDLED else "",
            encoder=lab.samples.encoder.name,
            seconds=round(monotonic() - begun, 2),
            versions=lab.versions(),
        )

    def outcome(self, record: Record) -> int:
        """Which of `options` came true in this run."""
        return self.came(record.arms)


def bundled_weights() -> str:
    """Which training of the bundled generator lies here."""
    file = Path(__file__).resolve().parents[1] / "models" / "mini" / "model.safetensors"
    with file.open("rb") as weights:
        return file_digest(weights, "sha256").hexdigest()[:12]


def to_json(record: Record) -> str:
    """The whole run; `from_json` gives it back equal."""
    return json.dumps({"format": FORMAT, "run": asdict(record)}, ensure_ascii=False, indent=1)


def from_json(data: bytes | str, known: Mapping[str, Experiment]) -> Record:
    """What `to_json` wrote, of one of the `known` experiments. DocumentError for anything else."""
    if len(data) > MOST_BYTES:
        raise DocumentError(
            f"This file is larger than the {MOST_BYTES // MIB} MiB a run of an experiment may have."
        )
    try:
        facts = loads(data)
        if facts["format"] != FORMAT:
            raise ValueError("unknown format")
        record = value(Record, facts["run"])
        known[record.experiment].outcome(record)  # arms of another number end here
    except Exception as problem:  # any broken outside file ends in one sentence
        raise DocumentError(
            "This file is not a run of an experiment saved by ragdemo, or it was changed "
            f"({type(problem).__name__}). Save the run again and open the new file."
        ) from problem
    return record
