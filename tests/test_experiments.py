"""Each experiment makes its point, live and recorded; a run is a file from anybody."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from samples import ROOT, handbook, mini
from test_security import altered

from ragdemo.errors import DocumentError
from ragdemo.experiments import EXPERIMENTS, RECORDED, from_json, recorded, to_json
from ragdemo.experiments.base import MOST_BYTES, bundled_weights
from ragdemo.experiments.lab import Lab, rewritten
from ragdemo.experiments.reading import BUDGET, RESERVE, STANDBY, Narrow
from ragdemo.experiments.record import run_all
from ragdemo.fusion import ordered
from ragdemo.prompts import build
from ragdemo.text import clean


@pytest.fixture(scope="module")
def lab() -> Lab:
    return Lab(handbook(), mini())


@pytest.mark.parametrize("name", list(EXPERIMENTS))
def test_each_makes_its_point_live(lab, name):
    before = handbook().fingerprint, len(handbook().chunks)
    experiment = EXPERIMENTS[name]
    record = experiment.run(lab)
    said = [(arm.title, arm.answer) for arm in record.arms]
    assert experiment.outcome(record) == experiment.point, said
    assert from_json(to_json(record), EXPERIMENTS) == record
    assert (handbook().fingerprint, len(handbook().chunks)) == before  # copies are private
    old = recorded(name)
    assert [arm.title for arm in old.arms] == [arm.title for arm in record.arms]
    assert experiment.outcome(old) == experiment.point


@pytest.mark.parametrize("name", list(EXPERIMENTS))
def test_each_can_turn_out_otherwise(name):
    """The verdict is read from the run: answers that say nothing don't make the point."""
    experiment, record = EXPERIMENTS[name], recorded(name)
    facts = asdict(record)
    for arm in facts["arms"]:
        arm.update(answer="Nothing.", right=False, refused=False, read=[])
    empty = from_json(json.dumps({"format": "ragdemo-experiment-1", "run": facts}), EXPERIMENTS)
    assert experiment.outcome(empty) != experiment.point
    assert 0 <= experiment.point < len(experiment.options)


def test_rewriting_moves_the_number_and_nothing_else():
    record = recorded("rewrite")
    before, after, alone, still = (arm.answer for arm in record.arms)
    assert "35 days" in before
    assert "90 days" in after
    assert after.replace("90", "35") == before
    assert alone == still
    lab = Lab(handbook(), mini())
    policy = lab.document("it-security-policy.pdf")
    copy = rewritten(policy, r"(backups\s+are\s+kept\s+for\s+)35", r"\g<1>90")
    changed = [n for n, (a, b) in enumerate(zip(policy.text, copy.text, strict=True)) if a != b]
    assert len(changed) == 2
    assert copy.id != policy.id


def test_the_budget_is_the_prompts_own():
    """What the arm with too many passages read is what a prompt of that size holds."""
    reader = Narrow(handbook().encoder)
    record = recorded("budget")
    for k, arm in zip((2, 5, 12), record.arms, strict=True):
        hits = ordered(Lab(handbook(), mini()).find(STANDBY, k=k), "best last")
        prompt = build(reader, STANDBY, hits, reserve=RESERVE, default="plain")
        assert reader.count(prompt.text) <= BUDGET - RESERVE
        whole = [hit for hit in prompt.used if hit.chunk.id not in prompt.cut]
        assert len(arm.read) == len(whole)
        assert any(read.holds for read in arm.read) == arm.right


def test_recorded_runs_open_without_a_model():
    code = """
import sys
from ragdemo.experiments import EXPERIMENTS, recorded
runs = [recorded(name) for name in EXPERIMENTS]
assert all(run.arms and run.made and run.generator for run in runs)
print([m for m in 'torch transformers faiss streamlit tokenizers'.split() if m in sys.modules])
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_one_command_records_them(lab, tmp_path, capsys):
    assert run_all(lab, ["no-answer"], tmp_path)
    again, before = recorded("no-answer", tmp_path), recorded("no-answer")
    assert [arm.title for arm in again.arms] == [arm.title for arm in before.arms]
    assert "no-answer: as expected" in capsys.readouterr().out
    assert run_all(lab, ["no-answer"], None)
    assert len(list(tmp_path.iterdir())) == 1


def test_recorded_with_the_weights_that_ship():
    """`python -m ragdemo experiments record` after a training."""
    assert {file.stem for file in RECORDED.glob("*.json")} == set(EXPERIMENTS)
    for name in EXPERIMENTS:
        assert recorded(name).weights == bundled_weights()
        assert recorded(name).generator == "ragdemo-mini"


FACTS = json.loads((RECORDED / "no-answer.json").read_bytes())


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_any_file_is_refused_or_can_be_shown(data):
    try:
        record = from_json(altered(FACTS, data.draw), EXPERIMENTS)
    except DocumentError:
        return
    experiment = EXPERIMENTS[record.experiment]
    assert experiment.options[experiment.outcome(record)]
    for arm in record.arms:
        for text in (arm.title, arm.answer, arm.note, *(read.text for read in arm.read)):
            assert clean(text)[0] == text
        assert all(isinstance(read.score, float) for read in arm.read)
    assert from_json(to_json(record), EXPERIMENTS) == record


@pytest.mark.parametrize(
    "data", [b"", b"[]", b"{}", b"\xff\xfe", b'{"format": "ragdemo-experiment-1"}', b"[" * 10**5]
)
def test_what_is_no_run_is_a_sentence(data):
    with pytest.raises(DocumentError, match="not a run of an experiment"):
        from_json(data, EXPERIMENTS)


def test_a_file_too_large_and_an_unknown_experiment():
    with pytest.raises(DocumentError, match="larger than the 1 MiB"):
        from_json(b" " * (MOST_BYTES + 1), EXPERIMENTS)
    strange = {**FACTS, "run": {**FACTS["run"], "experiment": "nobody"}}
    with pytest.raises(DocumentError):
        from_json(json.dumps(strange), EXPERIMENTS)
