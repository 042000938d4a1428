"""What of ragdemo-mini is chosen, not learnt, on held-out training articles and pages.

- how much the cosines of passage and sentence weigh when the sentence is chosen;
- from which p on the second likeliest sentence is added;
- how much a name or number of the question that stands in no passage adds to "not here";
- how much it adds that the likeliest sentence of a passage alone says the contrary;
- how much a second reading of the likeliest sentences, on their own, counts in p("not here");
- how much a third one does, of the likeliest of a passage alone with the one before it;
- from which p("not here") on the answer is a refusal: one bar for several passages, where each adds
  its own "not here" to the sum and another may hold the answer, and one for a passage alone.

All need only the selector, so each question is encoded twice and the numbers are tried afterwards.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from ragdemo.embedding import load_encoder
from ragdemo.generation.contrary import contrary
from ragdemo.generation.mini.again import log_odds, read_again
from ragdemo.generation.mini.model import NULL, MiniModel
from ragdemo.generation.mini.source import locate
from ragdemo.generation.mini.weights import Facts
from ragdemo.generation.strange import shifted, strange, telling
from ragdemo.training.mini_data import TRICKY, Item, Text, load, sentence_alone
from ragdemo.training.mini_tensors import Tensors
from ragdemo.types import Span

WEIGHTS = tuple((p, s) for p in (0.0, 3.0, 6.0, 10.0) for s in (0.0, 4.0, 8.0, 12.0, 18.0))
# Answerable ones refused. Beside others a refusal is worse for a demo than a weak answer marked as
# weak. Who asks of one passage alone asks whether it is there: up to a fifth of an encyclopedia's
# questions as people ask them.
MOST_WRONG = 0.04
MOST_WRONG_ALONE = 0.2
SECONDS = 0.35  # share of answers that get a second sentence
SQUAD = "squad_train_subset"
SOURCES = (SQUAD, "pages")  # an encyclopedia's questions and a handbook's
PLAIN = (SQUAD, "qed_train")  # people who read the article, and people who searched
QUESTIONS = 125  # of each
OF_AN_ARTICLE = 90  # plain questions; refusals differ more between articles than within one
AGAIN = (0.0, 0.25, 0.5, 0.75)
BEFORE = (0.0, 0.25)  # of a passage alone
FEWEST = 50


@dataclass
class Seen:
    """One question's selector output, before any retrieval prior."""

    item: Item  # with the passages that were read
    spot: np.ndarray  # [n] log p by token
    sentence: np.ndarray  # [n]
    passage: np.ndarray  # [n] cosine of the token's passage with the question
    own: np.ndarray  # [n] cosine of the token's sentence with the question
    gold: np.ndarray  # [n] bool, empty of True where nothing holds the answer
    nats: float = 0.0  # for "not here", of a name or number that stands in no passage

    def with_prior(self, weights: tuple[float, float]) -> np.ndarray:
        """[n] log p by token when cosines of passage and sentence count these many times."""
        inside = self.sentence > NULL
        prior = weights[0] * self.passage + weights[1] * self.own
        logits = self.spot + np.where(inside, prior - prior[inside].max(), 0.0)
        counted = self.sentence >= NULL
        top = logits[counted].max()
        return np.where(counted, logits - top - np.log(np.exp(logits[counted] - top).sum()), -1e4)

    def likeliest(self, weights: tuple[float, float], count: int = 1) -> list[int]:
        """Numbers of the likeliest sentences, from 1."""
        mass = self._mass(weights)
        return [int(n) for n in np.argsort(-mass)[:count] if mass[n]]

    def chosen(self, weights: tuple[float, float]) -> bool:
        """The likeliest sentence holds the answer."""
        return self.best(weights)[0][1]

    def best(self, weights: tuple[float, float]) -> list[tuple[float, bool]]:
        """The two likeliest sentences: p among all sentences, and whether it holds the answer."""
        inside, mass = self.sentence > NULL, self._mass(weights)
        right = np.bincount(self.sentence[inside], self.gold[inside]) > 0
        order = np.argsort(-mass)[:2]
        return [(float(mass[i] / mass.sum()), bool(right[i])) for i in order]

    def _mass(self, weights: tuple[float, float]) -> np.ndarray:
        """[1 + sentences] p of each sentence by its number; empty where there is none."""
        inside = self.sentence > NULL
        return np.bincount(self.sentence[inside], np.exp(self.with_prior(weights)[inside]))

    def null(self, weights: tuple[float, float]) -> float:
        """p("not here") by the passages as they are; what a strange name adds is not in it."""
        return float(np.exp(self.with_prior(weights)[self.sentence == NULL]).sum())


@dataclass
class Twice:
    """A question whose passages were read more than once: log odds of "not here"."""

    whole: float
    sentence: float  # of its likeliest sentences on their own
    before: float  # of the likeliest with the sentence before it; `whole` where there are several
    nats: float

    def null(self, shares: tuple[float, float]) -> float:
        """p("not here") with these shares of the sentences' readings."""
        again, before = shares
        odds = (1 - again - before) * self.whole + again * self.sentence + before * self.before
        return shifted(1 / (1 + math.exp(-odds)), self.nats)


def calibrate(model: MiniModel, facts: Facts, data: Path, say=print) -> Facts:
    """`facts` with these numbers chosen."""
    encoder = Tensors()
    train, held = load(data)
    rng = random.Random(11)
    pool = [i for i in held if i.source in (*SOURCES, *PLAIN, *TRICKY)]
    answerable = [i for i in pool if i.target and i.short and i.source in SOURCES]
    silent = [i for i in pool if not i.target and i.source in SOURCES]
    if any(sum(i.source == name for i in answerable) < FEWEST for name in SOURCES):
        say("too few held-out questions to calibrate on: the numbers stay as they are")
        return facts
    answerable, silent = (_share(items, rng) for items in (answerable, silent))
    texts = list(dict.fromkeys(i.passages[0] for i in pool))
    for source in SOURCES:
        others = list(dict.fromkeys(i.passages[0] for i in train if i.source == source))
        texts += rng.sample(others, min(600, len(others)))
    texts = list(dict.fromkeys(texts))
    minilm = load_encoder()
    vectors = minilm.encode_passages([t.text for t in texts])
    strange_name, contrary_nats = word_nats([*train, *held])
    say(f'a strange name or number in the question: {strange_name:+.2f} nats for "not here"')
    say(f"a sentence that says the contrary: {contrary_nats:+.2f} nats")
    look = _Look(model, encoder, minilm, texts, vectors, strange_name, contrary_nats)
    five = [look.retrieved(i) for i in answerable]  # the gold one is among them, or it is not
    scores = {w: float(np.mean([s.chosen(w) for s in five])) for w in WEIGHTS}
    for (passage, sentence), score in scores.items():
        say(f"weights {passage:4.0f} {sentence:4.0f}: the right sentence chosen {score:.1%}")
    weight = max(scores, key=lambda w: (scores[w], -sum(w)))
    pairs = [s.best(weight) for s in five]
    second = float(np.quantile([pair[1][0] for pair in pairs], 1 - SECONDS))
    either = np.mean([a[1] or (b[1] and b[0] >= second) for a, b in pairs])
    say(f"a second sentence from p = {second:.2f} on: the right one is among them {either:.1%}")
    without = [look.retrieved(i, without_gold=True) for i in rng.sample(answerable, 100)]
    without += [look.retrieved(i) for i in silent]
    plain, tricky = alone(pool)
    cases = {
        "beside others": (
            [s for s in five if s.gold.any()],
            [s for s in without if s],
            [(a, 0.0) for a in AGAIN],
            MOST_WRONG,
        ),
        "alone": (
            [look.alone(i) for i in plain],
            [look.alone(i) for i in tricky],
            [(a, b) for a in AGAIN for b in BEFORE],
            MOST_WRONG_ALONE,
        ),
    }
    bars = {}
    for name, (told, untold, tried, most) in cases.items():
        titles = [s.item.passages[s.item.gold[0][0]].title for s in told]
        told, untold = ([look.twice(s, weight) for s in part] for part in (told, untold))
        null = {s: ([t.null(s) for t in told], [t.null(s) for t in untold]) for s in tried}
        near = {shares: recognised_near(*both, most) for shares, both in null.items()}
        curve = ", ".join(f"{a:.2f} + {b:.2f} {value:.3f}" for (a, b), value in near.items())
        say(f"{name}, by what further readings count, recognised about the bar: {curve}")
        shares = max(near, key=near.get)
        bars[name] = *shares, choose_threshold(name, *null[shares], titles, most, say)
    return replace(
        facts,
        passage_weight=weight[0],
        sentence_weight=weight[1],
        strange_name=round(strange_name, 2),
        contrary=round(contrary_nats, 2),
        again=bars["beside others"][0],
        again_alone=bars["alone"][0],
        before_alone=bars["alone"][1],
        refuse_above=round(bars["beside others"][2], 3),
        refuse_alone_above=round(bars["alone"][2], 3),
        second_above=round(second, 3),
    )


def alone(held: list[Item]) -> tuple[list[Item], list[Item]]:
    """Of the held-out questions, those for one passage alone: answerable, about as many of each
    article, and not, as many of each source."""
    rng = random.Random(11)
    plain = [i for i in held if i.target and i.source in PLAIN]
    tricky = [i for i in held if not i.target]
    return _even(plain, rng), _share(tricky, rng, (SQUAD, *TRICKY))


def word_nats(items: list[Item]) -> tuple[float, float]:
    """Of a strange name and of a contrary sentence, from SQuAD's own questions, alone with their
    paragraphs: the network never saw this counted, so those it was trained on serve as well."""
    counted: dict[bool, list[tuple[bool, bool]]] = {True: [], False: []}
    for item in items:
        if item.source in (TRICKY[0], SQUAD):
            sentence = sentence_alone(item).passages[0].text
            seen = _strange(item), contrary(item.question, sentence)
            counted[bool(item.target)].append(seen)
    strange_name = telling(*([seen for seen, _ in counted[told]] for told in (True, False)))
    contrary_nats = telling(*([seen for _, seen in counted[told]] for told in (True, False)))
    return strange_name, contrary_nats


def _strange(item: Item) -> bool:
    return bool(strange(item.question, [s for p in item.passages for s in (p.text, p.title)]))


def _share(items: list[Item], rng: random.Random, sources: tuple[str, ...] = SOURCES) -> list[Item]:
    """As many of each source."""
    parts = [[i for i in items if i.source == source] for source in sources]
    return [i for part in parts for i in rng.sample(part, min(QUESTIONS, len(part)))]


def _even(items: list[Item], rng: random.Random) -> list[Item]:
    """About as many of each article."""
    by_title: dict[str, list[Item]] = {}
    for item in items:
        by_title.setdefault(item.passages[0].title, []).append(item)
    return [i for of in by_title.values() for i in rng.sample(of, min(OF_AN_ARTICLE, len(of)))]


def recognised_near(answerable: list[float], silent: list[float], most_wrong: float) -> float:
    """Share of unanswerable questions recognised while about `most_wrong` of the answerable ones,
    three to five quarters of it, are refused: the mean over that stretch of the curve, since one
    point of it moves with every question."""
    wrong = np.linspace(0.75, 1.25, 11) * most_wrong
    bars = np.quantile(np.array(answerable), 1 - wrong)
    return float((np.array(silent)[:, None] > bars).mean())


def choose_threshold(
    name: str,
    answerable: list[float],
    silent: list[float],
    titles: list[str],
    most_wrong: float,
    say,
) -> float:
    """From p("not here") of answerable and of unanswerable questions: the bar that recognises most
    of these and refuses at most `most_wrong` of those. So that it holds for other articles too,
    not on the very ones it was set by, the share refused may reach that with a standard error; the
    error is that of a share whose questions come by article, of these `titles`, since they are
    refused much oftener about some than about others (Cochran 1977, Sampling Techniques, 9A)."""
    yes, no = np.array(answerable), np.array(silent)
    _, article = np.unique(titles, return_inverse=True)

    def wrong(bar: float) -> float:
        refused = (yes > bar).astype(float)
        apart = np.bincount(article, refused - refused.mean())
        return float(refused.mean() + np.sqrt((apart**2).sum()) / len(yes))

    best = next((t for t in np.linspace(0.02, 0.98, 97) if wrong(t) <= most_wrong), 0.98)
    say(
        f"{name}, refuse above {best:.2f}: {(no > best).mean():.0%} of {len(no)} unanswerable "
        f"recognised, {(yes > best).mean():.0%} of {len(yes)} answerable wrongly refused"
    )
    return float(best)


@dataclass
class _Look:
    model: MiniModel
    encoder: Tensors
    minilm: object
    texts: list[Text]
    vectors: np.ndarray
    strange_name: float
    contrary: float

    @torch.inference_mode()
    def alone(self, item: Item) -> Seen:
        return self._seen(item, [1.0])

    @torch.inference_mode()
    def twice(self, seen: Seen, weights: tuple[float, float]) -> Twice:
        null = math.log(max(seen.null(weights), 1e-9))
        whole = float(log_odds(torch.tensor(null)))
        numbers = seen.likeliest(weights, read_again(len(seen.item.passages)))
        said = [s for n in numbers if (s := self._sentence(seen.item, n)) is not None]
        if not said:
            return Twice(whole, whole, whole, seen.nats)
        single = len(seen.item.passages) == 1
        after_one = [self._sentence(seen.item, numbers[0], before=1)] if single else []
        bare = replace(seen.item, target="", gold=())
        batch = self.encoder.batch([replace(bare, passages=(s,)) for s in (*said, *after_one)])
        none = self.model.encode(batch.source).selection[:, NULL]
        alone = float(log_odds(none[: len(said)].sum()))
        before = float(log_odds(none[-1])) if single else whole
        says_contrary = single and contrary(seen.item.question, said[0].text)
        return Twice(whole, alone, before, seen.nats + says_contrary * self.contrary)

    def _sentence(self, item: Item, number: int, before: int = 0) -> Text | None:
        """The sentence of this number, from 1 through all passages, as a passage; with so many of
        its own passage before it."""
        rows, bodies = self.encoder.rows(item)
        if (place := locate(rows, number)) is None:
            return None
        text, spans = item.passages[place[0]], bodies[place[0]].spans
        start = spans[max(0, place[1] - before)].start
        return replace(text, text=text.text[start : spans[place[1]].end])

    @torch.inference_mode()
    def retrieved(self, item: Item, without_gold: bool = False) -> Seen | None:
        """The item over MiniLM's best five paragraphs; None where all good ones hold the answer."""
        cosine = self.vectors @ self.minilm.encode_queries([item.question])[0]
        ranked = [int(n) for n in np.argsort(-cosine)[:40]]
        if without_gold:
            ranked = [n for n in ranked if not _holds(self.texts[n].text, item)]
        ranked = ranked[:5]
        if not ranked:
            return None
        gold = ()
        if item.passages[0] in [self.texts[n] for n in ranked] and not without_gold:
            at = [self.texts[n] for n in ranked].index(item.passages[0])
            gold = tuple((at, span) for _, span in item.gold)
        laid = replace(item, passages=tuple(self.texts[n] for n in ranked), gold=gold)
        return self._seen(laid, [float(cosine[n]) for n in ranked])

    def _seen(self, item: Item, cosines: list[float]) -> Seen:
        # the sentence, not only its short answer, counts as right
        wide = replace(item, short=(), gold=tuple((n, Span(s.start, s.end)) for n, s in item.gold))
        batch = self.encoder.batch([wide])
        encoded = self.model.encode(batch.source)
        rows, bodies = self.encoder.rows(wide)
        passage = np.concatenate([[c] * len(p.ids) for c, p in zip(cosines, rows, strict=True)])
        said = [
            text.text[span.start : span.end]
            for text, body, p in zip(wide.passages, bodies, rows, strict=True)
            for span in body.spans[: p.count]
        ]
        own = self.minilm.encode_queries(said) @ self.minilm.encode_queries([item.question])[0]
        sentence = batch.source.sentence[0].numpy()
        spots = batch.spots[0].numpy() if item.gold else np.zeros(len(passage), dtype=bool)
        return Seen(
            item,
            encoded.spot[0].float().numpy(),
            sentence,
            passage,
            own[np.maximum(sentence - 1, 0)],
            spots,
            self.strange_name if _strange(item) else 0.0,
        )


def _holds(text: str, item: Item) -> bool:
    return any(s.lower() in text.lower() for s in item.short)
