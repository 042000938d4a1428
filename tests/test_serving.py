"""The workers that own the models: right results for everyone, fairness, cancelling, failure."""

import threading
import time

import numpy as np
import pytest
from samples import encoder, mini, small_corpus

from ragdemo.embedding import HashingEncoder
from ragdemo.errors import Busy, ModelUnavailable
from ragdemo.generation.base import Step
from ragdemo.serving import SharedEncoder, SharedGenerator, _Worker
from ragdemo.types import Answer, Decoding, Prompt


def prompt(question: str) -> Prompt:
    return Prompt(question, (), (), {}, (), 100)


class Spelling:
    """A real, tiny generator: writes the question letter by letter. Fails on "boom"."""

    name, limit = "spelling", 100

    def __init__(self, pause: float = 0.0) -> None:
        self.pause = pause
        self.batches: list[int] = []

    def prompt(self, question, hits, *, decoding, template=None, history=()):
        return prompt(question)

    def stream(self, prompts, decodings, cancelled):
        self.batches.append(len(prompts))
        if any(p.question == "boom" for p in prompts):
            raise RuntimeError("boom")
        living = set(range(len(prompts)))
        for length in range(1, 200):
            for row in sorted(living):
                text = prompts[row].question[:length]
                done = text == prompts[row].question or cancelled[row].is_set()
                finish = "cancelled" if cancelled[row].is_set() else "stop"
                answer = Answer(text, prompts[row], self.name, finish=finish) if done else None
                living -= {row} if done else set()
                yield Step(row, text, answer)
            if not living:
                return
            time.sleep(self.pause)


def say(shared: SharedGenerator, question: str, event=None) -> Answer:
    steps = shared.stream([prompt(question)], [Decoding()], [event or threading.Event()])
    return next(s.answer for s in steps if s.answer)


def together(count: int, work) -> list:
    results: list = [None] * count

    def run(i):
        results[i] = work(i)

    threads = [threading.Thread(target=run, args=(i,)) for i in range(count)]
    for t in threads:
        t.start()
    for t in threads:
        t.join(60)
    return results


def test_everyone_gets_their_own_answer_and_batches_are_shared():
    inner = Spelling(pause=0.01)
    shared = SharedGenerator(inner)
    answers = together(20, lambda i: say(shared, f"question {i}").text)
    assert answers == [f"question {i}" for i in range(20)]
    assert max(inner.batches) > 1
    assert max(inner.batches) <= 8


def test_cancelling_one_leaves_the_others():
    shared = SharedGenerator(Spelling(pause=0.01))
    event = threading.Event()
    threading.Timer(0.1, event.set).start()
    long = "a" * 150
    first, second = together(2, lambda i: say(shared, long, event if i == 0 else None))
    assert first.finish == "cancelled"
    assert len(first.text) < len(long)
    assert (second.finish, second.text) == ("stop", long)


def test_leaving_the_stream_frees_the_worker():
    shared = SharedGenerator(Spelling(pause=0.02))
    steps = shared.stream([prompt("b" * 190)], [Decoding()], [threading.Event()])
    next(s for s in steps if s.text)
    steps.close()
    # were the row still being written, this one would come after 190 pauses
    begun = time.monotonic()
    assert say(shared, "c").text == "c"
    assert time.monotonic() - begun < 190 * 0.02


def test_a_failure_reaches_its_visitor_and_the_next_is_served():
    shared = SharedGenerator(Spelling())
    with pytest.raises(ModelUnavailable, match="boom"):
        say(shared, "boom")
    assert say(shared, "fine").text == "fine"


def test_a_full_line_says_when_to_come_back():
    gate = threading.Event()
    worker = _Worker("test", lambda jobs: gate.wait(10), most=1)
    worker._line.maxsize = 3

    def crowd():
        for _ in range(6):
            worker.submit((["x"],))

    with pytest.raises(Busy) as refused:
        crowd()
    gate.set()
    assert refused.value.retry_after >= 1
    assert "Try again" in str(refused.value)


def test_shared_encoder_gives_what_the_encoder_gives():
    inner = HashingEncoder()
    shared = SharedEncoder(inner)
    texts = [f"text number {i}" for i in range(40)]
    alone = inner.encode_queries(texts)
    rows = together(40, lambda i: shared.encode_queries([texts[i]])[0])
    assert np.allclose(np.stack(rows), alone)
    seen = []
    assert np.allclose(shared.encode_passages(texts, lambda *x: seen.append(x)), alone)
    assert seen[-1] == (40, 40)
    assert shared.count_tokens(texts) == inner.count_tokens(texts)
    assert shared.encode_passages([]).shape == (0, inner.dimension)


def test_questions_go_before_the_slices_of_an_upload():
    order = []

    class Slow(HashingEncoder):
        def encode_queries(self, texts):
            order.append(texts[0][:8])
            time.sleep(0.01)
            return super().encode_queries(texts)

    shared = SharedEncoder(Slow())
    upload = threading.Thread(
        target=shared.encode_passages, args=([f"passage {i}" for i in range(400)],)
    )
    upload.start()
    time.sleep(0.05)
    shared.encode_queries(["question"])
    upload.join()
    assert order.index("question") < len(order) - 2


def test_what_only_some_models_offer_waits_in_line_too():
    chunks = small_corpus().chunks * 4
    shared = SharedGenerator(mini())
    asked = shared.ask(chunks[:3])
    assert asked == mini().ask(chunks[:3])
    scores = together(3, lambda i: shared.question_log_likelihood("Who approves it?", chunks))
    alone = mini().question_log_likelihood("Who approves it?", chunks)
    assert all(s == pytest.approx(alone, abs=0.05) for s in scores)
    assert not hasattr(SharedGenerator(Spelling()), "ask")


def test_word_vectors_come_through_the_encoders_worker():
    inner = encoder()
    shared = SharedEncoder(inner)
    assert shared.similarity == "cosine"
    ours, theirs = shared.token_vectors(["Roaming abroad"]), inner.token_vectors(["Roaming abroad"])
    assert ours[0].spans == theirs[0].spans
    assert np.allclose(ours[0].vectors, theirs[0].vectors, atol=0.02)
    assert not hasattr(SharedEncoder(HashingEncoder(64)), "token_vectors")
