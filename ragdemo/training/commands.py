"""Fine-tune from the command line: `python -m ragdemo train retriever | generator | joint`.

On a folder of documents and a question set (as `eval retrieval` and the pages read them). Ctrl-C
ends a training as its end would: the best weights so far are measured and saved. A run that is
killed leaves no half-written folder.
"""

from __future__ import annotations

import argparse
import signal
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from ragdemo.corpus import Corpus
from ragdemo.embedding import DPREncoder, Encoder, SentenceTransformerEncoder, load_encoder
from ragdemo.errors import Cancelled, RagdemoError
from ragdemo.evaluation.questions import Question, read_questions, sample_questions
from ragdemo.generation import create
from ragdemo.generation.base import Generator
from ragdemo.generation.mini import MiniGenerator
from ragdemo.loading import read_folder
from ragdemo.pipeline import build
from ragdemo.training import saved
from ragdemo.training.generator import CLOSED, GROUNDED, lessons, parted, train_generator
from ragdemo.training.joint import JOINT, JOINT_ENCODER, train_jointly
from ragdemo.training.pairs import (
    Pair,
    Split,
    from_questions,
    split_by_document,
    with_negatives,
    written,
)
from ragdemo.training.retriever import ENCODER, HEAD, train_encoder, train_head
from ragdemo.training.tuning import HELD_OUT, LEARNT, News, Plan, last

WHATS = ("head", "encoder", "dpr")
REPORT = 10  # steps between two lines


def main(argv: list[str]) -> int:
    given = _parser().parse_args(argv)
    if given.out and given.out.exists():
        raise RagdemoError(f"{given.out} is there already. Name another folder.")
    stop = threading.Event()
    told = given.run(given, stop)  # until it trains, Ctrl-C ends the program as usual
    before = signal.getsignal(signal.SIGINT)

    def end(*_: object) -> None:
        stop.set()
        signal.signal(signal.SIGINT, before)  # a second one ends the program

    signal.signal(signal.SIGINT, end)
    try:
        trained = last(told, _say)
    except Cancelled as problem:
        raise RagdemoError(str(problem)) from problem
    finally:
        signal.signal(signal.SIGINT, before)
    print(f"\n{trained.verdict}")
    stopped = ", stopped early" if trained.stopped else ""
    print(f"{trained.steps} steps in {trained.seconds:.0f} s{stopped}")
    if given.out:
        saved.save(trained.make(), given.out, trained)
        print(f"written to {given.out}")
    return 0


def _say(news: News) -> None:
    if news.over or news.step % REPORT:
        return
    held = news.points[-1].held
    loss = f"loss {news.losses[-1]:.3f}" if news.losses else "untrained"
    left = "" if news.left is None else f", {news.left:.0f} s left"
    print(
        f"step {news.step:4d} of {news.of}  {loss}  {news.trained.watched} {held.mean:.3f} "
        f"({held.low:.3f}-{held.high:.3f})  {news.seconds:.0f} s{left}",
        flush=True,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m ragdemo train", description=__doc__)
    commands = parser.add_subparsers(required=True)

    def command(name: str, run, about: str) -> argparse.ArgumentParser:
        own = commands.add_parser(name, help=about, description=about)
        own.add_argument("--docs", type=Path, required=True, help="a folder of documents")
        own.add_argument(
            "--questions", type=Path, help="CSV or JSONL (default: questions.jsonl of the folder)"
        )
        own.add_argument("--out", type=Path, help="write the trained model to this new folder")
        own.add_argument("--seed", type=int, default=0, help="of the split and the order")
        own.add_argument("--steps", type=int, help="at most")
        own.add_argument("--rate", type=float, help="peak learning rate")
        own.add_argument("--batch", type=int, help="questions a step")
        own.set_defaults(run=run)
        return own

    own = command("retriever", _retriever, "by contrast: a head, an encoder, DPR's two towers")
    own.add_argument("--what", choices=WHATS, default="head", help="default head: seconds")
    own.add_argument("--written", action="store_true", help="also questions the model writes")
    own.add_argument("--dpr", nargs=2, metavar=("QUESTIONS", "PASSAGES"), help="ids or folders")
    own = command("generator", _generator, "question + passages -> answer, or closed-book")
    own.add_argument("--generator", default="mini", help="mini, or a Hugging Face id or folder")
    own.add_argument("--closed-book", action="store_true", help="leave the passages out")
    own.add_argument("--lora", action="store_true", help="low-rank matrices (needs peft)")
    own.add_argument("--document", help="only the questions about this file, split by question")
    own = command("joint", _joint, "question encoder and generator, end to end (RAG-Sequence)")
    own.add_argument(
        "--what", choices=WHATS, default="head",
        help="what reads questions: a head behind the encoder, a whole copy of it, DPR's tower",
    )  # fmt: skip
    own.add_argument("--dpr", nargs=2, metavar=("QUESTIONS", "PASSAGES"), help="ids or folders")
    own.add_argument("--generator", default="mini", help="mini, or a Hugging Face id or folder")
    return parser


def plan(usual: Plan, given: argparse.Namespace) -> Plan:
    changed = {name: getattr(given, name) for name in ("steps", "rate", "batch", "seed")}
    try:
        return replace(usual, **{k: v for k, v in changed.items() if v is not None})
    except ValueError as problem:
        raise RagdemoError(f"{problem}.") from problem


def _corpus(given: argparse.Namespace, encoder: Encoder | None = None) -> Corpus:
    corpus = build(read_folder(given.docs), encoder or load_encoder())
    if not corpus.documents:
        raise RagdemoError(f"{given.docs} holds no document that could be read.")
    return corpus


def questions_of(given: argparse.Namespace) -> list[Question]:
    if given.questions is None:
        return sample_questions(given.docs)
    try:
        return read_questions(given.questions.read_bytes(), given.questions.name)
    except OSError as problem:
        raise RagdemoError(f"{given.questions} could not be read.") from problem


def private(name: str, corpus: Corpus) -> Generator:
    """A generator that nobody else uses, in float32."""
    if name == "mini":
        return MiniGenerator(encoder=corpus.encoder, bf16=False)
    return create("model", model=name)


def split_of(pairs: list[Pair], corpus: Corpus, seed: int) -> Split:
    """By document, with hard negatives for what is trained on."""
    split = split_by_document(pairs, seed)
    return replace(split, train=with_negatives(split.train, corpus))


def _retriever(given: argparse.Namespace, stop: threading.Event) -> Iterator[News]:
    corpus = _corpus(given)
    pairs = from_questions(questions_of(given), corpus)
    if given.written:
        print("Writing questions ...", flush=True)
        pairs += written(corpus, create("mini", encoder=corpus.encoder))
    split = split_of(pairs, corpus, given.seed)
    print(
        f"{len(split.train)} pairs to train on, {len(split.watch)} to watch, {len(split.test)} to "
        "test with; no document is in two parts"
    )
    if given.what == "head":
        return train_head(split, corpus, plan(HEAD, given), cancelled=stop)
    return train_encoder(split, corpus, _encoder(given), plan(ENCODER, given), cancelled=stop)


def _encoder(given: argparse.Namespace) -> SentenceTransformerEncoder | DPREncoder:
    """One that nobody else uses, in float32."""
    if given.what == "dpr":
        return DPREncoder(*given.dpr) if given.dpr else DPREncoder()
    return SentenceTransformerEncoder(bf16=False)


def _generator(given: argparse.Namespace, stop: threading.Event) -> Iterator[News]:
    corpus = _corpus(given)
    examples = [e for e in questions_of(given) if e.answerable and e.file in corpus.files]
    if given.document:
        examples = [e for e in examples if e.file == given.document]
        parts = parted(examples, given.seed) if examples else ([], [], [])
    else:
        split = split_by_document(from_questions(examples, corpus), given.seed)
        parts = [[p.example for p in part] for part in (split.train, split.watch, split.test)]
    closed = given.closed_book
    train, watch, test = (
        lessons(part, corpus, closed_book=closed, teaching=teaching)
        for part, teaching in zip(parts, (True, False, False), strict=True)
    )
    if closed:  # memorising is the aim: what is watched is what is learnt
        watch, test = train, [*watch, *test]
    print(f"{len(train)} questions to learn, {len(watch)} to watch, {len(test)} to test with")
    return train_generator(
        private(given.generator, corpus), train, watch, test,
        plan(CLOSED if closed else GROUNDED, given), lora=given.lora,
        watched=LEARNT if closed else HELD_OUT, cancelled=stop,
    )  # fmt: skip


def _joint(given: argparse.Namespace, stop: threading.Event) -> Iterator[News]:
    # passages are read by an encoder that stays as it is; of DPR the same pair once more
    corpus = _corpus(given, _encoder(given) if given.what == "dpr" else None)
    split = split_by_document(from_questions(questions_of(given), corpus), given.seed)
    generator = private(given.generator, corpus)
    head = given.what == "head"
    return train_jointly(
        split, corpus, generator, plan(JOINT if head else JOINT_ENCODER, given),
        encoder=None if head else _encoder(given), cancelled=stop,
    )  # fmt: skip
