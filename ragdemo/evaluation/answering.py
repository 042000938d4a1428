"""Measure answers: `python -m ragdemo eval --questions FILE --docs DIR`, Markdown tables.

Every question goes to every arm, by default with retrieval and without; figures are means with
their 95% bootstrap intervals, and differences to the first arm question by question. With --out,
results are kept as they come: the same command goes on where a killed one stood.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path

from ragdemo.corpus import Corpus
from ragdemo.embedding import Encoder, load_encoder
from ragdemo.errors import DocumentError, RagdemoError
from ragdemo.evaluation import record
from ragdemo.evaluation.arms import USUAL, Arm, Bench, read_arms, recut
from ragdemo.evaluation.bootstrap import interval
from ragdemo.evaluation.four_arms import ARMS, VERDICTS, FourArms, four_arms, gold_passage
from ragdemo.evaluation.journal import Journal, plan
from ragdemo.evaluation.questions import Question, read_questions
from ragdemo.evaluation.refusing import refused
from ragdemo.evaluation.retrieval import drawn
from ragdemo.evaluation.run import Standing, run
from ragdemo.generation import create as create_generator
from ragdemo.generation.base import Generator
from ragdemo.retrieval import RETRIEVERS, Retriever, create
from ragdemo.types import Decoding

Tell = Callable[[str], None]


def own_bench(corpus: Corpus) -> Bench:
    """Plain models of this process, each loaded when an arm first needs it."""

    @cache
    def generator(name: str) -> Generator:
        if name == "mini":
            return create_generator("mini", encoder=corpus.encoder)
        return create_generator("model", model=name)

    def retriever(name: str, over: Corpus) -> Retriever:
        needed = {"generator": generator("mini")} if RETRIEVERS[name].needs == "generator" else {}
        return create(name, over, **needed)

    return Bench(cache(partial(recut, corpus)), retriever, generator)


def measured(
    title: str,
    asked: Sequence[Question],
    arms: Sequence[Arm],
    corpus: Corpus,
    bench: Bench,
    *,
    decoding: Decoding,
    journal: Journal | None,
    tell: Tell,
) -> record.Record:
    """Run it to its end."""
    standing: Standing | None = None
    kept = len(journal.results) if journal else 0
    for standing in run(
        asked, arms, bench, decoding=decoding, done=journal.results if journal else ()
    ):
        if journal:
            # results of questions left out by a smaller --limit stay in the file
            fresh = [r for r in standing.results if r.key not in {k.key for k in journal.results}]
            journal.add(fresh)
            journal.results += fresh
        left = "" if standing.left is None else f", about {standing.left:.0f} s left"
        tell(f"{standing.done} of {standing.of} answers{left}")
    if kept:
        tell(f"{kept} of these were there from before")
    return record.finished(title, asked, arms, corpus, decoding, standing)


# -- four arms


def four_arm_tables(
    asked: Sequence[Question],
    corpus: Corpus,
    generator: Generator,
    *,
    decoding: Decoding = Decoding(),
    tell: Tell = lambda said: None,
) -> str:
    """Questions whose passage is known, and those the documents don't answer, with each kind of
    evidence: two Markdown tables."""
    found: list[tuple[Question, FourArms]] = []
    for number, q in enumerate(asked, start=1):
        gold = gold_passage(q, corpus) if q.answerable else None
        if gold or not q.answerable:
            four = four_arms(
                q.question, corpus, generator, gold=gold, short=q.short, decoding=decoding
            )
            found.append((q, four))
        if number % 10 == 0:
            tell(f"four arms: {number} of {len(asked)} questions")
    rows = [["evidence", "right where the documents say", "refuses where they don't"]]
    for arm in ARMS:
        parts = []
        for answerable in (True, False):
            part = [four for q, four in found if q.answerable == answerable and arm in four.answers]
            good = [
                float(four.right[arm] if answerable else refused(four.answers[arm]))
                for four in part
            ]
            parts.append(f"{record.mean(interval(good))}, n = {len(good)}" if good else "")
        rows.append([f"{arm}: {ARMS[arm]}", *parts])
    many = Counter(four.verdict for _, four in found)
    verdicts = [["verdict", "questions"], *([v, str(many[v])] for v in VERDICTS)]
    return f"{record.to_markdown(rows)}\n\n{record.to_markdown(verdicts)}"


# -- command line


def main(argv: list[str] | None = None) -> int:
    given = _arguments(argv)

    def tell(said: str) -> None:
        print(said, file=sys.stderr, flush=True)

    whole = read_questions(_read(given.questions), given.questions.name)
    arms = read_arms(_read(given.arms), given.arms.name) if given.arms else USUAL
    by_id = {q.id: q for q in whole}
    texts = {q.id: q.question for q in whole}
    asked = [by_id[key] for key in drawn(texts, given.limit)]
    if given.max_tokens < 1:
        raise RagdemoError(f"--max-tokens must be at least 1, got {given.max_tokens}.")
    decoding = Decoding(max_tokens=given.max_tokens)
    corpus = _corpus(given.docs, load_encoder(given.encoder), tell)
    bench = own_bench(corpus)
    if given.four_arms:
        generator = bench.generator("mini")
        print(four_arm_tables(asked, corpus, generator, decoding=decoding, tell=tell))
        return 0
    journal = None
    if given.out:
        given.out.mkdir(parents=True, exist_ok=True)
        journal = Journal(
            given.out / "results.jsonl", plan(whole, arms, corpus.fingerprint, decoding)
        )
    title = f"{given.questions.name}: {len(asked)} of {len(whole)} questions, {len(arms)} arms"
    made = measured(
        title, asked, arms, corpus, bench, decoding=decoding, journal=journal, tell=tell
    )
    for arm, said in made.problems.items():
        tell(f"{arm} was not measured: {said}")
    if not made.lines:
        return 1
    names = [line.arm for line in made.lines]
    tables = [record.table(made.lines), record.counted(made.faults, names)]
    text = "\n\n".join([f"**{made.title}**", *map(record.to_markdown, tables)])
    signed = "\n".join(f"- {name}: {said}" for name, said in made.signature.items())
    print(f"{text}\n\n{signed}")
    if given.out:
        for name, content in (
            ("report.html", record.to_html(made)),
            ("results.csv", record.to_csv(made)),
            ("report.json", record.to_json(made)),
            ("tables.md", f"{text}\n\n{signed}\n"),
        ):
            (given.out / name).write_text(content, encoding="utf-8")
        tell(f"written to {given.out}")
    return 0


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as problem:
        raise DocumentError(f"{path} can't be read. Name another file.") from problem


def _corpus(docs: Path, encoder: Encoder, tell: Tell) -> Corpus:
    from ragdemo.loading import read_folder
    from ragdemo.pipeline import build

    corpus = build(read_folder(docs), encoder)
    for report in corpus.reports:
        if report.error:
            tell(f"{report.name}: {report.error}")
    if not corpus.documents:
        raise RagdemoError(f"{docs} holds no document that could be read.")
    return corpus


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m ragdemo eval", description=(__doc__ or "").split("\n\n")[1]
    )
    parser.add_argument(
        "--questions", type=Path, required=True, help="a CSV or JSONL file, a question a row"
    )
    parser.add_argument("--docs", type=Path, required=True, help="a folder of documents")
    parser.add_argument("--arms", type=Path, help="a JSON list of arms (default: with and without)")
    parser.add_argument("--limit", type=int, help="ask so many, always the same draw")
    parser.add_argument("--out", type=Path, help="keep results here; go on where they stop")
    parser.add_argument(
        "--four-arms", action="store_true",
        help="instead: each question with no, found, right and wrong evidence",
    )  # fmt: skip
    parser.add_argument("--max-tokens", type=int, default=96, help="longest answer (default 96)")
    parser.add_argument("--encoder", default="all-MiniLM-L6-v2", help="or hashing, an id, a folder")
    return parser.parse_args(argv)
