"""Fine-tuning on this page: what is trained, on which questions, and starting it.

The model trained is loaded for this alone; those that answer visitors are never touched. Training
takes a low priority, and one visitor trains at a time: it needs memory of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial

import streamlit as st

from ragdemo.corpus import Corpus
from ragdemo.embedding import DPREncoder, SentenceTransformerEncoder
from ragdemo.embedding.dpr import PASSAGES, QUESTIONS
from ragdemo.errors import LimitReached, RagdemoError
from ragdemo.evaluation.questions import Question
from ragdemo.generation import create
from ragdemo.generation.base import Generator
from ragdemo.pipeline import retrieve
from ragdemo.training.head import refill
from ragdemo.training.likelihood import network
from ragdemo.training.pairs import (
    Pair,
    from_questions,
    split_by_document,
    with_negatives,
    written,
)
from ragdemo.training.tuning import HELD_OUT, LEARNT, News, Plan, step_aside
from ragdemo.ui import cache, controls, drawn, learning, measuring, running
from ragdemo.ui.costs import SPARE, available
from ragdemo.ui.passages import place
from ragdemo.ui.state import Visitor

KIND = "tune"
TURN = 5.0  # seconds: one's own training that was stopped may still be loading a model
BUSY = "Something large is being trained or measured just now. Try again in some minutes."
KEEP = {"persist_state": "session"}
HEAD, ENCODER, DPR = "head", "encoder", "dpr"
GENERATOR, CLOSED = "generator", "closed"
JOINT, JOINT_ENCODER = "joint", "joint encoder"
RETRIEVERS = (HEAD, ENCODER, DPR)
# bytes that a training takes at most beside what answers visitors (measured, MiniLM and the bundled
# generator, default batches; DPR's reckoned: the untrained pair, and of the trained one weights,
# gradients, AdamW's two moments and the best so far, 0.87 GB each; the joint encoder's likewise)
MEMORY = {
    HEAD: 0.1e9, ENCODER: 1.0e9, DPR: 5.5e9, CLOSED: 0.85e9, GENERATOR: 1.2e9,
    JOINT: 1.35e9, JOINT_ENCODER: 1.85e9,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class What:
    """One thing to train, for the picker. Our own text."""

    title: str
    about: str
    steps: int  # as many as the slider begins with
    most: int
    rate: float


WHATS = {
    HEAD: What(
        "The retriever: a linear head, in seconds",
        "The encoder stays as it is; a matrix behind it turns its vectors so that questions land "
        "nearer to their passages. [Paper](https://arxiv.org/abs/1705.00652)",
        200, 600, 1e-4,
    ),
    ENCODER: What(
        "The retriever: the whole encoder, in minutes",
        "All 22 million weights of MiniLM learn from the same pairs, by the same contrastive loss "
        "as DPR's. [Paper](https://arxiv.org/abs/2004.04906)",
        45, 150, 2e-5,
    ),
    DPR: What(
        "The retriever: DPR's two towers",
        "One encoder reads questions, another passages, and both learn. Which pair is said on the "
        "Retrievers page; it is downloaded (about 440 MB each), and a step takes several times as "
        "long as MiniLM's. [Paper](https://arxiv.org/abs/2004.04906)",
        45, 150, 2e-5,
    ),
    GENERATOR: What(
        "The generator: answering from passages",
        "Question and retrieved passages in, the expected answer out: it learns which sentence to "
        "answer from. [Paper](https://arxiv.org/abs/2005.11401)",
        20, 100, 5e-5,
    ),
    CLOSED: What(
        "The generator: closed-book, without passages",
        "Question in, answer out: the facts go into the weights. This is the fine-tuning that "
        "retrieval is compared with. [Paper](https://arxiv.org/abs/2002.08910)",
        40, 120, 3e-4,
    ),
    JOINT: What(
        "Both, end to end (RAG-Sequence): a linear head and the generator",
        "Nobody says which passage is right. One under which the answer is likely pulls the "
        "question's vector towards it, through a linear head behind the frozen encoder; the index "
        "stays. [Paper](https://arxiv.org/abs/2005.11401)",
        20, 100, 3e-3,
    ),
    JOINT_ENCODER: What(
        "Both, end to end (RAG-Sequence): the question encoder and the generator",
        "As the paper has it: all weights of an encoder that reads the questions learn with the "
        "generator, while the passages' vectors, and with them the index, stay. "
        "[Paper](https://arxiv.org/abs/2005.11401)",
        20, 100, 5e-5,
    ),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Order:
    """What was chosen when Train was pressed."""

    what: str
    pairs: tuple[Pair, ...]
    plan: Plan
    write: bool = False  # train on questions that the bundled model writes, too
    lora: bool = False
    hub: str = ""  # a Hugging Face generator instead of the bundled one
    hub_bytes: float = 0.0  # its weights in float32
    towers: tuple[str, str] = (QUESTIONS, PASSAGES)


@dataclass(frozen=True)
class Lab:
    """A training as the page keeps it."""

    what: str
    news: News
    corpus: Corpus  # what it was trained on, with the untrained encoder
    tried: str = ""  # a question of the held-out ones, to begin with
    hub: str = ""  # the Hugging Face generator that was trained; "": the bundled one


def section(me: Visitor, board: running.Board) -> None:
    """Choose, start, watch."""
    what = st.selectbox(
        "What is trained", list(WHATS), format_func=lambda w: WHATS[w].title, key="tune-what",
        **KEEP,
    )  # fmt: skip
    chosen = WHATS[what]
    st.caption(chosen.about)
    retriever = what in RETRIEVERS
    hub = "" if retriever else _hub(me)
    if hub:
        drawn.text(f"Trained is a copy of {hub}, which was chosen on the Ask page.", look="small")
    use_written = retriever and st.checkbox(
        "Also train on questions that the bundled model writes about every passage",
        key="tune-written",
        help="Kept is what finds its way back: a search for the question must find the passage. "
        "About ten passages a second.", **KEEP,
    )  # fmt: skip
    name, asked = me.questions or ("the samples' questions", cache.sample_set())
    pairs = [*from_questions(asked, me.corpus), *(_alive(me) if retriever else ())]
    drawn.text(_available(name, pairs), look="small")
    with st.expander("Questions of your own", icon=":material/quiz:"):
        _mark(me)
    measuring.upload(me)
    plan, lora = _plan(what, chosen)
    if st.button(
        "Train", type="primary", icon=":material/model_training:", key="tune-go",
        disabled=not pairs and not use_written,
    ):  # fmt: skip
        towers = me.tuning.questions or QUESTIONS, me.tuning.passages or PASSAGES
        size = _bytes(me.generator) if hub else 0.0
        order = Order(what, tuple(pairs), plan, bool(use_written), lora, hub, size, towers)
        running.start(me, KIND, partial(_trained, me, order))
    body = board.place(KIND, lambda lab: learning.progress(lab.news))
    found = me.results.get(KIND)
    if body and found:
        with body:
            learning.progress(found.news)


def _alive(me: Visitor) -> list[Pair]:
    """Marked passages that are still in the documents, as they are cut now."""
    here = {chunk.id for chunk in me.corpus.chunks}
    return [pair for pair in me.marked if pair.gold.id in here]


def _available(name: str, pairs: Sequence[Pair]) -> str:
    documents = len({pair.gold.document_id for pair in pairs})
    return (
        f"In use: {name}. {len(pairs)} questions have an answer with a known place in "
        f"{documents} of your documents. Whole documents are held out: some decide when to end, "
        "some test what was gained."
    )


def _plan(what: str, chosen: What) -> tuple[Plan, bool]:
    with st.expander("How it is trained", icon=":material/tune:"):
        left, middle, right = st.columns(3, gap="medium")
        steps = left.slider(
            "Steps at most", 5, chosen.most, chosen.steps, 5, key=f"tune-steps-{what}",
            help="It ends earlier where the held-out questions stop getting better.", **KEEP,
        )  # fmt: skip
        factor = middle.select_slider(
            "Learning rate", ["÷10", "÷3", "usual", "×3", "×10"], "usual", key="tune-rate",
            help=f"Usual here: {chosen.rate:g}. Too high forgets what the model knew.", **KEEP,
        )  # fmt: skip
        seed = right.number_input(
            "Seed", 0, 9999, 0, key="tune-seed",
            help="Which documents are held out, and the order.", **KEEP,
        )  # fmt: skip
        lora = what in (GENERATOR, CLOSED) and st.checkbox(
            "Low-rank matrices only (LoRA)", key="tune-lora",
            help="For a Hugging Face model chosen on the Ask page; the bundled one is small enough "
            "to be trained whole.", **KEEP,
        )  # fmt: skip
    times = {"÷10": 0.1, "÷3": 1 / 3, "usual": 1.0, "×3": 3.0, "×10": 10.0}[factor]
    return Plan(steps=steps, rate=chosen.rate * times, seed=int(seed)), bool(lora)


def _mark(me: Visitor) -> None:
    """A question of one's own, and a click on the passage that answers it."""
    st.caption(
        "Ask something, then say which passage answers it. It is trained on like the others."
    )
    question = st.text_input("Your question", key="mark-question", max_chars=500).strip()
    if question:
        for hit in retrieve(question, me.corpus, 5):
            with st.container(border=True):
                drawn.text(
                    f"{hit.chunk.document_name} · {place(me, hit.chunk)}", look="small quiet"
                )
                drawn.text(" ".join(hit.chunk.text.split())[:300], look="small")
                if st.button("This one answers it", key=f"mark-{hit.chunk.id}"):
                    me.marked.append(Pair(question, hit.chunk, kind="marked"))
                    st.rerun()
    if me.marked:
        drawn.text(f"Marked so far: {len(me.marked)}.", look="small")
        if st.button("Forget the marked ones", icon=":material/delete:", key="mark-clear"):
            me.marked.clear()
            st.rerun()


def _hub(me: Visitor) -> str:
    """The id of the Hugging Face model chosen on Ask, or "" for the bundled one."""
    hub = st.session_state.get("generator") == controls.HUB
    return me.generator.name if hub and me.generator and me.generator is not me.tuned else ""


def _bytes(generator: Generator) -> float:
    """Of a loaded model's weights in float32."""
    inner = getattr(generator, "_generator", generator)
    return 4.0 * sum(p.numel() for p in network(inner).parameters())


def check_memory(what: str, hub_bytes: float = 0.0, lora: bool = False) -> None:
    """Raise LimitReached where there is no room: the whole app would be ended, not only this.
    `hub_bytes` are the weights of a Hugging Face generator in float32."""
    free = available() - SPARE
    # weights, gradients, two moments and the best so far; with LoRA the weights alone
    needed = MEMORY[what] + hub_bytes * (1.5 if lora else 5)
    if needed > free:
        raise LimitReached(
            f"This training takes about {needed / 1e9:.1f} GB of memory, and "
            f"{max(0, free) / 1e9:.1f} GB are free here. Train the linear head, which takes almost "
            "none, or run the app on a larger machine."
        )


@contextmanager
def alone(what: str, hub_bytes: float = 0.0, lora: bool = False) -> Iterator[None]:
    """The machine's one training, at a low priority, where there is room for it."""
    with cache.heavy_turn(TURN, BUSY):
        check_memory(what, hub_bytes, lora)
        step_aside()
        yield


def base_corpus(me: Visitor) -> Corpus:
    """A copy of the visitor's documents with the encoder that everybody starts from: an upload in
    the middle of a training must not move the passages it learns from."""
    return untrained(me, Corpus(cache.shared().encoder, me.corpus.chunking))


def untrained(me: Visitor, new: Corpus) -> Corpus:
    """The visitor's documents put into `new`, whose encoder is the shared one; the samples' vectors
    are there already, and all of them where the visitor's encoder is that one too."""
    shared, old = cache.shared(), me.corpus
    if old.encoder is new.encoder:
        return refill(new, old)
    own = {key: document for key, document in old.documents.items() if key not in shared.files}
    vectors = {
        key: new.encoder.encode_passages([c.content for c in old.chunks_of(key)]) for key in own
    }
    samples = shared.indexed(old.chunking)
    for key, document in old.documents.items():
        if key in own:
            new.adopt(document, old.chunks_of(key), vectors[key])
            new.originals[key] = old.originals.get(key, b"")
            new.passwords.update({k: v for k, v in old.passwords.items() if k == key})
        else:
            shared.give(new, key, samples)
    return new


def private_generator(hub: str, with_encoder: bool = True) -> Generator:
    """A generator for one training alone."""
    if hub:
        return create("model", model=hub)
    return create("mini", encoder=cache.shared().encoder if with_encoder else None, bf16=False)


def _trained(me: Visitor, order: Order, reins: running.Reins) -> Iterator[Lab]:
    def updates() -> Iterator[Lab]:
        with alone(order.what, order.hub_bytes, order.lora):
            reins.tell("Getting ready", 0, 1)
            corpus, pairs = base_corpus(me), list(order.pairs)
            if order.write:
                progress = partial(reins.tell, "Writing questions")
                pairs += written(corpus, cache.shared().generator, progress=progress)
            if order.what == DPR:
                new = Corpus(cache.dpr(*order.towers), corpus.chunking)
                corpus = refill(new, corpus, partial(reins.tell, "Reading the documents with DPR"))
            held: list[str] = []
            for news in _training(order, pairs, corpus, reins, held):
                left = "" if news.left is None else f", about {news.left:.0f} s left"
                reins.said = f"Step {news.step} of {news.of}{left}"
                reins.share = news.step / news.of
                yield Lab(order.what, news, corpus, held[0] if held else "", order.hub)

    return updates()


def _training(
    order: Order, pairs: list[Pair], corpus: Corpus, reins: running.Reins, held: list[str]
) -> Iterator[News]:
    """The trainer's news; `held` gets the held-out questions."""
    from ragdemo.training import generator as generators
    from ragdemo.training import joint, retriever

    what, plan = order.what, order.plan
    split = split_by_document(pairs, plan.seed)
    held += [pair.question for pair in split.test]
    stop = {"cancelled": reins.cancelled}

    def like(usual: Plan) -> Plan:
        return replace(usual, steps=plan.steps, rate=plan.rate, seed=plan.seed)

    if what in RETRIEVERS:
        split = replace(split, train=with_negatives(split.train, corpus))
    if what == HEAD:
        return retriever.train_head(split, corpus, like(retriever.HEAD), **stop)
    if what in (ENCODER, DPR):
        dpr = what == DPR
        private = DPREncoder(*order.towers) if dpr else SentenceTransformerEncoder(bf16=False)
        return retriever.train_encoder(split, corpus, private, like(retriever.ENCODER), **stop)
    if what in (JOINT, JOINT_ENCODER):
        whole = what == JOINT_ENCODER
        return joint.train_jointly(
            split, corpus, private_generator(order.hub, False),
            like(joint.JOINT_ENCODER if whole else joint.JOINT),
            encoder=SentenceTransformerEncoder(bf16=False) if whole else None, **stop,
        )  # fmt: skip
    closed = what == CLOSED
    parts: list[list[Question]] = [
        [pair.example for pair in part if pair.example]
        for part in (split.train, split.watch, split.test)
    ]
    if not parts[0]:
        raise RagdemoError(
            "A generator is trained on questions with answers. Load a question set that has them."
        )
    train, watch, test = (
        generators.lessons(part, corpus, closed_book=closed, teaching=teaching)
        for part, teaching in zip(parts, (True, False, False), strict=True)
    )
    if closed:  # memorising is the aim: what is watched is what is learnt
        watch, test = train, [*watch, *test]
    usual = generators.CLOSED if closed else generators.GROUNDED
    return generators.train_generator(
        private_generator(order.hub), train, watch, test, like(usual), lora=order.lora,
        watched=LEARNT if closed else HELD_OUT, **stop,
    )  # fmt: skip
