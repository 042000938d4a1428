"""Measure fine-tuning: `python -m ragdemo eval finetuning --docs sample_docs`, Markdown tables.

`versus`: base, closed-book fine-tuned, RAG, and RAG with a fine-tuned generator on the same
questions, then on a new version of the documents. `head`, `encoder`: contrastive training by seed,
held out by document. `generator`: fine-tuned beside retrieval on half of the questions about one
document, by document and seed. Every figure is printed as soon as it is measured, with 95% BCa
intervals.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path

from ragdemo.corpus import Corpus
from ragdemo.embedding import SentenceTransformerEncoder, load_encoder
from ragdemo.errors import RagdemoError
from ragdemo.evaluation.bootstrap import interval, paired
from ragdemo.evaluation.questions import Question, sample_questions
from ragdemo.generation.mini import MiniGenerator
from ragdemo.loading import read_folder
from ragdemo.pipeline import build, versions
from ragdemo.training.generator import GROUNDED, lessons, parted, train_generator
from ragdemo.training.pairs import (
    Pair,
    Split,
    from_questions,
    split_by_document,
    with_negatives,
    written,
)
from ragdemo.training.retriever import ENCODER, HEAD, train_encoder, train_head
from ragdemo.training.tuning import last
from ragdemo.training.versus import (
    CLOSED_BOOK,
    GROUPS,
    RAG,
    RAG_TUNED,
    SHOWN,
    Arm,
    Versus,
    busiest,
    compare,
    known,
)

PARTS = ("versus", "head", "encoder", "generator")
DOCUMENTS = 5  # with the most questions, each learnt from alone, unless named


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="ragdemo eval finetuning", description=__doc__)
    parser.add_argument("--docs", type=Path, required=True, help="documents and questions.jsonl")
    parser.add_argument("--only", nargs="*", choices=PARTS, default=PARTS)
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2, 3, 4], help="of the head")
    parser.add_argument(
        "--encoder-seeds", type=int, nargs="*", default=[0, 1, 2, 3, 4], help="minutes each"
    )
    parser.add_argument(
        "--generator-seeds", type=int, nargs="*", default=[0, 1, 2], help="minutes a document each"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the four-way comparison")
    parser.add_argument(
        "--document", action="append",
        help="learnt from; default: those with most questions, three together or five one by one",
    )  # fmt: skip
    parser.add_argument(
        "--steps", type=int, default=GROUNDED.steps, help="of the generator beside retrieval"
    )
    parser.add_argument("--card", type=Path, help="write the tables into this new file")
    given = parser.parse_args(argv)
    encoder = load_encoder()
    corpus = build(read_folder(given.docs), encoder)
    questions = sample_questions(given.docs)
    parts: list[str] = []

    def show(text: str) -> None:
        parts.append(text)
        print(text + "\n", flush=True)

    if "versus" in given.only:
        found = _versus(questions, corpus, given.document or (), given.seed, given.steps)
        show(versus_table(found))
        show(changes_table(found))
    if {"head", "encoder"} & {*given.only}:
        pairs = from_questions(questions, corpus)
        more = written(corpus, MiniGenerator(encoder=encoder))
        for what, seeds in (("head", given.seeds), ("encoder", given.encoder_seeds)):
            if what in given.only:
                show(retriever_table(what, pairs, more, corpus, seeds))
    if "generator" in given.only:
        names = given.document or busiest(known(questions, corpus), DOCUMENTS)
        show(generator_table(questions, corpus, names, given.generator_seeds, given.steps))
    show(signature())
    if given.card:
        given.card.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    return 0


def _versus(
    questions: Sequence[Question],
    corpus: Corpus,
    documents: Sequence[str],
    seed: int,
    steps: int,
) -> Versus:
    found: Versus | None = None
    doing = ""
    for found in compare(
        questions, corpus,
        lambda training: MiniGenerator(encoder=corpus.encoder, bf16=False if training else None),
        documents=documents, seed=seed, grounded=replace(GROUNDED, steps=steps),
    ):  # fmt: skip
        if found.doing != doing:
            doing = found.doing
            print(f"  {doing}", flush=True)
    if found is None:
        raise RagdemoError("Nothing was measured.")
    return found


def versus_table(found: Versus) -> str:
    """A row an arm: F1 of each group, how many changed answers are new or stale, and the costs."""
    heads = ["way", *(f"F1, {group}" for group in SHOWN), "new / stale answers", "training",
             "an answer", "memory"]  # fmt: skip
    rows = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for arm in found.arms:
        changed = arm.of("changed")
        cells = [arm.name, *(_mean([s.f1 for s in arm.of(group)]) for group in SHOWN)]
        cells.append(
            f"{sum(s.found for s in changed):.0f} / {sum(s.stale for s in changed):.0f} of "
            f"{len(changed)}"
        )
        cells.append(f"{arm.training_seconds:.0f} s" if arm.training_seconds else "none")
        cells += [f"{arm.answer_seconds:.2f} s", f"{arm.megabytes:.0f} MB"]
        rows.append(f"| {' | '.join(cells)} |")
    said = "; ".join(f"{group}: {about}" for group, about in GROUPS.items())
    head = (
        f"**Fine-tuning against RAG** ({found.learnt} questions learnt, about "
        f"{', '.join(found.documents)}). {said}. The new version was indexed in "
        f"{found.republish_seconds:.1f} s; retraining costs what it cost before."
    )
    return head + "\n\n" + "\n".join(rows) + "\n\n" + "\n".join(_differences(found.arms))


def _differences(arms: Sequence[Arm]) -> list[str]:
    by_name = {arm.name: arm for arm in arms}
    lines = []
    for better, worse in ((RAG_TUNED, RAG), (RAG, CLOSED_BOOK)):
        if better in by_name and worse in by_name:
            for group in SHOWN:
                one, other = ([s.f1 for s in by_name[n].of(group)] for n in (better, worse))
                if one:
                    p = paired(one, other)
                    lines.append(
                        f"- {better} against {worse}, {group}: {p.difference:+.3f} F1 "
                        f"({p.low:+.3f} to {p.high:+.3f}), p {p.p:.3f}, n {p.n}"
                    )
    return lines


def changes_table(found: Versus) -> str:
    rows = ["| changed question | before | now |" + "".join(f" {a.name} |" for a in found.arms)]
    rows.append("|---" * (3 + len(found.arms)) + "|")
    answers = [arm.of("changed") for arm in found.arms]
    for number, (question, old, new) in enumerate(found.changes):
        said = [_verdict(part[number].found, part[number].stale) for part in answers]
        rows.append(f"| {question} | {old} | {new} | {' | '.join(said)} |")
    return "\n".join(rows)


def _verdict(found: float, stale: float) -> str:
    return "new" if found else "stale" if stale else "neither"


def retriever_table(
    what: str, pairs: Sequence[Pair], more: Sequence[Pair], corpus: Corpus, seeds: Sequence[int]
) -> str:
    """Recall@1 of held-out questions before and after, a row a seed and source of pairs."""
    rows = [
        "| seed | trained on | pairs | recall@1 before | after | paraphrases | best step | s |",
        "|---|---|---|---|---|---|---|---|",
    ]
    # a question is held out by several seeds: its mean counts once, or the intervals would be too
    # narrow
    pooled: dict[str, dict[tuple[str, str], list[float]]] = {}
    for seed in seeds:
        parts = split_by_document(pairs, seed)
        names = {pair.gold.document_name for pair in parts.train}
        written_there = [pair for pair in more if pair.gold.document_name in names]
        for source, added in (("question set", []), ("and written", written_there)):
            train = with_negatives([*parts.train, *added], corpus)
            split = replace(parts, train=train)
            began = time.monotonic()
            trained = last(_training(what, split, corpus, seed))
            spent = time.monotonic() - began
            kinds = [pair.kind for pair in split.test]
            gains = pooled.setdefault(source, {})
            for pair, was, now in zip(split.test, trained.before, trained.after, strict=True):
                gains.setdefault((pair.question, pair.kind), []).append(now - was)
            para = [(b, a) for b, a, k in zip(trained.before, trained.after, kinds, strict=True)
                    if k == "paraphrase"]  # fmt: skip
            rows.append(
                f"| {seed} | {source} | {len(split.train)} | {_share(trained.before)} | "
                f"{_share(trained.after)} | {_moved(para)} | {trained.best_step} | {spent:.0f} |"
            )
            print(rows[-1], flush=True)
    lines = []
    for source, gains in pooled.items():
        for name, kind in (("all held-out questions", ""), ("paraphrases", "paraphrase")):
            kept = [statistics.fmean(v) for (_, k), v in gains.items() if kind in ("", k)]
            lines.append(_gained(f"{source}, {name}", kept))
    title = f"**Contrastive training, {what}**, held out by document; early stopping on others."
    return title + "\n\n" + "\n".join([*rows, "", *lines])


def generator_table(
    questions: Sequence[Question],
    corpus: Corpus,
    documents: Sequence[str],
    seeds: Sequence[int],
    steps: int = GROUNDED.steps,
) -> str:
    """F1 before and after training beside retrieval, of the half of the questions about a document
    that was learnt and of the half that was held out, a row a document and seed."""
    rows = ["| document | seed | F1, learnt | F1, held out | s |", "|---|---|---|---|---|"]
    # a question is held out by several seeds, and counts once
    gains: dict[str, dict[str, list[float]]] = {"learnt": {}, "held out": {}}
    for name in documents:
        own = [e for e in known(questions, corpus) if e.file == name]
        for seed in seeds:
            learn, *rest = parted(own, seed, (0.5, 0.0))
            groups = {"learnt": learn, "held out": [one for part in rest for one in part]}
            generator = MiniGenerator(encoder=corpus.encoder, bf16=False)
            plan = replace(GROUNDED, steps=steps, every=steps, seed=seed)
            asked = [one for group in groups.values() for one in group]
            test = lessons(asked, corpus)
            train = lessons(learn, corpus, teaching=True)
            trained = last(train_generator(generator, train, (), test, plan))
            moved = iter(zip(trained.before, trained.after, strict=True))
            cells = []
            for group, part in groups.items():
                before, after = zip(*islice(moved, len(part)), strict=True)
                cells.append(f"{_share(before)} -> {_share(after)} ({len(part)})")
                for one, was, now in zip(part, before, after, strict=True):
                    gains[group].setdefault(one.question, []).append(now - was)
            rows.append(f"| {name} | {seed} | {' | '.join(cells)} | {trained.seconds:.0f} |")
            print(rows[-1], flush=True)
    lines = []
    for group, found in gains.items():
        lines.append(_gained(group, [statistics.fmean(values) for values in found.values()]))
    title = f"**Fine-tuning the bundled generator on one document's questions**, {steps} steps."
    return title + "\n\n" + "\n".join([*rows, "", *lines])


def _training(what: str, split: Split, corpus: Corpus, seed: int):
    if what == "head":
        return train_head(split, corpus, replace(HEAD, seed=seed))
    return train_encoder(
        split, corpus, SentenceTransformerEncoder(bf16=False), replace(ENCODER, seed=seed)
    )


def _gained(what: str, means: Sequence[float]) -> str:
    p = paired(means, [0.0] * len(means))
    return (
        f"- {what}, a question's mean over the seeds: {p.difference:+.3f} "
        f"({p.low:+.3f} to {p.high:+.3f}), p {p.p:.3f}, n {p.n}"
    )


def _share(values: Sequence[float]) -> str:
    return f"{statistics.fmean(values):.3f}" if values else ""


def _moved(values: Sequence[tuple[float, float]]) -> str:
    if not values:
        return "none"
    before, after = zip(*values, strict=True)
    return f"{sum(before):.0f} -> {sum(after):.0f} of {len(values)}"


def _mean(values: Sequence[float]) -> str:
    if not values:
        return ""
    i = interval(values)
    return f"{i.mean:.3f} ({i.low:.3f}-{i.high:.3f})"


def signature() -> str:
    import torch

    made = " ".join(f"{k} {v}" for k, v in versions().items() if k != "streamlit")
    return (
        f"Greedy answers, 5 passages by all-MiniLM-L6-v2, word F1 against the whole expected "
        f"answer; {torch.get_num_threads()} CPU threads; {made}."
    )
