"""Public question-answering data -> training rows for ragdemo-mini.

Reads the packed `*.jsonl.xz` of `--data DIR` (its README lists files, licences and counts) and
never its eval/ folder. Rows become `Item`s: a question, passages, the sentences that hold the
answer and the text to write. Knows nothing of tensors.
"""

from __future__ import annotations

import json
import lzma
import random
import re
import zlib
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from ragdemo.errors import RagdemoError
from ragdemo.generation.contrary import OPPOSITES
from ragdemo.text import content_words, sentences, words
from ragdemo.training.mini_pages import fill, read_pages
from ragdemo.training.mini_tricks import QUESTIONED, read_questions, trick_rows
from ragdemo.types import Span

# How often a source's rows are drawn, relative to their number: natural questions over real
# prose count fully; synthetic, fairy-tale and one-sentence sources are thinned.
SOURCES = {
    "squad_train_subset": 1.0,
    "qed_train": 1.0,
    "reqa_squad_sentences": 0.7,
    "conditionalqa_train": 1.0,
    "covidqa": 1.0,
    "flan_response_sentences": 0.5,
    "fairytaleqa_train": 0.4,
    "qamr_wiki": 0.3,
    "openstax_glossary": 0.3,
    "medquad": 0.1,
}
# questions that their passage seems to answer, among others
TRICKY = ("squad2_9articles", "tricks")
# What Mixer.trick draws, mostly alone with its passage. Plain questions are among them, so that to
# stand alone is no sign of a trick.
TRICKS = {"squad2_9articles": 1.5, "tricks": 1.0, "squad_train_subset": 0.35}
TRICK_PAGES = 0.2  # share of these that are about an invented page
SENTENCES = 0.4  # share of these that show one sentence alone, as generation/mini/again.py reads it
TWO_SENTENCES = 0.3  # share of those that show it behind the one before it, as is read there too
WRITTEN = {
    "pages",
    "openstax_glossary",
    "medquad",
    "flan_response_sentences",
}  # answer as people do
TABLES = 0.03  # share of rows that ask for a cell of a made-up table
PAGES = 0.35  # share of rows about the invented pages of mini_pages.py
TARGET_WORDS = 60  # longer evidence is cut to its first sentence


@dataclass(frozen=True)
class Text:
    """A passage with its title ("" where it has none)."""

    text: str
    title: str = ""


@dataclass(frozen=True)
class Item:
    """One training row."""

    task: str  # "answer", "closed" or "ask"
    question: str
    passages: tuple[Text, ...]
    target: str  # what to write; "" where the passages do not hold the answer
    gold: tuple[tuple[int, Span], ...] = ()  # (passage, characters) that hold the answer
    short: tuple[str, ...] = ()
    source: str = ""


def read(path: Path) -> list[dict]:
    with lzma.open(path, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def held_out(title: str) -> bool:
    """About one article in fifteen is kept for watching a training, by the hash of its title."""
    return bool(title) and zlib.crc32(title.encode()) % 15 == 0


def load(data: Path) -> tuple[list[Item], list[Item]]:
    """All question-answering rows as single-passage items: (training, held out).

    Sources that are not in the folder are left out; `RagdemoError` where none is there.
    """
    paths = {name: data / "train" / f"{name}.jsonl.xz" for name in (*SOURCES, TRICKY[0])}
    if not any(path.exists() for path in paths.values()):
        raise RagdemoError(f"{data}/train holds none of {', '.join(SOURCES)} (.jsonl.xz).")
    questions = read_questions()

    def tricks(rows: list[dict]) -> list[Item]:
        asked = trick_rows(rows, questions)
        return [item for row in asked if (item := item_of(row, "tricks"))]

    items: list[Item] = []
    for name, path in paths.items():
        rows = read(path) if path.exists() else []
        items += [item for row in rows if (item := item_of(row, name))]
        if name in QUESTIONED:
            items += tricks(rows)
    items += tricks(_place_rows(data))
    train, watch = [], []
    for item in items:
        (watch if held_out(item.passages[0].title) else train).append(item)
    for page in read_pages():
        (watch if held_out(page["title"]) else train).extend(page_items(page, random.Random(0)))
    return train, watch


def page_items(page: dict, rng: random.Random) -> list[Item]:
    """Every question of an invented page, filled once."""
    filled = fill(page, rng)
    passage = Text(filled.text, filled.title)
    items = []
    for asked in filled.asked:
        if span := asked.sentence:
            target, gold = filled.text[span.start : span.end], ((0, span),)
            items.append(
                Item("answer", asked.question, (passage,), target, gold, (asked.answer,), "pages")
            )
        else:
            items.append(Item("answer", asked.question, (passage,), "", source="pages"))
    return items


def item_of(row: dict, source: str) -> Item | None:
    """A row as an item with its evidence located, or None where it cannot be."""
    passages = tuple(
        Text(p["text"].replace("\xa0", " "), p.get("title", "")) for p in row["passages"]
    )[:1]
    if not passages or not passages[0].text.strip():
        return None
    short = tuple(row.get("short") or ())
    question = row["question"].strip()
    if not row["answerable"]:
        return Item("answer", question, passages, "", (), (), source)
    gold = _locate(row, passages[0].text, short, question)
    if gold is None:
        return None
    target = passages[0].text[gold.start : gold.end]
    if source == "flan_response_sentences":
        target = row["answer"]  # written answers in the passage's words
    if len(words(target)) > TARGET_WORDS:
        first = sentences(target)[0]
        target = target[first.start : first.end]
        if len(words(target)) > TARGET_WORDS:
            return None
    return Item("answer", question, passages, " ".join(target.split()), ((0, gold),), short, source)


def _locate(row: dict, text: str, short: tuple[str, ...], question: str) -> Span | None:
    """The sentence of the passage that holds the answer."""
    evidence = row.get("evidence") or ""
    evidence = evidence[0] if isinstance(evidence, list) else evidence
    start = text.find(evidence) if evidence else -1
    if start >= 0:
        return Span(start, start + len(evidence))
    candidates = [
        span
        for span in sentences(text)
        if not short or any(s.lower() in text[span.start : span.end].lower() for s in short)
    ]
    if not candidates:
        return None
    wanted = set(content_words(question + " " + row.get("answer", "")))
    return max(
        candidates,
        key=lambda span: len(wanted & set(content_words(text[span.start : span.end]))),
    )


def paragraphs(data: Path) -> list[tuple[str, str]]:
    """(title, text) of the running prose in text/."""
    pool = []
    for row in read(data / "text" / "openstax.jsonl.xz"):
        pool += [(row["title"], paragraph[-1]) for paragraph in row["paras"]]
    for row in _place_rows(data):
        [passage] = row["passages"]
        if len(passage["text"]) > 200:
            pool.append((passage["title"], passage["text"]))
    return pool


def _place_rows(data: Path) -> list[dict]:
    """The paragraphs of the articles on places, as rows without a question: `ARTICLE#NUMBER`."""
    path = data / "text" / "wikipedia_places.jsonl.xz"
    return [
        {"id": f"{row['title']}#{number}", "passages": [{"title": title, "text": text}]}
        for row in (read(path) if path.exists() else ())
        for title in (row["title"].split("_", 1)[-1],)
        for number, text in enumerate(row["text"].split("\n"))
    ]


def closed_items(data: Path, pool: list[tuple[str, str]], rng: random.Random) -> Iterator[Item]:
    """Answering from the question alone, without end: whole-sentence answers to questions, and
    sentences on a topic, from which the decoder learns to write what it does not copy."""
    style = data / "train" / "style_short_to_sentence.jsonl.xz"
    told = [(row["question"], row["answer"]) for row in (read(style) if style.exists() else ())]
    while True:
        if told and rng.random() < 0.4:
            question, answer = rng.choice(told)
        else:
            title, text = rng.choice(pool)
            spans = [s for s in sentences(text) if 40 < s.end - s.start < 250]
            if not spans:
                continue
            at = rng.randrange(len(spans))
            answer = text[spans[at].start : spans[at].end]
            before = text[spans[at - 1].start : spans[at - 1].end] if at else ""
            question = rng.choice((f"Tell me about {title}.", f"{title}: {before}"))
        yield Item("closed", question, (), " ".join(answer.split()), (), (), "closed")


def copy_items(pool: list[tuple[str, str]], rng: random.Random) -> Iterator[Item]:
    """The warm-up, without end: neighbouring sentences, content words of one, that sentence."""
    while True:
        title, text = rng.choice(pool)
        spans = [s for s in sentences(text) if 40 < s.end - s.start < 300]
        if len(spans) < 2:
            continue
        first = rng.randrange(len(spans) - 1)
        window = spans[first : first + rng.randint(2, 5)]
        chosen = rng.choice(window)
        sentence = text[chosen.start : chosen.end]
        candidates = list(dict.fromkeys(w for w in content_words(sentence) if len(w) > 3))
        if len(candidates) < 3:
            continue
        query = " ".join(rng.sample(candidates, min(len(candidates), rng.randint(2, 4))))
        base = window[0].start
        passage = Text(text[base : window[-1].end], title if rng.random() < 0.5 else "")
        gold = Span(chosen.start - base, chosen.end - base)
        yield Item(
            "answer", query, (passage,), " ".join(sentence.split()), ((0, gold),), (), "copy"
        )


_ROWS = "grade level zone band tier class route site team plan model size".split()
_COLUMNS = (
    "hotel meals mileage notice allowance limit deposit bonus fee fare rate budget days weeks "
    "hours deadline contact approver version code weight distance price stock score".split()
)
_NAMES = (
    "Amir Bea Chen Dana Emil Fay Gita Hugo Ines Jon Kim Lena Milo Nora Omar Pia Ravi Sara".split()
)
_ASKS = (
    "What is the {column} for {row}?",
    "How much is the {column} for {row}?",
    "What {column} does {row} have?",
    "Which {column} applies to {row}?",
    "{row}: what is the {column}?",
)


def table_item(rng: random.Random) -> Item:
    """A made-up table, one cell of it asked for: the row is the answer. No source has tables."""
    kind = rng.choice(_ROWS)
    columns = rng.sample(_COLUMNS, rng.randint(2, 4))
    names = [
        f"{kind.title()} {n}" for n in rng.sample([*range(1, 10), *"ABCDE"], rng.randint(3, 6))
    ]

    def cell() -> str:
        number = rng.choice([rng.randint(2, 99), 5 * rng.randint(2, 200)])
        return rng.choice(
            [f"£{number}", f"{number}", f"{number} days", f"{number}%", rng.choice(_NAMES)]
        )

    cells = [[cell() for _ in columns] for _ in names]
    rows = [" | ".join([name, *row]) for name, row in zip(names, cells, strict=True)]
    lead = rng.choice(["", "", f"The {columns[0]} depends on the {kind}.\n\n"])
    head = " | ".join([kind.title(), *(c.title() for c in columns)])
    text = lead + "\n".join([head, *rows])
    asked = rng.randrange(len(names))
    column = rng.randrange(len(columns))
    question = rng.choice(_ASKS).format(column=columns[column], row=names[asked].lower())
    start = text.index(rows[asked])
    gold = Span(start, start + len(rows[asked]))
    # no short answer: its first occurrence in the row may be another cell
    return Item("answer", question, (Text(text),), rows[asked], ((0, gold),), (), "tables")


class _Ranked:
    """Passages that BM25 ranks for a question."""

    def __init__(self, texts: list[Text]) -> None:
        import bm25s

        self.texts = list(dict.fromkeys(texts))
        self._bm25 = bm25s.BM25()
        tokens = [content_words(t.text)[:150] for t in self.texts]
        self._bm25.index(tokens, show_progress=False)

    def best(self, question: str, count: int) -> list[Text]:
        query = content_words(question)
        if not query:
            return []
        count = min(count, len(self.texts))
        found, _ = self._bm25.retrieve(
            [query], k=count, show_progress=False, backend_selection="numpy"
        )
        return [self.texts[i] for i in found[0]]


class _Shuffled:
    """Draws without replacement, each item about `weight` times a round, shuffled anew after it."""

    def __init__(self, items: list[Item], weights: list[float], rng: random.Random) -> None:
        self._items = items
        self._weights = weights
        self._rng = rng
        self._queue: list[Item] = []

    def next(self) -> Item:
        if not self._queue:
            self._queue = [
                item
                for item, weight in zip(self._items, self._weights, strict=True)
                for _ in range(int(weight + self._rng.random()))
            ]
            self._rng.shuffle(self._queue)
        return self._queue.pop()


class Mixer:
    """Draws items and makes them harder: split passages, near misses, no answer, other tasks.

    The public rows come without replacement, and so do the tricky ones; the invented pages are
    filled anew for each draw.

    Near misses are the passages that BM25 ranks highest for the question among all training
    passages, without those that hold an accepted answer.
    """

    def __init__(self, items: list[Item], rng: random.Random) -> None:
        self.rng = rng
        public = [i for i in items if i.source in SOURCES]
        tricky = [i for i in items if i.source in TRICKS]
        self.pages = [p for p in read_pages() if not held_out(p["title"])]
        self._asked = [len(page_items(page, rng)) for page in self.pages]
        self._next = _Shuffled(public, [SOURCES[i.source] for i in public], rng).next
        self._trick = _Shuffled(tricky, [TRICKS[i.source] for i in tricky], rng).next
        own = [i for i in items if i.source == "pages"]
        self._public = _Ranked([i.passages[0] for i in public + tricky])
        self._own = _Ranked([i.passages[0] for i in own]) if own else self._public
        self.names: dict[tuple[bool, int], list[str]] = defaultdict(list)
        for item in items:
            for found in _NAME.finditer(item.question):
                if found.start() > 0:
                    self.names[_look(found[0])].append(found[0])

    def near_misses(self, item: Item, count: int, rng: random.Random | None = None) -> list[Text]:
        """`count` of the best-ranked passages without the answer."""
        rng = rng or self.rng
        own = item.source == "pages" and rng.random() < 0.8
        gold = item.passages[0]
        misses = [
            text
            for text in (self._own if own else self._public).best(item.question, 16)
            # another filling of the same page has another answer to the same question
            if text != gold
            and not (own and text.title == gold.title)
            and not _holds(text.text, item)
        ]
        best = misses[: 2 * count]
        return rng.sample(best, min(count, len(best)))

    def trick(self, several: float) -> Item:
        """A question that its passage seems to answer and does not, or one asked beside such; most
        of them about that passage alone, where the reader must judge each word."""
        of_page = self.pages and self.rng.random() < TRICK_PAGES
        item = self._of_a_page() if of_page else self._trick()
        if self.rng.random() < SENTENCES:
            return sentence_alone(item, int(self.rng.random() < TWO_SENTENCES))
        return self.beside(item, several / 3, bare_too=True)

    def draw(self, several: float, refuse: float, ask: float) -> Item:
        """One item: with `several` chance of near misses beside the gold passage, `refuse` of an
        unanswerable one, `ask` of writing its question; one in ten of its written answers is told
        without passages."""
        rng = self.rng
        drawn = rng.random()
        if drawn < TABLES:
            return self.beside(table_item(rng), several)
        from_pages = self.pages and drawn < TABLES + PAGES
        item = self._of_a_page() if from_pages else self._next()
        if not item.target:
            if refuse:
                return self.beside(item, several / 2)
            return self.draw(several, refuse, ask)
        if rng.random() < ask:
            short = _shorten(item, rng, 500)
            # mostly told which sentence it is about; without, its likelihood re-ranks passages
            gold = short.gold if rng.random() < 0.7 else ()
            return replace(short, task="ask", target=item.question, question="", gold=gold)
        if item.source in WRITTEN and rng.random() < 0.1:
            return replace(item, task="closed", passages=(), gold=())
        if rng.random() < refuse:
            return self._unanswerable(item) or self.beside(item, several)
        if rng.random() < 0.15:
            item = _split(item, rng)
        return self.beside(item, several)

    def _unanswerable(self, item: Item) -> Item | None:
        """The item made unanswerable in one of three ways, from far to near: only near misses, the
        passage without its evidence, the question changed in one word."""
        rng = self.rng
        way = rng.random()
        if way < 0.3:
            misses = self.near_misses(item, rng.randint(1, 4))
            passages = tuple(_window(rng, m) for m in misses)
            return replace(item, passages=passages, target="", gold=()) if misses else None
        if way < 0.65:
            return self.beside(bare, 0.3) if (bare := without_evidence(item)) else None
        item = _shorten(item, rng)
        question = self._altered(item)
        return replace(item, question=question, target="", gold=()) if question else None

    def _altered(self, item: Item) -> str | None:
        """The question with a name or number of the passage changed for one it does not hold, or a
        word for its opposite; as SQuAD 2.0's writers did by hand (Rajpurkar et al. 2018)."""
        question, passage = item.question, item.passages[0].text
        choices = []
        for found in _NAME.finditer(question):
            if found.start() > 0 and found[0] in passage:
                others = [n for n in self._names(found[0]) if n not in passage]
                choices += [(found, n) for n in others]
        for found in re.finditer(r"[a-z]+", question):
            choices += [(found, o) for o in OPPOSITES.get(found[0], ())] * 4
        if not choices:
            return None
        found, other = self.rng.choice(choices)
        return question[: found.start()] + other + question[found.end() :]

    def _names(self, name: str) -> list[str]:
        """A few names of other questions, of the same look: digits, or as many words."""
        pool = self.names[_look(name)]
        return [self.rng.choice(pool) for _ in range(4)]

    def _of_a_page(self) -> Item:
        [page] = self.rng.choices(self.pages, self._asked)
        return self.rng.choice(page_items(page, self.rng))

    def beside(
        self,
        item: Item,
        several: float,
        rng: random.Random | None = None,
        bare_too: bool = False,
    ) -> Item:
        """The item with near misses beside its gold passage, with `several` chance; always where
        that is bare, unless `bare_too`."""
        rng = rng or self.rng
        item = _shorten(item, rng)
        bare = len(item.passages[0].text) < 400 and not bare_too  # one sentence needs no choosing
        if rng.random() >= several and not bare:
            return item
        most = rng.choice((300, 450, 850)) if item.source == "pages" else 450
        misses = [_window(rng, m, most) for m in self.near_misses(item, rng.randint(1, 4), rng)]
        passages = list(item.passages)
        gold = list(item.gold)
        for miss in misses:
            at = rng.randint(0, len(passages))
            passages.insert(at, miss)
            gold = [(p + (p >= at), span) for p, span in gold]
        return replace(item, passages=tuple(passages), gold=tuple(gold))


_NAME = re.compile(r"\b(?:[A-Z][\w'’-]+(?: [A-Z][\w'’-]+)*|\d[\d,.]*\d|\d)\b")


def _look(name: str) -> tuple[bool, int]:
    """What makes two names swap unnoticed: both numbers, or both names of as many words."""
    return name[0].isdigit(), len(name) if name[0].isdigit() else name.count(" ")


def without_evidence(item: Item) -> Item | None:
    """The item with the sentence that holds the answer taken out of its passage; None where the
    rest still holds it, or is nothing."""
    text, gold = item.passages[0], item.gold[0][1]
    rest = (text.text[: gold.start].rstrip() + " " + text.text[gold.end :].lstrip()).strip()
    if len(rest) < 80 or not item.short or _holds(rest, item):
        return None
    return replace(item, passages=(Text(rest, text.title),), target="", gold=())


def sentence_alone(item: Item, before: int = 0) -> Item:
    """The item with the one sentence that holds the answer as its passage; where none does, with
    the one that shares the most content words with the question. `before` it, so many more."""
    text = item.passages[0]
    if item.gold:
        span = item.gold[0][1]
    else:
        asked = set(content_words(item.question))
        shared = {
            s: len(asked & {*content_words(text.text[s.start : s.end])})
            for s in sentences(text.text)
        }
        span = max(shared, key=shared.get, default=Span(0, len(text.text)))
    ahead = [s.start for s in sentences(text.text) if s.start < span.start]
    start = ahead[-before:][0] if before and ahead else span.start
    kept = replace(text, text=text.text[start : span.end])
    gold = ((0, Span(span.start - start, len(kept.text))),) if item.gold else ()
    return replace(item, passages=(kept,), gold=gold)


def _holds(text: str, item: Item) -> bool:
    low = text.lower()
    held = (*item.short, item.target) if item.target else item.short
    return any(s.lower() in low for s in held)


def _window(rng: random.Random, text: Text, most: int = 450) -> Text:
    """A stretch of whole sentences of about `most` characters."""
    if len(text.text) <= most:
        return text
    spans = sentences(text.text)
    first = rng.randrange(len(spans))
    end = first
    while end + 1 < len(spans) and spans[end + 1].end - spans[first].start <= most:
        end += 1
    return Text(text.text[spans[first].start : spans[end].end][: most * 2], text.title)


def _shorten(item: Item, rng: random.Random, most: int = 750) -> Item:
    """Cut a long gold passage to whole sentences around its evidence, at a random place."""
    if len(item.passages) != 1 or len(item.passages[0].text) <= most:
        return item
    text, title = item.passages[0].text, item.passages[0].title
    if not item.gold:
        return replace(item, passages=(_window(rng, item.passages[0], most),))
    gold = item.gold[0][1]
    spans = sentences(text)
    inside = [i for i, s in enumerate(spans) if s.end > gold.start and s.start < gold.end]
    low, high = inside[0], inside[-1]
    while True:
        choices = []
        if low > 0 and spans[high].end - spans[low - 1].start <= most:
            choices.append(-1)
        if high + 1 < len(spans) and spans[high + 1].end - spans[low].start <= most:
            choices.append(1)
        if not choices:
            break
        if rng.choice(choices) < 0:
            low -= 1
        else:
            high += 1
    start, end = spans[low].start, spans[high].end
    moved = Span(gold.start - start, min(gold.end, end) - start)
    return replace(item, passages=(Text(text[start:end], title),), gold=((0, moved),))


def _split(item: Item, rng: random.Random) -> Item:
    """Cut the one passage in two between sentences: choosing between passages at no extra cost."""
    text, title = item.passages[0].text, item.passages[0].title
    if len(item.passages) != 1 or not item.gold:
        return item
    gold = item.gold[0][1]
    borders = [
        s.start for s in sentences(text) if s.start > 0 and not gold.start < s.start < gold.end
    ]
    if not borders:
        return item
    at = rng.choice(borders)
    parts = (Text(text[:at], title), Text(text[at:], title))
    which = int(gold.start >= at)
    moved = Span(gold.start - at * which, gold.end - at * which)
    return replace(item, passages=parts, gold=((which, moved),))
