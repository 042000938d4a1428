"""What ragdemo adds to the libraries it calls, and what an HNSW graph keeps of the exact search.

    python benchmarks/search.py                          100,000 chunks, then 1,000,000 vectors
    python benchmarks/search.py --chunks 2000 --vectors 5000 --questions 20     a rehearsal

1. Each retriever's search against the bare library call for the same question, over the same
   synthetic chunks: the two take turns, so that whatever else the machine does meets both.
2. HNSW: recall@10 against the exact search, and milliseconds a query, for several efSearch.

Prints Markdown with the conditions it was measured under.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import platform
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np

from ragdemo.corpus import Corpus
from ragdemo.embedding import MINILM, Encoder, load_encoder
from ragdemo.stores.base import batches
from ragdemo.stores.costs import built, recall, synthetic, timed
from ragdemo.stores.faiss_index import FaissSettings
from ragdemo.types import Chunk, Document

K = 10
WORDS = 30_000  # of the synthetic language; the r-th most frequent is about 1/r as frequent
LENGTH = 120  # words a chunk
A_DOCUMENT = 1000  # chunks a document
SYLLABLES = [a + b for a in "bdfgklmnprstvz" for b in "aeiou"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--chunks", type=int, default=100_000, help="for part 1; 0 leaves it out")
    parser.add_argument("--vectors", type=int, default=1_000_000, help="for part 2; 0: leave out")
    parser.add_argument("--questions", type=int, default=200)
    parser.add_argument("--dimension", type=int, default=384, help="of the vectors of part 2")
    parser.add_argument("--encoder", default=MINILM)
    parser.add_argument("--links", type=int, default=FaissSettings().hnsw_links)
    parser.add_argument("--build", type=int, default=FaissSettings().hnsw_build)
    parser.add_argument("--search", type=int, nargs="+", default=[16, 32, 64, 128, 256])
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    print(conditions())
    if chosen.chunks:
        retrievers(chosen)
    if chosen.vectors:
        graph(chosen)


def conditions() -> str:
    import faiss
    import torch

    packages = f"faiss {faiss.__version__}, torch {torch.__version__}, numpy {np.__version__}"
    threads = f"{os.cpu_count()} cores, FAISS {faiss.omp_get_max_threads()} and torch "
    threads += f"{torch.get_num_threads()} threads"
    return f"{time.strftime('%Y-%m-%d')} · Python {platform.python_version()} · {packages} · " + (
        f"{platform.machine()}, {threads}\n"
    )


# -- 1: what the retrievers add


def retrievers(chosen: argparse.Namespace) -> None:
    from ragdemo.retrieval.bm25 import BM25
    from ragdemo.retrieval.dense import Dense
    from ragdemo.retrieval.tfidf import TFIDF

    encoder = load_encoder(chosen.encoder)
    corpus, questions = library(encoder, chosen.chunks, chosen.questions, chosen.seed)
    rows = [
        compare("dense, encode and search", Dense(corpus), bare_dense(corpus), questions),
        compare("dense, search alone", *search_alone(corpus, questions), questions),
        compare("BM25", BM25(corpus), bare_bm25(corpus), questions),
        compare("TF-IDF", TFIDF(corpus), bare_tfidf(corpus), questions),
    ]
    print(
        f"Search for {K} of {len(corpus.chunks):,} synthetic chunks of {LENGTH} words, "
        f"{len(questions)} questions, encoder {encoder.name}. Median ms; the ratio is the median "
        "of ratios of neighbouring runs.\n"
    )
    print("| retriever | ragdemo ms | bare library ms | ratio |\n|---|---|---|---|")
    for name, ours, bare, ratio in rows:
        print(f"| {name} | {ours:.3f} | {bare:.3f} | {ratio:.3f} |")
    print()


class Encoded:
    """The corpus's search for questions encoded beforehand."""

    def __init__(self, corpus: Corpus, known: dict[str, np.ndarray]) -> None:
        self.corpus = corpus
        self.known = known

    def search(self, question: str, k: int) -> object:
        return self.corpus.search(self.known[question][0], k)


def search_alone(corpus: Corpus, questions: list[str]) -> tuple[Encoded, Callable[[str], object]]:
    known = {q: corpus.encoder.encode_queries([q]) for q in questions}
    index = flat(corpus)
    return Encoded(corpus, known), lambda question: index.search(known[question], K)


def library(encoder: Encoder, count: int, questions: int, seed: int) -> tuple[Corpus, list[str]]:
    """A corpus of synthetic text and synthetic vectors, and questions of six of its words."""
    random = np.random.default_rng(seed)
    words = [
        "".join(SYLLABLES[i] for i in _digits(rank + len(SYLLABLES) ** 2, len(SYLLABLES)))
        for rank in range(WORDS)
    ]
    often = 1 / np.arange(1, WORDS + 1)
    often /= often.sum()
    vectors = synthetic(count, encoder.dimension, seed)
    corpus = Corpus(encoder)
    for part in batches(count, A_DOCUMENT):
        drawn = random.choice(WORDS, size=(part.stop - part.start, LENGTH), p=often)
        texts = [" ".join(words[i] for i in row) for row in drawn]
        name = hashlib.sha256(f"{seed}:{part.start}".encode()).hexdigest()
        document = Document(name, f"{part.start}.txt", "\n".join(texts), ())
        start, chunks = 0, []
        for text in texts:
            end = start + len(text)
            chunks.append(
                Chunk(f"{name[:16]}:{start}-{end}", name, document.name, text, start, end, ())
            )
            start = end + 1
        corpus.adopt(document, chunks, vectors[part])
    asked = random.choice(WORDS, size=(questions, 6), p=often)
    return corpus, [" ".join(words[i] for i in row) for row in asked]


def _digits(number: int, base: int) -> list[int]:
    digits = []
    while number:
        number, digit = divmod(number, base)
        digits.append(digit)
    return digits


def compare(
    name: str, retriever: object, bare: Callable[[str], object], questions: list[str]
) -> tuple[str, float, float, float]:
    """(name, median ms of the retriever, of the bare call, median of their ratios)"""
    for question in questions[:5]:  # builds what is built once
        retriever.search(question, K)
        bare(question)
    ours, theirs = [], []
    for turn, question in enumerate(questions):
        calls = [(ours, lambda q: retriever.search(q, K)), (theirs, bare)]
        for times, call in calls if turn % 2 else reversed(calls):
            start = time.perf_counter()
            call(question)
            times.append(time.perf_counter() - start)
    ratio = np.median(np.array(ours) / np.array(theirs))
    return name, np.median(ours) * 1000, np.median(theirs) * 1000, float(ratio)


def bare_encode(encoder: Encoder) -> Callable[[str], np.ndarray]:
    model = getattr(encoder, "_model", None)  # sentence-transformers' own, the very same weights
    if model is None:
        return lambda question: encoder.encode_queries([question])
    return lambda question: model.encode(
        [question], normalize_embeddings=True, show_progress_bar=False
    )


def flat(corpus: Corpus):
    import faiss

    index = faiss.IndexFlatIP(corpus.encoder.dimension)
    index.add(np.ascontiguousarray(corpus.vectors))
    return index


def bare_dense(corpus: Corpus) -> Callable[[str], object]:
    encode, index = bare_encode(corpus.encoder), flat(corpus)
    return lambda question: index.search(np.asarray(encode(question), np.float32), K)


def bare_bm25(corpus: Corpus) -> Callable[[str], object]:
    """bm25s as its README shows it: tokenize, retrieve."""
    import bm25s
    import Stemmer

    stemmer = Stemmer.Stemmer("english")

    def tokens(texts: list[str] | str) -> object:
        return bm25s.tokenize(texts, stopwords="en", stemmer=stemmer, show_progress=False)

    index = bm25s.BM25()
    index.index(tokens([c.content for c in corpus.chunks]), show_progress=False)
    return lambda question: index.retrieve(tokens(question), k=K, show_progress=False)


def bare_tfidf(corpus: Corpus) -> Callable[[str], object]:
    """scikit-learn's vectors and their product, and numpy's choice of the best."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectorizer = TfidfVectorizer(dtype=np.float32)
    columns = vectorizer.fit_transform(c.content for c in corpus.chunks).T.tocsr()

    def search(question: str) -> object:
        scores = (vectorizer.transform([question]) @ columns).toarray()[0]
        best = np.argpartition(-scores, K)[:K]
        return best[np.argsort(-scores[best])]

    return search


# -- 2: what HNSW keeps


def graph(chosen: argparse.Namespace) -> None:
    rows = synthetic(chosen.vectors + chosen.questions, chosen.dimension, chosen.seed)
    vectors, queries = rows[: chosen.vectors], rows[chosen.vectors :]
    exact, exact_s = built("flat IP", vectors)
    best, exact_ms = timed(exact, queries, K)
    exact_bytes = exact.bytes()
    del exact
    settings = FaissSettings(hnsw_links=chosen.links, hnsw_build=chosen.build)
    store, build_s = built("HNSW", vectors, settings, report)
    print(
        f"HNSW over {len(vectors):,} synthetic clustered vectors x {chosen.dimension}, M "
        f"{chosen.links}, efConstruction {chosen.build}: built in {build_s:,.0f} s, "
        f"{store.bytes() / 2**20:,.0f} MiB (flat: {exact_s:.1f} s, {exact_bytes / 2**20:,.0f} "
        f"MiB). {len(queries)} queries asked one by one, median; recall@{K} against flat.\n"
    )
    print(f"| efSearch | recall@{K} | ms a query |\n|---|---|---|")
    print(f"| flat | 1.000 | {exact_ms:.3f} |")
    for wide in chosen.search:
        store.settings = replace(settings, hnsw_search=wide)
        found, ms = timed(store, queries, K)
        print(f"| {wide} | {recall(found, best):.3f} | {ms:.3f} |")


def report(kind: str, done: int, of: int) -> None:
    if sys.stderr.isatty():
        print(f"\r{kind}: {done:,} of {of:,}", end="\n" if done == of else "", file=sys.stderr)


if __name__ == "__main__":
    main()
