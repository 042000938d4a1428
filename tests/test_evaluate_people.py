"""Blind pairs, rooms, agreement; questions suggested and checked."""

import math
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st
from samples import handbook, mini, small_corpus
from scipy import stats

from ragdemo.errors import LimitReached, RagdemoError
from ragdemo.evaluation import humane
from ragdemo.evaluation.humane import CHOICES, LABELS, Item, Side, Vote
from ragdemo.evaluation.questions import Question, read_questions, write_questions
from ragdemo.evaluation.rooms import HOURS, RATERS, ROOMS, TRIES, Rooms
from ragdemo.evaluation.run import Result
from ragdemo.evaluation.suggest import suggest
from ragdemo.types import Chunk, Hit

ARMS = ("with", "without")
ASKED = [Question(str(n), f"Question {n}?", f"Answer {n}.") for n in range(12)]


def result(id: str, arm: str, value: float = 0.5) -> Result:
    chunk = Chunk("c", "d", "leave.md", "A passage.", 0, 10, (1,))
    hits = (Hit(chunk, 1.0, 1, "dense"),) if arm == "with" else ()
    return Result(id, arm, f"{arm} {id}", "stop", False, None, hits, len(hits), 1.0,
                  {"rougeL": value})  # fmt: skip


RESULTS = [result(q.id, arm, int(q.id) / 12) for q in ASKED for arm in ARMS]
SHOWN = humane.items(ASKED, RESULTS, ARMS, count=12, seed=1)


def vote(item: Item, arm: str, rater: str = "rater 1", good: int = 5, poor: int = 2) -> Vote:
    """Prefers this arm and rates it higher."""
    at = item.arms.index(arm)
    sides = [Side("right", (good,) * 3), Side("both", (poor,) * 3)]
    return Vote(item.id, rater, ("left", "right")[at], tuple(sides if at == 0 else sides[::-1]))


# -- pairs


def test_sides_and_order_are_drawn_and_the_same_for_a_seed():
    assert humane.items(ASKED, RESULTS, ARMS, count=12, seed=1) == SHOWN
    assert [i.id for i in SHOWN] != [q.id for q in ASKED]
    assert {i.arms for i in SHOWN} == {ARMS, ARMS[::-1]}
    for item in SHOWN:
        assert item.answers == tuple(f"{arm} {item.id}" for arm in item.arms)
        assert item.passages == (("leave.md", "A passage."),)  # whichever side read them
    assert len(humane.items(ASKED, RESULTS[:-1], ARMS, count=99, seed=1)) == 11


def test_a_vote_holds_only_what_can_be_said():
    with pytest.raises(ValueError, match="unknown label"):
        Side("good", (1, 1, 1))
    with pytest.raises(ValueError, match="scale"):
        Side("right", (0, 1, 1))
    with pytest.raises(ValueError, match="choice"):
        Vote("1", "rater 1", "both", (Side("right", (1, 1, 1)),) * 2)


# -- what votes come to


def test_preferences_count_arms_not_sides():
    votes = [vote(item, "with") for item in SHOWN[:9]] + [vote(SHOWN[9], "without")]
    tie = Vote(SHOWN[10].id, "rater 1", "same", (Side("right", (4, 4, 4)),) * 2)
    found = humane.preference(SHOWN, [*votes, tie], ARMS)
    assert (found.wins, found.ties, found.share) == ((9, 1), 1, 0.9)
    assert found.p == pytest.approx(stats.binomtest(9, 10).pvalue)
    assert found.low < 0.9 < found.high
    assert humane.labels(SHOWN, votes)["with", "right"] == 9
    assert math.isnan(humane.preference(SHOWN, [], ARMS).share)


def test_agreement_is_of_arms_not_sides():
    agree = [vote(item, arm, r) for item, arm in zip(SHOWN, ARMS * 6, strict=True)
             for r in ("rater 1", "rater 2")]  # fmt: skip
    assert set(humane.agreements(SHOWN, agree).values()) == {1.0}
    quarrel = [vote(i, arm, f"rater {n}") for i in SHOWN for n, arm in enumerate(ARMS)]
    found = humane.agreements(SHOWN, quarrel)
    assert found["preference"] < 0
    assert all(value < 0 for value in found.values())
    assert all(math.isnan(v) for v in humane.agreements(SHOWN, agree[:1]).values())


def test_ratings_beside_a_metric():
    votes = [vote(i, "with", good=1 + int(i.id) // 3, poor=1 + int(i.id) // 3) for i in SHOWN]
    found = humane.points(SHOWN, votes, RESULTS, "accuracy", "rougeL")
    assert len(found) == 24
    assert {p.rated for p in found if p.item == "11"} == {4.0}
    by_hand = stats.spearmanr([p.rated for p in found], [p.metric for p in found]).statistic
    assert humane.correlation(found) == pytest.approx(by_hand)
    assert by_hand > 0.9
    assert math.isnan(humane.correlation(found[:2]))
    assert humane.points(SHOWN, votes, RESULTS, "accuracy", "bleu") == []


def test_every_vote_is_two_rows():
    table = humane.rows(SHOWN, [vote(SHOWN[0], "with")])
    assert [row[2] for row in table[1:]] == list(SHOWN[0].arms)
    preferred = {row[2]: row[5] for row in table[1:]}
    assert preferred == {"with": "yes", "without": "no"}
    assert {row[6] for row in table[1:]} == {LABELS["right"], LABELS["both"]}


# -- rooms


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_many_raters_meet_by_a_code():
    rooms = Rooms()
    code, key = rooms.open(SHOWN)
    names = [rooms.join(f" {code[:3]}-{code[3:]} ".lower())[1] for _ in range(3)]
    assert names == ["rater 1", "rater 2", "rater 3"]
    for name in names:
        rooms.vote(code, vote(SHOWN[0], "with", name))
    rooms.vote(code, vote(SHOWN[0], "without", "rater 3"))
    seen = rooms.seen(code)
    assert (seen.items, seen.raters, len(seen.votes)) == (tuple(SHOWN), 3, 3)
    assert humane.preference(SHOWN, seen.votes, ARMS).wins == (2, 1)
    rooms.close(code, "another key")
    assert rooms.seen(code)
    rooms.close(code, key)
    with pytest.raises(RagdemoError, match="no room"):
        rooms.seen(code)


def test_a_room_takes_votes_only_of_its_raters_on_its_items():
    rooms = Rooms()
    code, _ = rooms.open(SHOWN[:2])
    rooms.join(code)
    for stray in (vote(SHOWN[0], "with", "rater 2"), vote(SHOWN[5], "with", "rater 1")):
        with pytest.raises(RagdemoError):
            rooms.vote(code, stray)
    assert rooms.seen(code).votes == ()


def test_rooms_end_are_few_and_not_guessed():
    clock = Clock()
    rooms = Rooms(clock)
    code, _ = rooms.open(SHOWN)
    for _ in range(RATERS):
        rooms.join(code)
    with pytest.raises(LimitReached, match="full"):
        rooms.join(code)
    for _ in range(ROOMS - 1):
        rooms.open(SHOWN)
    with pytest.raises(LimitReached, match="in use"):
        rooms.open(SHOWN)
    for _ in range(TRIES):
        with pytest.raises(RagdemoError, match="no room"):
            rooms.join("no")
    with pytest.raises(LimitReached, match="Wait a minute"):
        rooms.join(code)
    clock.now = 3600 * HOURS
    with pytest.raises(RagdemoError, match="no room"):
        rooms.seen(code)
    assert rooms.open(SHOWN)
    with pytest.raises(RagdemoError, match="nothing to rate"):
        rooms.open([])


def test_votes_from_many_threads_are_all_kept():
    rooms = Rooms()
    code, _ = rooms.open(SHOWN)

    def rate():
        name = rooms.join(code)[1]
        for item in SHOWN:
            rooms.vote(code, vote(item, "with", name))

    threads = [threading.Thread(target=rate) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(rooms.seen(code).votes) == 16 * len(SHOWN)


# -- question sets


def test_suggested_questions_are_answered_by_their_own_passage():
    corpus = handbook()
    news = list(suggest(corpus, mini(), 6))
    last = news[-1]
    assert len(last.kept) == 6
    assert len({q.file for q in last.kept}) > 3  # document after document
    assert [n.tried for n in news] == sorted({n.tried for n in news})
    for q in last.kept:
        document = next(d for d in corpus.documents.values() if d.name == q.file)
        assert q.question.endswith("?")
        assert q.answer
        assert set(q.pages) <= {p.number for p in document.pages}
    assert last.tried >= len(last.kept) + len(last.dropped)


def test_suggesting_stops_and_may_find_fewer():
    event = threading.Event()
    event.set()
    assert list(suggest(small_corpus(), mini(), 5, cancelled=event)) == []
    *_, last = suggest(small_corpus(), mini(), 50)
    assert last.tried == last.of
    assert len(last.kept) < 50


TEXT = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cf", "Cs", "Co", "Cn"]),
               min_size=1, max_size=20).map(str.strip).filter(bool)  # fmt: skip


@given(TEXT, TEXT, st.lists(TEXT, max_size=2, unique=True), st.booleans())
def test_questions_are_read_back(question, answer, short, answerable):
    asked = Question("1", question, answer, tuple(short), "a.md", (1, 2), answerable, "plain",
                     (("b.md", (3,)),))  # fmt: skip
    assert read_questions(write_questions([asked]).encode(), "q.jsonl") == [asked]


def test_choices_are_what_the_table_says():
    assert CHOICES == ("left", "same", "right")
