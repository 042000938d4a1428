"""One prompt being answered by the bundled model: what it reads, and the sentences it writes."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from ragdemo.generation.contrary import contrary
from ragdemo.generation.mini import source as src
from ragdemo.generation.mini.choosing import Chooser, WholeWords
from ragdemo.generation.mini.model import NULL, Encoded
from ragdemo.generation.mini.prior import Candidates
from ragdemo.generation.mini.surface import Place, Writer
from ragdemo.generation.strange import strange
from ragdemo.types import Answer, Decoding, Prompt

if TYPE_CHECKING:
    from ragdemo.generation.mini.generator import MiniGenerator

REFUSAL = "The documents do not say."


class Draft:
    """One sentence of an answer in the making."""

    def __init__(
        self, sentence: int, writer: Writer, decoding: Decoding, words: WholeWords | None = None
    ) -> None:
        self.sentence = sentence  # number in the row's source; NULL where none is quoted
        self.writer = writer
        self.words = words
        self.pieces = 0
        self.source = -1  # where the last piece was copied from
        self._within: int | None = None  # where the next must be copied from, inside a word
        self.end: str | None = None  # "stop", "length", or None while it goes on
        self._choose = Chooser(decoding)
        self._whole = len(writer.text)  # as far as words are complete

    def pick(self, probabilities: torch.Tensor) -> int:
        """The next piece, from p [V]."""
        if self.words is None:
            return self._choose(probabilities)
        if (following := self.words.pending(self.source)) is not None:
            self._choose.note(following)
            self._within = self.source + 1
            return following
        self._within = None
        return self._choose(self.words.begin(probabilities))

    def add(self, piece: str, source: int, places: Sequence[Place | None]) -> None:
        self.pieces += 1
        self.source = source if self._within is None else self._within
        place = places[self.source] if 0 <= self.source < len(places) else None
        self.writer.add(piece, place)
        if self.words is None or self.words.pending(self.source) is None:
            self._whole = len(self.writer.text)

    def settle(self) -> None:
        """No more will come: a word that is not complete goes."""
        self.writer.cut(self._whole)

    @property
    def text(self) -> str:
        """What is written, without a word that is not complete yet."""
        return self.writer.text[: self._whole]


class Row:
    """One prompt being answered: a sentence, and a second where it is nearly as likely."""

    def __init__(self, generator: MiniGenerator, prompt: Prompt, decoding: Decoding) -> None:
        self.generator = generator
        self.prompt = prompt
        self.decoding = decoding
        self.number = 0
        self.laid: list[src.Passage] = []
        self.candidates: list[Candidates] = []
        self.places: list[Place | None] = []
        self.drafts: list[Draft] = []
        self.texts: list[tuple[str, str]] = []
        self.share = [0.0] * len(prompt.used)
        self.null = 0.0
        self.read = 0.0

    def read_in(self) -> None:
        """Lay out the sequences; apart from making the row, since one cancelled never needs it."""
        self.texts = [src.passage_of(h.chunk) for h in self.prompt.used]
        asked, bodies = self._tokens = self.generator.read(self.prompt.question, self.texts)
        task = "answer" if self.texts else "closed"
        self.laid = [p for p, _ in lay(task, asked, bodies)]
        self.candidates = [
            Candidates(hit, p.count) for hit, p in zip(self.prompt.used, self.laid, strict=False)
        ]
        self.places = self._places(asked, bodies)

    def _places(
        self, asked: src.Tokens, bodies: list[tuple[src.Tokens, src.Tokens]]
    ) -> list[Place | None]:
        """For every source token of the row, where it stands; None for special tokens."""
        places: list[Place | None] = []
        for number, p in enumerate(self.laid):
            here: list[Place | None] = [None] * len(p.ids)
            for at in range(min(len(asked.ids), src.QUESTION_TOKENS)):
                start, end = int(asked.start[at]), int(asked.end[at])
                word = self.prompt.question[start:end]
                here[2 + at] = Place(-1, start, end, word.lower() if start == 0 else word)
            if self.texts:
                text, title = self.texts[number]
                tokens, name = bodies[number]
                begin = p.offset - len(name.ids[:24]) - 1
                for at, (start, end) in enumerate(zip(name.start[:24], name.end[:24], strict=True)):
                    here[begin + at] = Place(-1, int(start), int(end), title[start:end])
                for at in range(min(len(tokens.ids), len(p.ids) - p.offset - 1)):
                    start, end = int(tokens.start[at]), int(tokens.end[at])
                    here[p.offset + at] = Place(number, start, end, text[start:end])
            places += here
        return places

    def sentence(self, number: int, before: int = 0) -> src.Passage:
        """The sentence of this number, from 1 through the row, laid out with so many of its passage
        before it and no other neighbour."""
        asked, bodies = self._tokens
        passage, place = self._locate(number)
        text, title = bodies[passage]
        return src.passage("answer", asked, text.only(max(0, place - before), place), title)

    def said(self, number: int) -> str:
        """Its text."""
        passage, place = self._locate(number)
        span = self._tokens[1][passage][0].spans[place]
        return self.texts[passage][0][span.start : span.end]

    def _locate(self, number: int) -> tuple[int, int]:
        if (place := src.locate(self.laid, number)) is None:
            raise ValueError("the row has no such sentence")
        return place

    def nats(self, best: int) -> float:
        """What the words of the question add to the log odds of "not here", beside those of the
        passages and of their sentence number `best`."""
        facts, question, nats = self.generator.facts, self.prompt.question, 0.0
        if self.texts and strange(question, (part for pair in self.texts for part in pair)):
            nats += facts.strange_name
        if len(self.texts) == 1 and best != NULL and contrary(question, self.said(best)):
            nats += facts.contrary
        return nats

    def begin(self, selection: torch.Tensor, tokens: Sequence[int]) -> None:
        """Decide which sentences to write from; `selection` [S] is log p of each, `tokens` are the
        row's source."""
        chosen = [NULL]
        if len(selection) > 1 and self.texts:
            p, best = selection[1:].softmax(0).sort(descending=True)
            chosen = [int(best[0]) + 1]
            # a single passage was asked for its one sentence
            several = len(self.texts) > 1 and len(p) > 1
            if several and float(p[1]) >= self.generator.facts.second_above:
                chosen.append(int(best[1]) + 1)
        sources = tuple(text for text, _ in self.texts)
        words = WholeWords(tokens, self.places, self.generator.inner) if self.texts else None
        self.drafts = [Draft(number, Writer(sources), self.decoding, words) for number in chosen]

    @property
    def refusing(self) -> bool:
        """The passages hold no answer, as far as the model can tell."""
        facts = self.generator.facts
        bar = facts.refuse_above if len(self.prompt.used) > 1 else facts.refuse_alone_above
        return bool(self.prompt.used) and self.null > bar

    def refuse(self) -> None:
        self.drafts = [Draft(NULL, Writer((), REFUSAL), self.decoding)]

    def take(self, draft: Draft, token: int, source: int, pointer: torch.Tensor) -> None:
        """Add a word piece to a draft, or end it."""
        if token == src.SEP:
            draft.end = "stop"
            return
        at = 0
        for number in range(len(self.share)):
            length = len(self.laid[number].ids)
            self.share[number] += float(pointer[at : at + length].sum())
            at += length
        draft.add(self.generator._vocabulary[token], source, self.places)
        if sum(d.pieces for d in self.drafts) < self.decoding.max_tokens:
            return
        if len(self.drafts) > 1:  # half a second sentence is worth less than none
            self.drafts.pop()
        if self.drafts[0].pieces >= self.decoding.max_tokens:
            self.drafts[0].end = "length"

    @property
    def finish(self) -> str | None:
        """Why the answer ends here, or None."""
        ends = [draft.end for draft in self.drafts]
        return None if None in ends else "length" if "length" in ends else "stop"

    @property
    def _shown(self) -> list[tuple[int, Draft]]:
        """The drafts to show, each with where it begins: the second once the first has ended."""
        first, *second = self.drafts
        if first.end is None or not second or not second[0].text:
            return [(0, first)]
        if second[0].text == first.text:  # the same sentence in another passage
            return [(0, first)]
        return [(0, first), (len(first.text) + 1, second[0])]

    @property
    def text(self) -> str:
        said = [draft.text for _, draft in self._shown] if self.drafts else [""]
        between = " " if said[0].endswith((".", "!", "?", "…")) else "\n"  # rows of a table
        return between.join(said)

    def answer(self, finish: str, begun: float) -> Answer:
        total = sum(self.share)
        for draft in self.drafts:
            draft.settle()
        return Answer(
            text=self.text,
            prompt=self.prompt,
            model=self.generator.name,
            tokens=sum(draft.pieces for draft in self.drafts),
            finish=finish,
            seconds={"read": self.read, "write": time.monotonic() - begun - self.read},
            copied=tuple(
                replace(c, start=c.start + at, end=c.end + at)
                for at, draft in (self._shown if self.drafts else ())
                for c in draft.writer.copied
            ),
            shares=tuple(s / total for s in self.share) if total else (),
            confidence=1.0 - self.null if self.prompt.used else None,
        )


def likeliest(encoded: Encoded) -> torch.Tensor:
    """[B] the sentence most likely to hold the answer; NULL where a row has none."""
    if encoded.selection.shape[1] == 1:
        return torch.full((len(encoded.selection),), NULL)
    best = encoded.selection[:, 1:].argmax(1) + 1
    return torch.where(encoded.opens.any(1), best, NULL)


def lay(
    task: str, asked: src.Tokens, bodies: Sequence[tuple[src.Tokens, src.Tokens]]
) -> list[tuple[src.Passage, int]]:
    """Sequences of one row with the tokens cut off each; (text, title) in."""
    if not bodies:
        return [(src.passage(task, asked, None), 0)]
    laid = []
    for text, title in bodies:
        p = src.passage(task, asked if task == "answer" else None, text, title)
        laid.append((p, len(text.ids) - (len(p.ids) - p.offset - 1)))
    return laid
