"""What retrieval is measured on: a corpus, its questions, and what counts as found.

`nfcorpus` and `arguana` of BEIR (Thakur et al. 2021, https://arxiv.org/abs/2104.08663), `squad`:
the paragraphs of SQuAD 1.1 dev as an open-retrieval corpus, `samples`: the sample documents. The
passages of the first three are taken whole, one chunk each; an encoder reads no more of them than
its limit, word retrievers read all. Knows nothing of retrievers.
"""

from __future__ import annotations

import csv
import hashlib
import json
import lzma
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

from ragdemo.corpus import Corpus
from ragdemo.embedding import Encoder, Progress
from ragdemo.errors import DocumentError
from ragdemo.evaluation import ranking
from ragdemo.evaluation.questions import Question, sample_questions
from ragdemo.types import Chunk, Document, Hit, Page

SETS = ("nfcorpus", "arguana", "squad", "samples")


@dataclass(frozen=True, slots=True)
class Measure:
    """A value in 0..1 for one question."""

    depth: int  # hits it has to be given, where there are so many
    value: Callable[[str, Sequence[Hit]], float]  # of the question's id and hits, best first


@dataclass(frozen=True)
class EvalSet:
    """One benchmark, ready to be searched."""

    title: str
    corpus: Corpus
    questions: Mapping[str, str]  # id -> text, those with something to find
    measures: Mapping[str, Measure]
    lead: str  # the measure that retrievers are compared by
    about: str  # data and how it was read, for the signature
    unfit: Mapping[str, str] = field(default_factory=dict)  # retriever -> why not to measure it


@dataclass(frozen=True, slots=True)
class Passage:
    id: str
    text: str
    document: str  # passages of one document stand together


def whole(
    passages: Sequence[Passage], encoder: Encoder, progress: Progress | None = None
) -> tuple[Corpus, dict[str, str]]:
    """A corpus with one chunk a passage, and chunk id -> passage id."""
    texts = [p.text for p in passages]
    vectors, tokens = encoder.encode_passages(texts, progress), encoder.count_tokens(texts)
    corpus, ids, row = Corpus(encoder), {}, 0
    for name, group in groupby(passages, key=lambda p: p.document):
        part = list(group)
        text = "\n\n".join(p.text for p in part)
        key = hashlib.sha256(f"{name}\n{text}".encode()).hexdigest()
        chunks, start, first = [], 0, row
        for passage in part:
            end = start + len(passage.text)
            place = f"{key[:16]}:{start}-{end}"
            chunks.append(
                Chunk(place, key, name, passage.text, start, end, (1,), tokens=tokens[row])
            )
            ids[place] = passage.id
            start, row = end + 2, row + 1
        document = Document(key, name, text, (Page(1, "1", 0, len(text)),))
        corpus.adopt(document, chunks, vectors[first:row])
    return corpus, ids


def beir(name: str, folder: Path, encoder: Encoder, progress: Progress | None) -> EvalSet:
    """Test questions of a BEIR set with its graded judgements; passages are "title text"."""
    rows = _lines(folder / "corpus.jsonl.xz")
    joined = [Passage(r["_id"], f"{r['title']} {r['text']}".strip(), name) for r in rows]
    corpus, ids = whole(joined, encoder, progress)
    judged: dict[str, dict[str, int]] = {}
    with _opened(folder / "qrels_test.tsv") as lines:
        for row in csv.DictReader(lines, delimiter="\t"):
            judged.setdefault(row["query-id"], {})[row["corpus-id"]] = int(row["score"])
    texts = {row["_id"]: row["text"] for row in _lines(folder / "queries.jsonl")}
    questions = {key: texts[key] for key in judged}

    def measure(formula: Callable, k: int) -> Measure:
        # ArguAna's queries are passages of its own corpus: each is left out of its ranking
        def value(key: str, hits: Sequence[Hit]) -> float:
            ranked = [name for h in hits if (name := ids[h.chunk.id]) != key]
            return formula(ranked, judged[key], k)

        return Measure(k + 1, value)

    return EvalSet(
        title=f"{name} ({len(ids):,} passages)",
        corpus=corpus,
        questions=questions,
        measures={
            "nDCG@10": measure(ranking.ndcg_at, 10),
            "recall@10": measure(ranking.recall_at, 10),
            "recall@100": measure(ranking.recall_at, 100),
        },
        lead="nDCG@10",
        about=f"{name}: {len(questions):,} test questions of BEIR as they stand, passages "
        f'"title text" whole, the query itself left out of its ranking; {_hash(folder)}',
        unfit={"neighbours": "its passages stand in no order"},
    )


def squad(path: Path, encoder: Encoder, progress: Progress | None) -> EvalSet:
    """Each question's own paragraph is to be found among those of all articles."""
    rows = _lines(path)
    own = {row["id"]: row["passages"][0] for row in rows}
    different = {p["text"]: p.get("title", "") for p in own.values()}
    by_article = sorted(different.items(), key=lambda item: item[1])  # stable: in reading order
    corpus, ids = whole([Passage(t, t, title) for t, title in by_article], encoder, progress)
    chunk = {ids[c.id]: c for c in corpus.chunks}
    gold = {key: chunk[p["text"]] for key, p in own.items()}

    def recall(k: int) -> Measure:
        # a hit of joined paragraphs finds each of them
        return Measure(k, lambda key, hits: float(any(h.chunk.holds(gold[key]) for h in hits[:k])))

    return EvalSet(
        title=f"squad ({len(different):,} paragraphs of {len(corpus.documents)} articles)",
        corpus=corpus,
        questions={row["id"]: row["question"] for row in rows},
        measures={f"recall@{k}": recall(k) for k in (1, 5, 20)},
        lead="recall@5",
        about=f"squad: {len(rows):,} questions of SQuAD 1.1 dev, paragraphs whole and without "
        f"their article's title, found is the question's own paragraph; {_hash(path)}",
    )


def samples(folder: Path, encoder: Encoder, progress: Progress | None) -> EvalSet:
    """The answerable questions of a folder of documents with a questions.jsonl."""
    from ragdemo.loading import read_folder
    from ragdemo.pipeline import build

    asked = sample_questions(folder)
    return documents("samples", asked, build(read_folder(folder), encoder), _hash(folder))


def documents(name: str, asked: Sequence[Question], corpus: Corpus, origin: str = "") -> EvalSet:
    """Questions with gold pages over a corpus of documents; the others are left out."""
    known = {q.id: q for q in asked if q.answerable and q.places}

    def page(k: int) -> Measure:
        return Measure(k, lambda key, hits: ranking.gold_page_at(hits, known[key].places, k))

    def places(key: str, hits: Sequence[Hit]) -> float:
        return ranking.gold_recall_at(hits, known[key].places, 5)

    def reciprocal(key: str, hits: Sequence[Hit]) -> float:
        return 1 / (ranking.gold_rank(hits[:10], known[key].places) or float("inf"))

    return EvalSet(
        title=f"{name} ({len(corpus.chunks):,} chunks of {len(corpus.documents)} documents)",
        corpus=corpus,
        questions={key: q.question for key, q in known.items()},
        measures={
            **{f"gold page in {k}": page(k) for k in (1, 5, 10)},
            "share of places in 5": Measure(5, places),
            "MRR@10": Measure(10, reciprocal),
        },
        lead="gold page in 5",
        about=f"{name}: {len(known):,} answerable questions, chunks of {corpus.chunking.tokens} "
        f"tokens with {corpus.chunking.overlap} repeated, found is a chunk that touches a gold "
        f"page of the gold file; {origin}".rstrip("; "),
    )


def load_set(
    name: str, data: Path | None, docs: Path, encoder: Encoder, progress: Progress | None = None
) -> EvalSet:
    """A set by its name in `SETS`. Raises DocumentError where its files are not there."""
    if name == "samples":
        return samples(docs, encoder, progress)
    if data is None:
        raise DocumentError(f"{name} lies in the data folder: say where with --data DIR.")
    if name == "squad":
        return squad(data / "eval" / "squad1_dev_39articles.jsonl.xz", encoder, progress)
    return beir(name, data / "eval" / "beir" / name, encoder, progress)


def _opened(path: Path):
    try:
        opener = lzma.open if path.suffix == ".xz" else open
        return opener(path, "rt", encoding="utf-8")
    except OSError as problem:
        raise DocumentError(f"{path} is not there. Name the folder that holds it.") from problem


def _lines(path: Path) -> list[dict]:
    with _opened(path) as lines:
        return [json.loads(line) for line in lines]


def _hash(path: Path) -> str:
    """ "SHA-256 1f0c2a9b": of a file, or of all files of a folder by name."""
    files = sorted(p for p in path.iterdir() if p.is_file()) if path.is_dir() else [path]
    digest = hashlib.sha256(b"".join(hashlib.sha256(p.read_bytes()).digest() for p in files))
    return f"SHA-256 {digest.hexdigest()[:8]}"
