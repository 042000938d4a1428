"""`python -m ragdemo experiments record`: run all experiments and keep the runs as files."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from ragdemo.experiments import EXPERIMENTS, RECORDED, to_json
from ragdemo.experiments.lab import Lab
from ragdemo.samples import SAMPLE_DOCS


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
    lab = Lab(build(read_folder(SAMPLE_DOCS), encoder), create("mini", encoder=encoder))
    names = [given.only] if given.only else list(EXPERIMENTS)
    return 0 if run_all(lab, names, given.out if given.do == "record" else None) else 1


def run_all(lab: Lab, names: Sequence[str], out: Path | None) -> bool:
    """Run, print and, into the folder `out`, keep these; False where one misses its point."""
    reached = True
    for name in names:
        experiment = EXPERIMENTS[name]
        record = experiment.run(lab)
        outcome = experiment.outcome(record)
        reached &= outcome == experiment.point
        said = "as expected" if outcome == experiment.point else "MISSED"
        print(f"{name}: {said}, {record.seconds:.1f} s\n  {experiment.options[outcome]}")
        for arm in record.arms:
            print(f"  {'+' if arm.right else '-'} {arm.title}: {arm.answer}")
        if out:
            out.mkdir(parents=True, exist_ok=True)
            (out / f"{name}.json").write_text(to_json(record) + "\n", encoding="utf-8")
    return reached
