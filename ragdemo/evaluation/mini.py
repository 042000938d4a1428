"""Measure ragdemo-mini: `python -m ragdemo eval mini --data DIR`, table into its MODEL_CARD.md.

Greedy, batches of one, passages retrieved by MiniLM. Rows are drawn with a fixed seed, `--limit` of
each set; the table says how many and gives the 95% interval of each share (Wilson 1927). Nothing
here is trained on: all of it is the data folder's eval/ and the sample documents' questions.
"""

from __future__ import annotations

import argparse
import math
import random
import statistics
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ragdemo.embedding import Encoder, load_encoder
from ragdemo.evaluation.answers import contains, f1
from ragdemo.evaluation.questions import sample_questions
from ragdemo.evaluation.ranking import gold_page_at
from ragdemo.generation.base import Step
from ragdemo.generation.mini import FOLDER, MiniGenerator
from ragdemo.grounding import support
from ragdemo.samples import SAMPLE_DOCS
from ragdemo.training.mini_data import read
from ragdemo.types import Answer, Chunk, Decoding, Hit

SEED = 20
BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"


@dataclass(frozen=True)
class Line:
    """One line of the table."""

    measure: str
    value: str
    least: str
    aim: str
    note: str = ""


def share(hits: float, n: int) -> str:
    """ "81.3% (77-85)": a share with its 95% Wilson interval."""
    if not n:
        return "not measured"
    p, z = hits / n, 1.96
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return f"{100 * p:.1f}% ({100 * max(0.0, middle - half):.0f}-{100 * (middle + half):.0f})"


class Paragraphs:
    """All passages of a set as an open-retrieval corpus."""

    def __init__(self, rows: Iterable[dict], encoder: Encoder) -> None:
        texts = dict.fromkeys(
            (p["text"], p.get("title", "")) for row in rows for p in row["passages"]
        )
        self.chunks = [
            Chunk(f"{i}", title, title, text, 0, len(text), (1,))
            for i, (text, title) in enumerate(texts)
        ]
        self.of = {c.text: i for i, c in enumerate(self.chunks)}
        self.encoder = encoder
        self.vectors = encoder.encode_passages([c.text for c in self.chunks])

    def scores(self, question: str) -> np.ndarray:
        """Cosine of the question with every passage, [passages]."""
        return self.vectors @ self.encoder.encode_queries([question])[0]

    def ranked(self, question: str, count: int) -> list[int]:
        return np.argsort(-self.scores(question), kind="stable")[:count].tolist()

    def hits(self, question: str, numbers: Sequence[int]) -> list[Hit]:
        """These passages with their cosines, in this order."""
        cosine = self.scores(question)
        return [
            Hit(self.chunks[n], float(cosine[n]), r, "dense")
            for r, n in enumerate(numbers, start=1)
        ]


@dataclass
class Tally:
    """What a set of answers came to."""

    n: int = 0
    found: float = 0.0
    f1: float = 0.0
    words: int = 0
    refused: int = 0
    loose: int = 0  # answers with a number or name that stands in no passage

    def add(self, answer: Answer, short: Sequence[str], hits: Sequence[Hit]) -> None:
        self.n += 1
        said = "" if answer.finish == "refused" else answer.text
        self.found += contains(said, short)
        self.f1 += f1(said, short)
        self.words += len(said.split())
        self.refused += answer.finish == "refused"
        self.loose += bool(hits) and any(s.unsupported for s in support(said, hits))

    def note(self) -> str:
        return (
            f"token F1 {self.f1 / self.n:.2f}, {self.words / self.n:.0f} words, "
            f"{self.refused / self.n:.0%} refused, n={self.n}"
        )


class Runner:
    """Answers one question at a time."""

    def __init__(self, generator: MiniGenerator) -> None:
        self.generator = generator
        self.decoding = Decoding()

    def answer(self, question: str, hits: Sequence[Hit]) -> Answer:
        return next(s.answer for s in self._steps(question, hits) if s.answer)

    def refuses(self, question: str, hits: Sequence[Hit]) -> bool:
        """Whether it refuses, which is settled before its first word: no more is written."""
        first = next(self._steps(question, hits))
        return first.answer is not None and first.answer.finish == "refused"

    def timed(self, question: str, hits: Sequence[Hit]) -> tuple[float, float, bool]:
        """(seconds to the first word, to the whole answer, whether it was written, not refused)."""
        begun = time.perf_counter()
        first, written = 0.0, False
        for step in self._steps(question, hits):
            first = first or (time.perf_counter() - begun if step.text else 0.0)
            written = step.answer is not None and step.answer.finish != "refused"
        return first, time.perf_counter() - begun, written

    def _steps(self, question: str, hits: Sequence[Hit]) -> Iterator[Step]:
        prompt = self.generator.prompt(question, hits, decoding=self.decoding)
        return self.generator.stream([prompt], [self.decoding], [threading.Event()])


def sample(rows: list[dict], count: int) -> list[dict]:
    return random.Random(SEED).sample(rows, min(count, len(rows)))


def squad(data: Path, run: Runner, encoder: Encoder, limit: int) -> list[Line]:
    rows = read(data / "eval" / "squad1_dev_39articles.jsonl.xz")
    corpus = Paragraphs(rows, encoder)
    gold, free, closed = Tally(), Tally(), Tally()
    for row in sample(rows, limit):
        right = corpus.of[row["passages"][0]["text"]]
        found = corpus.ranked(row["question"], 5)
        five = [right, *(n for n in found if n != right)][:5]
        random.Random(row["id"]).shuffle(five)
        for tally, numbers in ((gold, five), (free, found)):
            hits = corpus.hits(row["question"], numbers)
            tally.add(run.answer(row["question"], hits), row["short"], hits)
        closed.add(run.answer(row["question"], []), row["short"], [])
    asked = [corpus.chunks[i] for i in random.Random(SEED).sample(range(len(corpus.chunks)), 100)]
    ranks = [corpus.of[c.text] in corpus.ranked(run.generator.ask([c])[0], 3) for c in asked]
    return [
        Line("SQuAD 1.1 dev, gold among 5: short answer in the output",
             share(gold.found, gold.n), "65%", "85%", gold.note()),
        Line(f"the same, 5 retrieved from all {len(corpus.chunks):,} paragraphs",
             share(free.found, free.n), "55%", "75%", free.note()),
        Line("closed book, the same questions", share(closed.found, closed.n), "report", "report",
             closed.note()),
        Line("answers with a number or name that stands in no passage",
             share(gold.loose + free.loose, gold.n + free.n), "3%", "0.5%",
             "both lines above; lower is better"),
        Line(f"written questions whose passage MiniLM ranks in its top 3 of {len(corpus.chunks):,}",
             share(sum(ranks), len(ranks)), "80%", "95%", f"SQuAD paragraphs, n={len(ranks)}"),
    ]  # fmt: skip


def natural_questions(data: Path, run: Runner, encoder: Encoder, limit: int) -> list[Line]:
    rows = read(data / "eval" / "nq_oracle_dev.jsonl.xz")
    corpus = Paragraphs(rows, encoder)
    tally = Tally()
    for row in sample(rows, limit):
        right = corpus.of[row["passages"][0]["text"]]
        five = [right, *(n for n in corpus.ranked(row["question"], 5) if n != right)][:5]
        random.Random(row["id"]).shuffle(five)
        hits = corpus.hits(row["question"], five)
        tally.add(run.answer(row["question"], hits), row["short"], hits)
    return [Line("Natural Questions, gold among 5", share(tally.found, tally.n), "45%", "65%",
                 tally.note())]  # fmt: skip


def refusals(data: Path, run: Runner, encoder: Encoder, limit: int) -> list[Line]:
    rows = read(data / "eval" / "squad2_7articles.jsonl.xz")
    lines = []
    for answerable, name, least, aim in (
        (False, "SQuAD 2.0: unanswerable recognised", "60%", "85%"),
        (True, "SQuAD 2.0: answerable wrongly refused", "20%", "8%"),
    ):
        part = sample([r for r in rows if r["answerable"] == answerable], limit)
        refused = 0
        for row in part:
            title = row["passages"][0].get("title", "")
            text = row["passages"][0]["text"]
            chunk = Chunk("0", title, title, text, 0, len(text), (1,))
            refused += run.refuses(row["question"], [Hit(chunk, 0.0, 1, "dense")])
        note = f"its own passage alone, n={len(part)}"
        lines.append(Line(name, share(refused, len(part)), least, aim, note))
    return lines


def samples(folder: Path, run: Runner, encoder: Encoder) -> list[Line]:
    from ragdemo.loading import read_folder
    from ragdemo.pipeline import build, retrieve

    corpus = build(read_folder(folder), encoder)
    tally, refused, unanswerable = Tally(), 0, 0
    pages: dict[str, list[bool]] = {}
    for asked in sample_questions(folder):
        hits = retrieve(asked.question, corpus, 5)
        said = run.answer(asked.question, hits)
        if not asked.answerable:
            unanswerable += 1
            refused += said.finish == "refused"
            continue
        right = bool(gold_page_at(hits, asked.places, 5))
        pages.setdefault("all", []).append(right)
        pages.setdefault(asked.kind, []).append(right)
        tally.add(said, asked.short, hits)
    ranks = []
    for chunk in corpus.chunks:
        found = retrieve(run.generator.ask([chunk])[0], corpus, 3)
        ranks.append(any(h.chunk.id == chunk.id for h in found))
    retrieved = "; ".join(f"{k} {sum(v)}/{len(v)}" for k, v in pages.items())
    return [
        Line("sample documents, k = 5: accepted answer in the output",
             share(tally.found, tally.n), "70%", "90%", tally.note()),
        Line("sample documents: gold page among the 5", share(sum(pages["all"]), len(pages["all"])),
             "95%", "", retrieved),
        Line("sample documents: unanswerable recognised", share(refused, unanswerable), "", "",
             f"n={unanswerable}"),
        Line("generated questions whose passage MiniLM ranks in its top 3, sample documents",
             share(sum(ranks), len(ranks)), "80%", "95%", f"all {len(ranks)} chunks"),
    ]  # fmt: skip


def times(run: Runner, encoder: Encoder, data: Path) -> list[Line]:
    """Medians over the answered of 28 questions, five passages of 200 tokens each: as in the app,
    which learns the passages when nobody asks, and with five that it has never seen."""
    rows = sample(read(data / "eval" / "squad1_dev_39articles.jsonl.xz"), 60)
    texts = [" ".join([r["passages"][0]["text"]] * 4) for r in rows]
    chunks = []
    for i, text in enumerate(texts):
        words = text.split()
        while encoder.count_tokens([" ".join(words)])[0] > 200:
            words = words[:-3]
        cut = " ".join(words)
        chunks.append(Chunk(str(i), "t", "t", cut, 0, len(cut), (1,)))

    def medians(learn: bool) -> tuple[str, int]:
        firsts, wholes = [], []
        for i in range(30):
            among = [replace(chunk) for chunk in chunks[i : i + 5]]  # its own and four others
            if learn:
                run.generator.learn(among)
            hits = [Hit(chunk, 0.0, rank, "dense") for rank, chunk in enumerate(among, start=1)]
            first, whole, written = run.timed(rows[i]["question"], hits)
            if i > 1 and written:  # the first two warm up; refusals end early
                firsts.append(first)
                wholes.append(whole)
        return f"{statistics.median(firsts):.2f} s / {statistics.median(wholes):.2f} s", len(firsts)

    (learnt, n), (new, _) = medians(True), medians(False)
    return [Line("median time to first word / whole answer, 5 passages of 200 tokens", learnt,
                 "0.6 s / 1.5 s", "0.3 s / 0.8 s",
                 f"n={n}; {new} for 5 passages asked about before the app had a quiet moment to "
                 "learn their sentences")]  # fmt: skip


def table(lines: Sequence[Line]) -> str:
    head = "| measure | measured | at least | aim | conditions |\n|---|---|---|---|---|\n"
    return head + "\n".join(
        f"| {x.measure} | {x.value} | {x.least} | {x.aim} | {x.note} |" for x in lines
    )


def signature(limit: int, generator: MiniGenerator) -> str:
    import torch

    from ragdemo.pipeline import versions

    facts = generator.facts
    made = " ".join(f"{k} {v}" for k, v in versions().items() if k != "streamlit")
    return (
        f"Greedy, batch of one, {torch.get_num_threads()} CPU threads, {generator.precision}; up "
        f"to {limit} rows of each set drawn with seed {SEED}; 95% Wilson intervals in brackets; "
        f"passages by all-MiniLM-L6-v2; 'found' is SQuAD-normalised, whole words; refusal above "
        f"p = {facts.refuse_above}, with one passage alone {facts.refuse_alone_above}; "
        f"{facts.examples:,} training rows; {made}."
    )


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="ragdemo eval mini", description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", type=Path, default=FOLDER)
    parser.add_argument("--docs", type=Path, default=SAMPLE_DOCS)
    parser.add_argument("--limit", type=int, default=300)
    parser.add_argument("--only", nargs="*", default=None, help="squad nq refusals samples times")
    parser.add_argument("--card", type=Path, help="write the table into this file")
    given = parser.parse_args(argv)
    encoder = load_encoder()
    generator = MiniGenerator(given.model, encoder=encoder)
    run = Runner(generator)
    parts: dict[str, Callable[[], list[Line]]] = {
        "squad": lambda: squad(given.data, run, encoder, given.limit),
        "nq": lambda: natural_questions(given.data, run, encoder, given.limit),
        "refusals": lambda: refusals(given.data, run, encoder, given.limit),
        "samples": lambda: samples(given.docs, run, encoder),
        "times": lambda: times(run, encoder, given.data),
    }
    lines: list[Line] = []
    for name in given.only or parts:
        made = parts[name]()
        print(table(made).split("\n", 2)[2], flush=True)
        lines += made
    text = f"{table(lines)}\n\n{signature(given.limit, generator)}\n"
    print("\n" + text)
    if given.card:
        card = given.card.read_text(encoding="utf-8")
        before, after = card.split(BEGIN)[0], card.split(END)[1]
        given.card.write_text(f"{before}{BEGIN}\n{text}{END}{after}", encoding="utf-8")
