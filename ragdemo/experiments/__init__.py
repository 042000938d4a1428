"""Experiments of ten seconds on the sample documents, and the runs recorded of them.

Importing this and opening a recorded run loads no model.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ragdemo.experiments.base import Arm, Experiment, Read, Record, from_json, to_json
from ragdemo.experiments.finding import FINDING
from ragdemo.experiments.reading import READING

__all__ = [
    "EXPERIMENTS", "RECORDED", "Arm", "Experiment", "Read", "Record", "from_json", "recorded",
    "to_json",
]  # fmt: skip

RECORDED = Path(__file__).parent / "recorded"
EXPERIMENTS: Mapping[str, Experiment] = {one.id: one for one in (*READING, *FINDING)}


def recorded(name: str, folder: Path = RECORDED) -> Record:
    """The run of an experiment that comes with the project."""
    return from_json((folder / f"{name}.json").read_bytes(), EXPERIMENTS)
