"""The command line: `python -m ragdemo ask | index | eval ... | experiments ... | train ...`.

See each `--help`.
"""

from __future__ import annotations

import argparse
import sys
from importlib import import_module
from pathlib import Path

from ragdemo.errors import RagdemoError

RULE = "-" * 78
# Commands with options of their own: the module whose `main` reads what follows the name.
OTHERS = {
    "eval": ("evaluation.answering", "answers to questions of your own, in several set-ups"),
    "eval finetuning": ("evaluation.finetuning", "fine-tuning, against RAG and before and after"),
    "eval mini": ("evaluation.mini", "the bundled generator"),
    "eval retrieval": ("evaluation.retrieval", "the retrievers"),
    "experiments": ("experiments.record", "run those of the Pipeline page"),
    "train": ("training.commands", "retriever, generator or joint: fine-tune a private copy"),
    "train mini": ("training.mini", "the bundled generator, from its beginning"),
}


def main(argv: list[str] | None = None) -> int:
    argv = sys.argv[1:] if argv is None else argv
    try:
        for words in (2, 1):
            if other := OTHERS.get(" ".join(argv[:words])):
                run = import_module(f"ragdemo.{other[0]}").main
                return run(argv[words:]) or 0
        given = _parser().parse_args(argv)
        return given.run(given)
    except RagdemoError as problem:
        print(f"ragdemo: {problem}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    others = "\n".join(f"  {name:16} {what}" for name, (_, what) in OTHERS.items())
    parser = argparse.ArgumentParser(
        prog="python -m ragdemo",
        description="Ask your documents, with and without retrieval.",
        epilog=f"each with options of its own:\n{others}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True)
    ask = commands.add_parser("ask", help="passages with scores, and both answers")
    ask.add_argument("question")
    ask.add_argument("--docs", type=Path, required=True, help="a folder of documents")
    ask.add_argument("--k", type=int, default=5, help="passages to retrieve (1-20, default 5)")
    ask.add_argument("--generator", default="mini", help="mini, or a Hugging Face id or folder")
    ask.add_argument("--max-tokens", type=int, default=96, help="longest answer (default 96)")
    ask.add_argument("--json", action="store_true", help="print the whole comparison as JSON")
    ask.set_defaults(run=_ask)
    index = commands.add_parser("index", help="what each file gave, and how it was cut")
    index.add_argument("--docs", type=Path, required=True, help="a folder of documents")
    index.add_argument("--out", type=Path, help="write the index to this file")
    index.set_defaults(run=_index)
    return parser


def _corpus(docs: Path):
    from ragdemo.embedding import load_encoder
    from ragdemo.loading import read_folder
    from ragdemo.pipeline import build

    corpus = build(read_folder(docs), load_encoder())
    for report in corpus.reports:
        if report.error:
            print(f"{report.name}: {report.error}", file=sys.stderr)
    if not corpus.documents:
        raise RagdemoError(f"{docs} holds no document that could be read.")
    return corpus


def _ask(given: argparse.Namespace) -> int:
    from ragdemo.generation import create
    from ragdemo.pipeline import compare
    from ragdemo.settings import Ask
    from ragdemo.types import Decoding

    corpus = _corpus(given.docs)
    own = given.generator == "mini"
    generator = (
        create("mini", encoder=corpus.encoder) if own else create("model", model=given.generator)
    )
    try:
        ask, decoding = Ask(k=given.k), Decoding(max_tokens=given.max_tokens)
    except ValueError as problem:
        raise RagdemoError(f"{problem}.") from problem
    comparison = compare(given.question, corpus, generator, ask=ask, decoding=decoding)
    if given.json:
        from ragdemo.report import to_json

        print(to_json(comparison))
        return 0
    print(f"{len(corpus.documents)} documents, {len(corpus.chunks)} passages\n")
    print(f"Passages for: {comparison.question}")
    if comparison.floor is not None:
        print(f"(score: cosine, -1 to 1; a nonsense question reaches {comparison.floor:.2f} here)")
    for hit in comparison.hits:
        page = ", ".join(map(str, hit.chunk.pages))
        print(f"{RULE}\n[{hit.rank}] {hit.score:.3f}  {hit.chunk.document_name}, page {page}")
        print(hit.chunk.text)
    print(RULE)
    if comparison.weak:
        print(f"Weak evidence: {comparison.weak}")
    print(f"With retrieval:    {_cited(comparison)}")
    print(f"Without retrieval: {comparison.baseline.text}")
    print(f"({generator.name}; {_seconds(comparison.seconds)})")
    return 0


def _cited(comparison) -> str:
    """The grounded answer with [n] after each sentence that a passage bears out."""
    if not comparison.support:
        return comparison.grounded.text
    text = comparison.grounded.text
    return " ".join(
        text[s.start : s.end] + (f" [{s.citation}]" if s.citation else " [not borne out]")
        for s in comparison.support
    )


def _seconds(seconds) -> str:
    return ", ".join(f"{name} {value:.2f} s" for name, value in seconds.items())


def _index(given: argparse.Namespace) -> int:
    corpus = _corpus(given.docs)
    for report in corpus.reports:
        facts = [f"{report.pages} pages"]
        facts += [f"scanned: {report.scanned_pages}"] if report.scanned_pages else []
        facts += [f"no text: {report.empty_pages}"] if report.empty_pages else []
        facts += [f"same as {report.duplicate_of}"] if report.duplicate_of else []
        facts += [report.hit_limit] if report.hit_limit else []
        facts += list(report.notes)
        print(f"{report.name}: {report.error or '; '.join(facts)}")
    print(f"{len(corpus.chunks)} passages, index {corpus.fingerprint}")
    if given.out:
        given.out.write_bytes(corpus.export())
        print(f"written to {given.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
