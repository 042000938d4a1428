"""`python -m ragdemo experiments record`: run all experiments and keep the runs as files."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from ragdemo.experiments import EXPERIMENTS, RECORDED, to_json
from ragdemo.experiments.lab import Lab

SAMPLES = Path(__file__).resolve().parents[2] / "sample_docs"


def main(argv: Sequence[str]) -> int:
    """1 where an experiment no longer makes its point."""
    parser = argparse.ArgumentParser(
        prog="python -m ragdemo experiments",
        description="Run the experiments on the sample documents with the bundled models.",
    )
    parser.add_argument("do", choices=["record", "run"], help="record: keep the runs as files")
    parser.add_argument("--only", choices=list(EXPERIMENTS), help="one of them")
    parser.add_argument("--out", type=Path, default=RECORDED, help="folder for the files")
    given = parser.parse_args(argv)
    from ragdemo.embedding import load_encoder
    from ragdemo.generation import create
    from ragdemo.loading import read_folder
    from ragdemo.pipeline import build

    encoder = load_encoder()
    lab = Lab(build(read_folder(SAMPLES), encoder), create("mini", encoder=encoder))
    missed = 0
    for experiment in EXPERIMENTS.values():
        if given.only not in (None, experiment.id):
            continue
        record = experiment.run(lab)
        outcome = experiment.outcome(record)
        made = outcome == experiment.point
        missed += not made
        print(f"{experiment.id}: {'as expected' if made else 'MISSED'}, {record.seconds:.1f} s")
        print(f"  {experiment.options[outcome]}")
        for arm in record.arms:
            print(f"  {'+' if arm.right else '-'} {arm.title}: {arm.answer}")
        if given.do == "record":
            given.out.mkdir(parents=True, exist_ok=True)
            file = given.out / f"{experiment.id}.json"
            file.write_text(to_json(record) + "\n", encoding="utf-8")
    return 1 if missed else 0
