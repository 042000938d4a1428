"""Measure every retriever: `python -m ragdemo eval retrieval --data DIR`, a Markdown table a set.

Each value is a mean over questions with its 95% bootstrap interval; the last columns compare a
retriever with the first one, question by question. Retrievers that read or write text anew for each
question are measured on `--slow-limit` of them, drawn with a fixed seed, and compared on those.
The vectors of a set are made once and shared, so times leave the embedding of the question out.
"""

from __future__ import annotations

import argparse
import inspect
import random
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from importlib.metadata import version
from pathlib import Path

from ragdemo.embedding import Encoder, Progress, load_encoder
from ragdemo.errors import RagdemoError
from ragdemo.evaluation.bootstrap import LEVEL, RESAMPLES
from ragdemo.evaluation.remembering import Remembering
from ragdemo.evaluation.sets import SETS, EvalSet, load_set
from ragdemo.evaluation.table import Measured, table
from ragdemo.retrieval import RETRIEVERS, Retriever, create
from ragdemo.samples import SAMPLE_DOCS
from ragdemo.text import STOP_WORDS

SEED = 20
PACKAGES = ("torch", "sentence-transformers", "faiss-cpu", "bm25s", "PyStemmer", "scikit-learn")
SLOW = ("reranked", "hyde", "phrasings")  # each question costs passes through a model
SLOW_DEPTH = 30  # hits asked of them: as many as the re-ranker reads anyway


def measure(
    chosen: EvalSet,
    retriever: Retriever,
    *,
    limit: int | None = None,
    depth: int | None = None,
    progress: Progress | None = None,
) -> Measured:
    """Ask every question, or `limit` of them. Measures that need more than `depth` hits are left
    out; `progress` gets (questions done, in all) and may raise to stop."""
    keys = drawn(chosen.questions, limit)
    if not keys:
        raise RagdemoError(
            f"{chosen.title} has no question whose passage is known. Say in the question set which "
            "file and pages hold the answers."
        )
    used = {n: m for n, m in chosen.measures.items() if depth is None or m.depth <= depth}
    hits_asked = max(m.depth for m in used.values())
    values: dict[str, dict[str, float]] = {name: {} for name in used}
    seconds = 0.0
    retriever.search(chosen.questions[keys[0]], 1)  # what is built at first use is no search time
    for done, key in enumerate(keys, start=1):
        begun = time.perf_counter()
        hits = retriever.search(chosen.questions[key], hits_asked)
        seconds += time.perf_counter() - begun
        for name, m in used.items():
            values[name][key] = m.value(key, hits)
        if progress:
            progress(done, len(keys))
    return Measured(retriever.name, values, seconds / len(keys))


def drawn(questions: Mapping[str, str], limit: int | None) -> list[str]:
    """All ids, or `limit` of them: the same at every call, a smaller draw within a larger one."""
    keys = list(questions)
    if limit is None or limit >= len(keys):
        return keys
    random.Random(SEED).shuffle(keys)
    return keys[: max(1, limit)]


def parsed(spec: str) -> tuple[str, dict[str, object]]:
    """ "bm25:k1=0.9,b=0.4" -> ("bm25", {"k1": 0.9, "b": 0.4})."""
    name, _, rest = spec.partition(":")
    pairs = [pair.partition("=") for pair in rest.split(",") if pair]
    return name, {key: _number(value) for key, _, value in pairs}


def _number(text: str) -> int | float | str:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def made(spec: str, chosen: EvalSet, generator: Callable[[], object]) -> Retriever:
    name, options = parsed(spec)
    if name in chosen.unfit:
        raise RagdemoError(chosen.unfit[name])
    if name in RETRIEVERS and RETRIEVERS[name].needs == "generator":
        options["generator"] = generator()
    try:
        return create(name, chosen.corpus, **options)
    except TypeError as problem:
        raise RagdemoError(f"{spec} has an option that {name} does not know.") from problem


def described(spec: str, retriever: Retriever) -> str:
    """ "bm25: k1=1.5, b=0.75, ...": its own settings, as given or as they stand by default."""
    inside = getattr(retriever, "retrievers", None) or [getattr(retriever, "inner", None)]
    facts = [f"over {' and '.join(r.name for r in inside)}"] if inside[0] else []
    given = parsed(spec)[1]
    facts += [
        f"{name}={given.get(name, option.default)}"
        for name, option in inspect.signature(type(retriever)).parameters.items()
        if name != "name" and isinstance(option.default, int | float | str)
    ]
    return f"{spec}: {', '.join(facts)}" if facts else spec


def signature(encoder: Encoder, retrievers: Sequence[str], sets: Sequence[str]) -> str:
    """Everything two tables must share to be compared."""
    import torch

    packages = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    precision = getattr(encoder, "precision", "float32")
    return "\n".join(
        [
            f"- Values: mean over questions ({LEVEL:.0%} BCa bootstrap, {RESAMPLES:,} resamples); "
            f"p: paired randomisation, two-sided; draws with seed {SEED}.",
            *(f"- Data: {text}." for text in sets),
            f"- Encoder: {encoder.name}, {precision}, reads {encoder.limit} tokens of a passage.",
            f"- Words: folded, {len(STOP_WORDS)} stop words out (ragdemo.text), then stemmed.",
            *(f"- {text}" for text in dict.fromkeys(retrievers)),
            f"- ms: mean time of a search, the embedding of the question as asked left out, "
            f"threads: {torch.get_num_threads()}; {packages}.",
        ]
    )


def run(
    chosen: EvalSet,
    names: Sequence[str],
    generator: Callable[[], object],
    *,
    limit: int | None,
    slow_limit: int,
    tell: Callable[[str], None],
) -> tuple[list[Measured], list[str]]:
    """Every retriever on one set: its lines, and what the retrievers say of their settings."""
    lines, settings = [], []
    for spec in names:
        slow = parsed(spec)[0] in SLOW
        limits = [n for n in (limit, slow_limit if slow else None) if n is not None]
        try:
            retriever = made(spec, chosen, generator)
            line = measure(
                chosen,
                retriever,
                limit=min(limits, default=None),
                depth=SLOW_DEPTH if slow else None,
            )
            line = replace(line, retriever=spec)
            settings.append(described(spec, retriever))
        except RagdemoError as problem:
            line = Measured(spec, problem=str(problem))
        lines.append(line)
        tell(f"{chosen.title}: {spec} {line.problem or f'{1e3 * line.seconds:.1f} ms'}")
    return lines, settings


def main(argv: list[str] | None = None) -> int:
    given = _arguments(argv)

    def tell(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    def embedded(done: int, of: int) -> None:
        if done % 1_024 == 0:
            tell(f"embedded {done:,} of {of:,} passages")

    @cache
    def generator() -> object:
        from ragdemo.generation import create as create_generator

        return create_generator("mini", encoder=encoder)

    encoder = Remembering(load_encoder(given.encoder), given.cache)
    tables, settings, about = [], [], []
    for name in given.sets:
        chosen = load_set(name, given.data, given.docs, encoder, embedded)
        encoder.learn([chosen.questions[key] for key in drawn(chosen.questions, given.limit)])
        lines, said = run(
            chosen, given.retrievers, generator,
            limit=given.limit, slow_limit=given.slow_limit, tell=tell,
        )  # fmt: skip
        tables.append(table(chosen, lines))
        settings += said
        about.append(chosen.about)
        print(f"{tables[-1]}\n", flush=True)
    signed = signature(encoder.inner, settings, about)
    print(signed)
    if given.out:
        given.out.write_text("\n\n".join([*tables, signed]) + "\n", encoding="utf-8")
    return 0


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m ragdemo eval retrieval", description=(__doc__ or "").split("\n\n")[1]
    )
    usual = [name for name, choice in RETRIEVERS.items() if choice.needs in ("", "generator")]
    parser.add_argument("--data", type=Path, help="the folder that holds eval/beir and eval/squad*")
    parser.add_argument("--docs", type=Path, default=SAMPLE_DOCS, help="with a questions.jsonl")
    parser.add_argument("--sets", nargs="+", default=list(SETS), choices=SETS)
    parser.add_argument(
        "--retrievers", nargs="+", default=usual, metavar="NAME",
        help="the first is what the others are compared with; with options of its own as in "
        f"bm25:k1=0.9,b=0.4. Default: {' '.join(usual)}",
    )  # fmt: skip
    parser.add_argument("--limit", type=int, help="questions of each set (default: all)")
    parser.add_argument(
        "--slow-limit", type=int, default=100, help=f"for {', '.join(SLOW)} (default 100)"
    )
    parser.add_argument("--encoder", default="all-MiniLM-L6-v2", help="or hashing, an id, a folder")
    parser.add_argument("--cache", type=Path, help="keep vectors in this folder")
    parser.add_argument("--out", type=Path, help="write the tables to this file too")
    return parser.parse_args(argv)
