"""Training retrievers: the loss against its closed form and a library, pairs, heads, whole models,
and that a training can be stopped, repeated and saved."""

from __future__ import annotations

import json
import math
import threading
import zipfile
from dataclasses import replace
from io import BytesIO
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from samples import SAMPLE_DOCS, encoder, handbook, mini
from tiny_models import dpr

from ragdemo.corpus import Corpus
from ragdemo.embedding import DPREncoder, HashingEncoder, SentenceTransformerEncoder
from ragdemo.errors import DocumentError, RagdemoError
from ragdemo.evaluation.questions import sample_questions
from ragdemo.pipeline import build
from ragdemo.serving.quiet import Writing
from ragdemo.training import saved, tuning
from ragdemo.training.head import Head, Headed, refill
from ragdemo.training.loop import Losses
from ragdemo.training.pairs import (
    SHARES,
    Pair,
    Split,
    evidence,
    from_questions,
    split_by_document,
    with_negatives,
    written,
)
from ragdemo.training.retriever import candidates, contrastive, train_encoder, train_head
from ragdemo.training.tuning import Held, Plan, Trained, last

PLAN = Plan(steps=30, batch=16, rate=1e-3, every=10, patience=9)


def pairs() -> list[Pair]:
    return from_questions(sample_questions(SAMPLE_DOCS), handbook())


def split(seed: int = 0) -> Split:
    made = split_by_document(pairs(), seed)
    return replace(made, train=with_negatives(made.train, handbook()))


# -- the loss


@given(st.integers(2, 9), st.integers(0, 4), st.floats(0.01, 2))
@settings(max_examples=20)
def test_equal_vectors_are_chance(batch: int, more: int, temperature: float) -> None:
    same = torch.ones(batch, 3) / math.sqrt(3)
    passages = torch.ones(batch + more, 3) / math.sqrt(3)
    loss = contrastive(same, passages, temperature)
    assert loss.item() == pytest.approx(math.log(batch + more), rel=1e-5)


def test_the_loss_is_that_of_sentence_transformers() -> None:
    """MultipleNegativesRankingLoss over given vectors, a hard negative each, scale 20."""
    from sentence_transformers.losses import MultipleNegativesRankingLoss

    torch.manual_seed(0)
    parts = [torch.nn.functional.normalize(torch.randn(5, 8), dim=-1) for _ in range(3)]
    theirs = MultipleNegativesRankingLoss(model=None).compute_loss_from_embeddings(parts, None)
    ours = contrastive(parts[0], torch.cat(parts[1:]), 1 / 20)
    assert ours.item() == pytest.approx(float(theirs), rel=1e-5)


def test_a_passage_that_is_right_for_another_question_is_no_negative() -> None:
    questions, passages = torch.eye(2), torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    both = torch.tensor([[False, True], [True, False]])
    assert contrastive(questions, passages, 1.0, both).item() == pytest.approx(0.0, abs=1e-6)


# -- pairs


def test_gold_chunks_hold_the_answers() -> None:
    made = pairs()
    assert len(made) > 110
    held = [any(s in p.gold.content for s in p.example.short) for p in made]
    assert np.mean(held) > 0.8
    assert all(p.right(p.gold) for p in made)


@pytest.mark.parametrize("seed", range(5))
def test_no_document_is_in_two_parts(seed: int) -> None:
    made = split_by_document(pairs(), seed)
    files = [
        {p.gold.document_name for p in part} | {f for p in part for f, _ in p.places}
        for part in (made.train, made.watch, made.test)
    ]
    assert not files[0] & files[1] | files[0] & files[2] | files[1] & files[2]
    whole = sum(map(len, (made.train, made.watch, made.test)))
    assert whole <= len(pairs())
    assert abs(len(made.train) / whole - SHARES[0]) < 0.15
    assert made == split_by_document(pairs(), seed)


def test_too_few_documents_say_so() -> None:
    few = [p for p in pairs() if p.gold.document_name == "mobile-phone-policy.pdf"]
    with pytest.raises(RagdemoError, match="three or more"):
        split_by_document(few)


def test_hard_negatives_are_wrong_and_from_trained_documents() -> None:
    made = split()
    own = {p.gold.document_id for p in made.train}
    assert all(p.hard for p in made.train)
    for pair in made.train:
        assert not pair.right(pair.hard)
        assert pair.hard.document_id in own
    chunks, right = candidates(made.train[:6])
    assert len(chunks) == 12
    assert right.shape == (6, 12)
    assert not right.diagonal().any()


def test_written_questions_find_their_way_back() -> None:
    document = next(d for d in handbook().documents.values() if d.name == "training-policy.pdf")
    told: list[tuple[int, int]] = []
    made = written(
        handbook(), mini(), documents=[document.id], progress=lambda *at: told.append(at)
    )
    chunks = handbook().chunks_of(document.id)
    assert told[-1] == (len(chunks), len(chunks))
    assert 0 < len(made) <= len(chunks)
    for pair in made:
        found = handbook().search(handbook().encoder.encode_queries([pair.question])[0], 3)
        assert pair.gold.id in [c.id for c, _ in found]
    with pytest.raises(RagdemoError, match="writes no questions"):
        written(handbook(), SimpleNamespace(name="silent"))


def test_evidence_is_the_sentence_that_says_it() -> None:
    from ragdemo.pipeline import retrieve

    (asked,) = [q for q in sample_questions(SAMPLE_DOCS) if q.id == "phone-04"]
    hits = retrieve(asked.question, handbook(), 5)
    number, start, end = evidence(asked, hits)
    assert "20 GB of data a month" in hits[number].chunk.content[start:end]


# -- heads


def test_an_untrained_head_changes_nothing() -> None:
    vectors = torch.nn.functional.normalize(torch.randn(4, 6), dim=-1)
    head = Head(6)
    torch.testing.assert_close(head(vectors), vectors)
    np.testing.assert_array_equal(head.matrix, np.eye(6, dtype=np.float32))


def test_a_head_learns_and_the_seed_repeats_it() -> None:
    one, two = (last(train_head(split(), handbook(), PLAN)) for _ in range(2))
    assert one.after == two.after
    assert one.best_step == two.best_step
    np.testing.assert_array_equal(one.make().matrix, two.make().matrix)
    told = list(train_head(split(), handbook(), PLAN))
    assert told[-1].losses[-1] < 0.5 * told[-1].losses[0]
    assert [p.step for p in told[-1].points] == [0, 10, 20, 30]


def test_a_headed_encoder_is_an_encoder_for_a_corpus() -> None:
    base = build([("a.md", b"# Leave\n\nStaff get 28 days.\n"), ("b.md", b"# Phones\n\nCall.\n")],
                 HashingEncoder(64))  # fmt: skip
    rng = np.random.default_rng(0)
    headed = Headed(base.encoder, (np.eye(64) + rng.normal(0, 0.1, (64, 64))).astype(np.float32))
    quick = refill(Corpus(headed), base)
    slow = Corpus(headed)
    for document in base.documents.values():
        slow.add(document)
    np.testing.assert_allclose(quick.vectors, slow.vectors, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(quick.vectors, axis=1), 1, atol=1e-5)
    assert quick.fingerprint != base.fingerprint
    asked = Headed(base.encoder, headed.matrix, questions_only=True)
    np.testing.assert_array_equal(refill(Corpus(asked), base).vectors, base.vectors)
    np.testing.assert_array_equal(asked.encode_queries(["x"]), headed.encode_queries(["x"]))


def test_a_saved_head_is_a_standard_model(tmp_path) -> None:
    rng = np.random.default_rng(0)
    matrix = (np.eye(384) + rng.normal(0, 0.02, (384, 384))).astype(np.float32)
    headed = Headed(encoder(), matrix)
    folder = saved.save(headed, tmp_path / "head", verdict(0.5, 0.75))
    texts = ["How many days of leave?", "a", "phones " * 50]
    standard = SentenceTransformerEncoder(str(folder)).encode_queries(texts)
    ours = headed.encode_queries(texts)
    assert (standard * ours).sum(1).min() > 0.995  # bf16 rounds the two at other places
    again = saved.load(folder, encoder())
    np.testing.assert_array_equal(again.matrix, matrix)
    assert again.name == headed.name
    text = (folder / "README.md").read_text()
    assert "It helped" in text
    assert str(tmp_path) not in text
    with pytest.raises(RagdemoError, match="there already"):
        saved.save(headed, folder)


# -- files that visitors bring


def zipped(**files: bytes) -> bytes:
    made = BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for name, data in files.items():
            archive.writestr(name.replace("__", "."), data)
    return made.getvalue()


@pytest.mark.parametrize(
    "data",
    [
        b"", b"no zip", zipped(), zipped(ragdemo__json=b"{}"),
        zipped(ragdemo__json=b'{"kind": "causal"}'),
        zipped(ragdemo__json=b'{"kind": "head", "inner": "all-MiniLM-L6-v2"}',
               head__safetensors=b"\x80\x04junk"),
        zipped(ragdemo__json=b'{"kind": "head", "inner": "other", "questions_only": false}',
               head__safetensors=b""),
    ],
)  # fmt: skip
def test_a_file_that_is_no_model_is_refused(data: bytes) -> None:
    with pytest.raises(DocumentError):
        saved.unpacked(data, encoder())


def test_only_numbers_are_read_from_a_file(tmp_path) -> None:
    """A hostile modules.json beside good tensors is never looked at."""
    headed = Headed(encoder(), np.eye(384, dtype=np.float32))
    data = BytesIO(saved.packed(headed))
    with zipfile.ZipFile(data, "a") as archive:
        archive.writestr("../../evil.py", "raise SystemExit")
    with zipfile.ZipFile(data) as archive:
        modules = json.loads(archive.read("modules.json"))
        assert [m["type"].rsplit(".", 1)[-1] for m in modules][-2:] == ["Dense", "Normalize"]
    made = saved.unpacked(data.getvalue(), encoder())
    np.testing.assert_array_equal(made.matrix, headed.matrix)


# -- whole encoders


def test_dprs_towers_learn_apart_and_are_saved(tmp_path) -> None:
    """Random towers, four documents, eight questions: the loss falls, both towers move."""
    names = ("leave", "phone", "sick", "roaming")
    corpus = build(
        [(f"{n}.md", f"employees must report {n} days\n".encode()) for n in names],
        HashingEncoder(64),
    )
    rows = [
        Pair(q.format(c.document_name[:-3]), c)
        for c in corpus.chunks for q in ("how many {} days", "what {}", "who must {}")
    ]  # fmt: skip
    made = Split(tuple(rows), tuple(rows[::3]), tuple(rows[1::3]))
    towers = DPREncoder(*dpr(tmp_path))
    before = towers.encode_queries(["how many leave days"])
    told = list(train_encoder(made, corpus, towers, Plan(60, 4, 5e-3, 20, 9)))
    assert np.mean(told[-1].losses[-5:]) < 0.5 * np.mean(told[-1].losses[:5])
    trained = told[-1].trained
    assert trained.best_step > 0
    assert np.mean(trained.after) > np.mean(trained.before)
    assert not np.allclose(before, towers.encode_queries(["how many leave days"]))
    folder = saved.save(trained.make(), tmp_path / "out", trained)
    again = saved.load(folder, encoder())
    np.testing.assert_allclose(
        again.encode_passages(["sick days"]), towers.encode_passages(["sick days"]), atol=1e-5
    )


def test_a_whole_encoder_learns_stops_within_a_layer_and_leaves_the_shared_one_alone() -> None:
    shared = encoder().encode_queries(["How many days of leave?"])
    small = Split(split().train[:8], split().watch[:2], split().test[:2])
    corpus = build([("a.md", b"# Leave\n\nStaff get 28 days.\n")], encoder())
    private = SentenceTransformerEncoder(bf16=False)
    stop = threading.Event()
    told = train_encoder(small, corpus, private, Plan(50, 4, 2e-5, 50, 9), cancelled=stop)
    for news in told:
        if news.step == 1:
            break
    stop.set()
    rest = list(told)
    assert [n.over for n in rest] == [True]
    assert rest[0].step == 1  # the step under way was left in the middle
    trained = rest[0].trained
    assert trained.stopped
    assert trained.best_step == 0
    assert "did not help" in trained.verdict
    kept = trained.make().encode_queries(["How many days of leave?"])
    assert float((kept * shared).sum()) > 0.995
    np.testing.assert_array_equal(shared, encoder().encode_queries(["How many days of leave?"]))


def test_training_waits_while_an_answer_is_written(monkeypatch) -> None:
    """Before every step, for as long as answers are written, up to a bound: none waits for ever."""
    waited: list[tuple[float, bool]] = []

    class Watched(Writing):
        def wait_for_none(self, most: float) -> bool:
            waited.append((most, super().wait_for_none(most)))
            return waited[-1][1]

    monkeypatch.setattr(tuning, "writing", watched := Watched())
    monkeypatch.setattr(tuning, "ASIDE", 0.05)
    told = train_head(split(), handbook(), PLAN)
    next(told)
    assert waited
    assert all(free for _, free in waited)
    next(told)
    waited.clear()
    with watched:
        next(told)  # it has gone on
    assert not waited[0][1]  # but not at once
    assert sum(most for most, free in waited if not free) <= 2 * 0.05


def test_a_killed_save_leaves_no_folder(tmp_path, monkeypatch) -> None:
    headed = Headed(HashingEncoder(8), np.eye(8, dtype=np.float32))
    monkeypatch.setattr(saved, "card", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        saved.save(headed, tmp_path / "head")
    assert list(tmp_path.iterdir()) == []


# -- what is said of it


def verdict(before: float, after: float, *, best: int = 10, n: int = 40) -> Trained:
    def values(share: float) -> tuple[float, ...]:
        return (1.0,) * round(share * n) + (0.0,) * (n - round(share * n))

    return Trained(
        "a head", "recall@1", values(before), values(after), best, 30, 2.0, False, lambda: None
    )


@pytest.mark.parametrize(
    ("trained", "said"),
    [
        (verdict(0.5, 0.9), "It helped: recall@1 rose from 0.500 to 0.900"),
        (verdict(0.5, 0.525), "can't rule out chance"),
        (verdict(0.9, 0.5), "It got worse: recall@1 fell from 0.900 to 0.500"),
        (verdict(0.5, 0.5), "Nothing gained"),
        (verdict(0.5, 0.5, best=0), "It did not help"),
    ],
)
def test_the_verdict_is_plain(trained: Trained, said: str) -> None:
    assert said in trained.verdict


def test_a_loss_that_is_no_number_is_said() -> None:
    model = torch.nn.Linear(1, 1)
    told = tuning.tune(
        model, [{"params": list(model.parameters()), "peak": 0.1}],
        lambda _: Losses({"loss": model(torch.full((1, 1), torch.inf)).sum()}, 1),
        PLAN, watch=lambda: Held((0.5,)), name="a line", metric="m", make=lambda: model,
    )  # fmt: skip
    with pytest.raises(RagdemoError, match="ran away"):
        last(told)


@pytest.mark.parametrize("wrong", [{"steps": 0}, {"batch": 1}, {"rate": 0.0}, {"patience": 0}])
def test_plans_are_checked(wrong: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Plan(**wrong)
