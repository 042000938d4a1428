"""The workers that own the models: right results for everyone, fairness, cancelling, failure."""

import ctypes
import gc
import json
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as some
from samples import encoder, mini, small_corpus

from ragdemo import pipeline
from ragdemo.embedding import HashingEncoder
from ragdemo.errors import Busy, Cancelled, ModelUnavailable
from ragdemo.generation.base import Step
from ragdemo.generation.mini import MiniGenerator
from ragdemo.generation.openai import OpenAIGenerator
from ragdemo.generation.openai import Patience as Retries
from ragdemo.serving import (
    Ahead,
    Line,
    Patience,
    SharedEncoder,
    SharedGenerator,
    Ticket,
    ahead,
    memory,
)
from ragdemo.serving.encoder import SLICE
from ragdemo.serving.job import Job
from ragdemo.serving.line import BEAT
from ragdemo.serving.pace import Pace
from ragdemo.serving.quiet import writing
from ragdemo.types import Answer, Chunk, Decoding, Prompt


def prompt(question: str) -> Prompt:
    return Prompt(question, (), (), {}, (), 100)


class Spelling:
    """A real, tiny generator: writes the question letter by letter. Raises what the question
    names, and stands still while `still` is set."""

    name, limit = "spelling", 100
    RAISES = {"boom": RuntimeError, "much": MemoryError, "exit": SystemExit}  # noqa: RUF012

    def __init__(self, pause: float = 0.0) -> None:
        self.pause = pause
        self.batches: list[int] = []
        self.still = threading.Event()

    def prompt(self, question, hits, *, decoding, template=None, history=()):
        return prompt(question)

    def stream(self, prompts, decodings, cancelled):
        self.batches.append(len(prompts))
        living = set(range(len(prompts)))
        for length in range(1, 200):
            while self.still.is_set():
                time.sleep(0.01)
            for row in sorted(living):
                question = prompts[row].question
                text = question[:length]
                if raised := self.RAISES.get(text):
                    raise raised(text)
                done = text == question or cancelled[row].is_set()
                finish = "cancelled" if cancelled[row].is_set() else "stop"
                answer = Answer(text, prompts[row], self.name, finish=finish) if done else None
                living -= {row} if done else set()
                yield Step(row, text, answer)
            if not living:
                return
            time.sleep(self.pause)


class Slow(HashingEncoder):
    """Takes `each` seconds a text, and writes down the batches."""

    def __init__(self, each: float = 0.01) -> None:
        super().__init__()
        self.each = each
        self.order: list[tuple[str, int]] = []  # first words, texts

    def encode_queries(self, texts):
        self.order.append((texts[0][:8], len(texts)))
        time.sleep(self.each * len(texts))
        return super().encode_queries(texts)


def say(shared: SharedGenerator, question: str, event=None) -> Answer:
    steps = shared.stream([prompt(question)], [Decoding()], [event or threading.Event()])
    return next(s.answer for s in steps if s.answer)


def together(count: int, work) -> list:
    """What `work(i)` gives or raises, each in a thread of its own."""
    results: list = [None] * count

    def run(i):
        try:
            results[i] = work(i)
        except Exception as problem:
            results[i] = problem

    threads = [threading.Thread(target=run, args=(i,)) for i in range(count)]
    for t in threads:
        t.start()
    for t in threads:
        t.join(60)
        assert not t.is_alive()
    return results


def until(condition, seconds: float = 5.0) -> None:
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit, "it did not come to pass"
        time.sleep(0.005)


@contextmanager
def held(line: Line, gate: threading.Event) -> Iterator[None]:
    """The line's only thread is busy inside, so that what is put in line stays there."""
    job = line.put(Job("gate"))
    until(lambda: job.began)
    yield
    gate.set()


# -- the line


JOBS = some.lists(
    some.tuples(
        some.integers(1, 5),  # rows
        some.sampled_from(["write", "write", ""]),  # kind
        some.booleans(),  # background
        some.sampled_from(["", "", "", "", "boom", "exit", "leaves"]),
    ),
    max_size=12,
)


@settings(max_examples=60, deadline=None)
@given(JOBS)
@example([(1, "write", False, fate) for fate in ("", "boom", "exit")])
def test_every_job_ends_once_in_its_turn(given_jobs) -> None:
    gate = threading.Event()
    batches: list[list[Job]] = []

    def handle(jobs):
        if jobs[0].work == "gate":
            gate.wait(5)
            return
        batches.append(list(jobs))
        for fate, raised in (("boom", ValueError), ("exit", SystemExit)):
            if any(job.work[1] == fate for job in jobs):
                raise raised(fate)
        for job in jobs:
            job.tell(f"result {job.work[0]}")

    line = Line("test", handle, most=6)
    jobs: list[Job] = []
    with held(line, gate):
        for number, (rows, kind, background, fate) in enumerate(given_jobs):
            jobs.append(line.put(Job((number, fate), rows, kind, background)))
            place = line.place(jobs[-1])
            own = [j for j in given_jobs[:number] if background or not j[2]]
            assert place.before == len(own)
        for job in jobs:
            if job.work[1] == "leaves":
                line.leave(job)
    until(lambda: all(job.ended for job in jobs))

    stayed = [job for job in jobs if job.work[1] != "leaves"]
    turns = sorted(stayed, key=lambda job: job.background)  # stable: first come, first served
    first_tries = list(dict.fromkeys(job for batch in batches for job in batch))
    assert first_tries == turns
    for batch in batches:
        assert len(batch) == 1 or sum(job.rows for job in batch) <= 6
        assert len(batch) == 1 or {job.kind for job in batch} == {"write"}
        assert len({job.background for job in batch}) == 1
    deadly = {job for batch in batches for job in batch if any(j.work[1] == "exit" for j in batch)}
    # "boom" comes first, and each job of that batch is tried alone until one of them exits
    retried = {job for batch in batches for job in batch if any(j.work[1] == "boom" for j in batch)}
    for job in jobs:
        outcome = _outcome(line, job)
        if job.work[1] == "leaves":
            assert outcome == []
        elif job.work[1]:
            assert isinstance(outcome, ModelUnavailable)
            assert job.work[1] in str(outcome) or job in deadly
        elif job not in deadly:  # a neighbour's failure is not its own
            assert outcome == [f"result {job.work[0]}"]
        elif outcome == [f"result {job.work[0]}"]:
            assert job in retried
        else:
            assert isinstance(outcome, ModelUnavailable)
        assert job.news.empty()


def _outcome(line: Line, job: Job) -> list | Exception:
    try:
        return [news for news in line.follow(job) if news is not None]
    except Exception as problem:
        return problem


def test_a_full_line_says_when_to_come_back():
    gate = threading.Event()
    line = Line("test", lambda jobs: gate.wait(10), most=1, patience=Patience(waiting=3))
    with held(line, gate):
        for _ in range(3):
            line.put(Job("question"))
        line.put(Job("a slice of an upload", background=True))  # never refused
        with pytest.raises(Busy, match="Try again in") as refused:
            line.put(Job("one too many"))
    assert refused.value.retry_after >= 1


def test_nobody_waits_in_line_for_ever():
    gate = threading.Event()
    line = Line("test", lambda jobs: gate.wait(10), most=1, patience=Patience(line=0.3))
    with held(line, gate), pytest.raises(Busy, match="had no turn"):
        line.result(Job("question"))
    assert line.waiting() == 0


def test_several_lanes_work_side_by_side():
    barrier = threading.Barrier(3)

    def handle(jobs):
        barrier.wait(5)  # broken unless three are at work
        jobs[0].tell(jobs[0].work)

    line = Line("test", handle, most=8, lanes=3)
    assert together(6, lambda i: line.result(Job(i + 1))) == [1, 2, 3, 4, 5, 6]


def test_place_and_expected_wait_are_about_right():
    shared = SharedGenerator(Spelling(pause=0.02))
    together(2, lambda i: say(shared, "warming up"))  # so that its pace is known
    told: list[tuple[float, float]] = []  # seconds expected, seconds waited

    def visit(i):
        time.sleep(0.002 * i)
        ticket = Ticket()
        begun = time.monotonic()
        with ticket:
            steps = shared.stream([prompt("abcdefghij")] * 2, [Decoding()] * 2, [event] * 2)
            places = []
            for step in steps:
                places += [ticket.place()]
                if step.text:
                    told.append((places[0].seconds if places[0] else 0, time.monotonic() - begun))
                    steps.close()
                    break
        befores = [p.before for p in places if p]
        assert befores == sorted(befores, reverse=True)
        assert ticket.place() is None

    event = threading.Event()
    together(24, visit)
    long = [(expected, waited) for expected, waited in told if waited > 3 * BEAT]
    assert all(expected < 3 * waited + BEAT for expected, waited in told)
    assert all(expected > waited / 4 - BEAT for expected, waited in long)


@given(some.floats(0, 3), some.floats(0.01, 1), some.lists(some.integers(1, 8), min_size=2))
def test_pace_finds_the_line_through_batches(start, each, sizes):
    pace = Pace()
    for rows in sizes:
        pace.learn(rows, start + each * rows)
    for rows in sizes:  # exact where it was measured
        assert pace.batch(rows) == pytest.approx(start + each * rows, rel=1e-3, abs=1e-3)
    if len(set(sizes)) > 1:
        assert pace.batch(8) == pytest.approx(start + each * 8, rel=1e-2, abs=1e-2)


# -- who is who


def test_everyone_gets_their_own_answer_and_batches_are_shared():
    inner = Spelling(pause=0.01)
    shared = SharedGenerator(inner)
    answers = together(20, lambda i: say(shared, f"question {i}").text)
    assert answers == [f"question {i}" for i in range(20)]
    assert max(inner.batches) > 1
    assert max(inner.batches) <= 8


ARRIVALS = some.lists(
    some.tuples(
        some.sampled_from(["", "", "", "", "boom", "much", "exit"]),
        some.sampled_from([0, 0, 5, 20]),  # ms until it comes
        some.sampled_from([None, None, 0, 3, 30]),  # ms until it is cancelled
    ),
    min_size=1,
    max_size=14,
)


@settings(max_examples=25, deadline=None)
@given(ARRIVALS)
def test_random_visitors_each_end_once_with_their_own_text(arrivals) -> None:
    shared = SharedGenerator(Spelling(pause=0.001))

    def visit(i):
        word, arrives, leaves = arrivals[i]
        time.sleep(arrives / 1000)
        questions = [f"{word or i} left {i}", f"right {i}"]
        events = [threading.Event()] * 2
        if leaves is not None:
            threading.Timer(leaves / 1000, events[0].set).start()
        texts, answers = ["", ""], [[], []]
        for step in shared.stream([prompt(q) for q in questions], [Decoding()] * 2, events):
            assert step.text.startswith(texts[step.row])
            assert questions[step.row].startswith(step.text)
            texts[step.row] = step.text
            if step.answer:
                answers[step.row].append(step.answer)
        assert [len(a) for a in answers] == [1, 1]
        for (answer,), question in zip(answers, questions, strict=True):
            assert answer.finish in ("stop", "cancelled")
            assert answer.finish == "cancelled" or answer.text == question
        return [a.finish for (a,) in answers]

    outcomes = together(len(arrivals), visit)
    exits = any(word == "exit" for word, _, _ in arrivals)
    for (word, _, leaves), outcome in zip(arrivals, outcomes, strict=True):
        if isinstance(outcome, ModelUnavailable):
            assert word or exits
        else:
            assert isinstance(outcome, list), outcome
            assert not word or leaves is not None
            assert leaves is not None or outcome == ["stop", "stop"]
    assert say(shared, "and on it goes").text == "and on it goes"
    assert shared.waiting() == 0


def test_a_new_question_takes_the_place_of_the_old_one():
    shared = SharedGenerator(Spelling(pause=0.02))
    first = Ticket()

    def old(_):
        with first:
            return say(shared, "o" * 190)

    begun = time.monotonic()
    results: list = []
    thread = threading.Thread(target=lambda: results.extend(together(1, old)))
    thread.start()
    time.sleep(0.1)
    with Ticket(instead=first):
        assert say(shared, "new").text == "new"
    thread.join(5)
    assert results[0].finish == "cancelled"
    assert 0 < len(results[0].text) < 190
    assert time.monotonic() - begun < 1.5


def test_the_lines_know_whose_thread_it_is():
    shared = SharedEncoder(Slow(0.3))
    upload = threading.Thread(target=lambda: together(1, lambda _: shared.encode_queries(["u"])))
    upload.start()
    ticket = Ticket()

    def ask(_):
        with ticket:
            return shared.encode_passages(["mine"] * 50)

    threading.Timer(0.2, ticket.cancelled.set).start()
    begun = time.monotonic()
    (outcome,) = together(1, ask)
    assert isinstance(outcome, Cancelled)
    assert time.monotonic() - begun < 1
    with ticket, pytest.raises(Cancelled):
        shared.encode_queries(["mine"])
    assert shared.encode_queries(["another"]).shape == (1, shared.dimension)  # outside of it
    upload.join()


# -- leaving


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
    assert time.monotonic() - begun < 1


@pytest.mark.parametrize("begun", [False, True])
def test_stop_is_answered_within_a_second_whatever_the_model_does(begun):
    inner = Spelling(pause=0.01)
    shared = SharedGenerator(inner)
    first = threading.Thread(target=say, args=(shared, "x" * 20))
    if not begun:
        first.start()
        until(lambda: inner.batches)
    event = threading.Event()
    threading.Timer(0.15, inner.still.set).start()  # in the middle of a long step
    threading.Timer(0.2, event.set).start()
    started = time.monotonic()
    answer = say(shared, "y" * 190, event)
    assert time.monotonic() - started < 1.2
    assert answer.finish == "cancelled"
    assert bool(answer.text) == begun
    assert shared.waiting() == 0
    inner.still.clear()
    if not begun:
        first.join(5)
    assert say(shared, "next").text == "next"


def test_what_is_over_is_forgotten():
    class Kept(Prompt):
        """With room for a weak reference."""

    inner = Spelling()
    shared = SharedGenerator(inner, patience=Patience(idle=0.1))
    given_prompt = Kept("secret", (), (), {}, (), 100)
    seen = weakref.ref(given_prompt)
    for step in shared.stream([given_prompt], [Decoding()], [threading.Event()]):
        last = step
    assert last.answer.text == "secret"
    del given_prompt, step, last
    until(lambda: gc.collect() is None or seen() is None)
    model = weakref.ref(inner)
    del inner, shared  # its thread ends when nobody asks, and holds the model no longer
    until(lambda: gc.collect() is None or model() is None)


# -- failing


def test_a_failure_reaches_its_visitor_and_the_next_is_served():
    shared = SharedGenerator(Spelling())
    with pytest.raises(ModelUnavailable, match="boom"):
        say(shared, "boom")
    assert say(shared, "fine").text == "fine"
    with pytest.raises(ModelUnavailable, match="not enough memory"):
        say(shared, "much too much")
    assert say(shared, "fine").text == "fine"


@pytest.mark.parametrize("where", ["in the model", "while idle"])
def test_a_thread_that_dies_is_replaced(where):
    inner = Spelling(pause=0.01)
    shared = SharedGenerator(inner)
    say(shared, "up")
    (thread,) = shared._line._under_way
    results: list = []
    if where == "in the model":
        asking = threading.Thread(
            target=lambda: results.extend(together(2, lambda i: say(shared, "z" * 150)))
        )
        asking.start()
        until(lambda: len(inner.batches) > 1)
    ctypes.pythonapi.PyThreadState_SetAsyncExc(
        ctypes.c_ulong(thread.ident), ctypes.py_object(SystemExit)
    )
    if where == "in the model":
        asking.join(5)
        assert any(isinstance(r, ModelUnavailable) for r in results)
    assert say(shared, "on").text == "on"
    thread.join(5)
    assert not thread.is_alive()


def test_a_model_that_hangs_is_noticed_and_may_come_back():
    inner = Spelling(pause=0.01)
    shared = SharedGenerator(inner, patience=Patience(silence=0.4))
    inner.still.set()

    def visit(i):
        time.sleep(0.05 * i)
        return say(shared, f"question {i}")

    begun = time.monotonic()
    outcomes = together(3, visit)
    assert time.monotonic() - begun < 2
    for outcome in outcomes:
        assert isinstance(outcome, ModelUnavailable)
        assert "stuck" in str(outcome)
    with pytest.raises(ModelUnavailable, match="stuck"):
        say(shared, "newcomers are told at once")
    inner.still.clear()
    until(lambda: not any(shared._line._under_way.values()))
    assert say(shared, "back").text == "back"


def test_an_answer_that_takes_too_long_is_cut_and_says_so():
    shared = SharedGenerator(Spelling(pause=0.01), patience=Patience(answer=0.3))
    answer = say(shared, "w" * 190)
    assert answer.finish == "length"
    assert 0 < len(answer.text) < 190


# -- the encoder


def test_shared_encoder_gives_what_the_encoder_gives():
    inner = HashingEncoder()
    shared = SharedEncoder(inner)
    texts = [f"text number {i}" for i in range(150)]
    alone = inner.encode_queries(texts)
    rows = together(40, lambda i: shared.encode_queries([texts[i]])[0])
    assert np.allclose(np.stack(rows), alone[:40])
    assert np.allclose(shared.encode_queries(texts), alone)
    seen = []
    assert np.allclose(shared.encode_passages(texts, lambda *x: seen.append(x)), alone)
    assert seen[-1] == (150, 150)
    assert shared.count_tokens(texts) == inner.count_tokens(texts)
    assert shared.encode_passages([]).shape == (0, inner.dimension)
    assert shared.encode_queries([]).shape == (0, inner.dimension)


def test_an_upload_comes_in_slices_that_fit_the_machine():
    inner = Slow(0.02)
    shared = SharedEncoder(inner)
    progress = []
    shared.encode_passages([f"passage {i}" for i in range(80)], lambda *x: progress.append(x))
    sizes = [size for _, size in inner.order]
    assert sum(sizes) == 80
    assert max(sizes) <= 1.5 * SLICE / 0.02
    assert sorted(sizes[1:-1])[len(sizes) // 2] >= 0.5 * SLICE / 0.02
    assert len(progress) == len(sizes)


def test_a_question_waits_for_one_slice_however_often_it_encodes():
    """As ragdemo-mini does: the question and its passages' sentences, row after row."""
    inner = Slow(0.02)
    shared = SharedEncoder(inner)
    stop = Ticket()

    def upload(i):
        with stop:
            shared.encode_passages([f"passage {i}"] * 10_000)

    uploads = threading.Thread(target=together, args=(2, upload))
    uploads.start()
    until(lambda: len(inner.order) > 3)
    begun = time.monotonic()
    for number in range(8):
        shared.encode_queries([f"question {number}"])
    took = time.monotonic() - begun
    stop.cancelled.set()
    uploads.join(5)
    assert took < 8 * 0.02 + 2 * SLICE


def test_an_upload_steps_aside_while_answers_are_written_but_goes_on():
    shared = SharedEncoder(Slow(0.0))
    generator = SharedGenerator(Spelling(pause=0.01))
    writing = threading.Thread(target=say, args=(generator, "v" * 190))
    begun = time.monotonic()
    shared.encode_passages(["passage"] * 64)
    freely = time.monotonic() - begun
    writing.start()
    until(lambda: any(generator._line._under_way.values()))
    begun = time.monotonic()
    shared.encode_passages(["passage"] * 64)
    beside = time.monotonic() - begun
    assert beside > freely + 0.5
    assert writing.is_alive() or beside < 5
    writing.join(10)


def test_a_stuck_encoder_is_told_from_inside_another_job():
    """The generator's thread waits in the encoder's line like everybody."""

    class Reading(Spelling):
        def stream(self, prompts, decodings, cancelled):
            encoding.encode_queries(["inside"])
            yield from super().stream(prompts, decodings, cancelled)

    inner = Slow(0.0)
    encoding = SharedEncoder(inner, patience=Patience(silence=0.3, waiting=0))
    shared = SharedGenerator(Reading())
    assert say(shared, "in").text == "in"  # what was accepted once is not refused half-way
    inner.each = 1.5
    with pytest.raises(ModelUnavailable, match="encoder has not answered"):
        say(shared, "stuck")
    inner.each = 0.0
    until(lambda: not any(encoding._line._under_way.values()))
    assert say(shared, "on").text == "on"


def test_word_vectors_come_through_the_encoders_worker():
    inner = encoder()
    shared = SharedEncoder(inner)
    assert shared.similarity == "cosine"
    ours, theirs = shared.token_vectors(["Roaming abroad"]), inner.token_vectors(["Roaming abroad"])
    assert ours[0].spans == theirs[0].spans
    assert np.allclose(ours[0].vectors, theirs[0].vectors, atol=0.02)
    assert not hasattr(SharedEncoder(HashingEncoder(64)), "token_vectors")


# -- the bundled model


def test_what_only_some_models_offer_waits_in_line_too():
    chunks = small_corpus().chunks * 4
    shared = SharedGenerator(mini())
    asked = shared.ask(chunks[:3])
    assert asked == mini().ask(chunks[:3])
    scores = together(3, lambda i: shared.question_log_likelihood("Who approves it?", chunks))
    alone = mini().question_log_likelihood("Who approves it?", chunks)
    assert all(s == pytest.approx(alone, abs=0.05) for s in scores)
    assert not hasattr(SharedGenerator(Spelling()), "ask")


def test_both_answers_of_several_questions_are_those_given_alone():
    corpus = small_corpus()
    questions = ["How many days of leave?", "Where is a lost phone reported?", "Who approves it?"]
    alone = [pipeline.compare(q, corpus, mini()) for q in questions]
    shared = SharedGenerator(mini())
    found = together(3, lambda i: pipeline.compare(questions[i], corpus, shared))
    for ours, theirs in zip(found, alone, strict=True):
        assert ours.grounded.text == theirs.grounded.text
        assert ours.baseline.text == theirs.baseline.text
        assert ours.grounded.finish == theirs.grounded.finish


# -- an endpoint


@contextmanager
def endpoint(refusals: int = 0, pause: float = 0.0):
    """Speaks OpenAI's protocol: repeats the question's last word by word; the first `refusals`
    requests meet a 503."""
    seen = {"requests": 0, "gone": 0}

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            seen["requests"] += 1
            if seen["requests"] <= refusals:
                self.send_response(503)
                self.end_headers()
                return
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.end_headers()
            try:
                for word in asked["messages"][-1]["content"].split():
                    time.sleep(pause)
                    self._send({"choices": [{"delta": {"content": f"{word} "}}]})
                self._send({"choices": [{"delta": {}, "finish_reason": "stop"}]})
            except OSError:
                seen["gone"] += 1

        def _send(self, event: dict) -> None:
            self.wfile.write(f"data: {json.dumps(event)}\n\n".encode())
            self.wfile.flush()

        def log_message(self, *_) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 64  # all come at once

    server = Server(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/v1", seen
    server.shutdown()
    server.server_close()


def remote(url: str, **options) -> SharedGenerator:
    inner = OpenAIGenerator(url, "echo", patience=Retries(connect=1, backoff=0.05))
    return SharedGenerator(inner, remote=True, **options)


def both(shared: SharedGenerator, question: str, event=None) -> list[Answer]:
    """Two rows, as a question has them."""
    prompts = [shared.prompt(question, [], decoding=Decoding())] * 2
    steps = shared.stream(prompts, [Decoding()] * 2, [event or threading.Event()] * 2)
    return [s.answer for s in steps if s.answer]


def test_an_endpoint_takes_the_same_path_side_by_side():
    with endpoint(refusals=2, pause=0.02) as (url, seen):
        shared = remote(url)
        begun = time.monotonic()
        both(shared, "Question number 0 " + "word " * 15)
        alone = time.monotonic() - begun
        begun = time.monotonic()
        answers = together(6, lambda i: both(shared, f"Question number {i} " + "word " * 15))
        took = time.monotonic() - begun
        assert all(f"number {i} " in a.text for i, pair in enumerate(answers) for a in pair)
        assert [len(pair) for pair in answers] == [2] * 6
        assert seen["requests"] == 16  # two were refused and tried again
        assert took < 3 * alone


def test_stop_reaches_the_endpoint():
    with endpoint(pause=0.05) as (url, seen):
        shared = remote(url)
        event = threading.Event()
        threading.Timer(0.3, event.set).start()
        begun = time.monotonic()
        answers = both(shared, "word " * 300, event)
        assert time.monotonic() - begun < 1.3
        assert {a.finish for a in answers} == {"cancelled"}
        until(lambda: seen["gone"] == 2, 3)


def test_an_endpoint_that_is_away_is_named():
    with endpoint() as (url, _):
        shared = remote(url)
    with pytest.raises(ModelUnavailable, match=r"127\.0\.0\.1"):
        both(shared, "Anyone there?")


def test_memory_is_given_back_once_for_all_who_leave_together(monkeypatch) -> None:
    given: list[int] = []
    done = threading.Event()
    monkeypatch.setattr(memory, "DELAY", 0.05)
    monkeypatch.setattr(memory, "_trim", lambda: lambda pad: (given.append(pad), done.set()))
    for _ in range(5):
        memory.give_back_soon()
    assert done.wait(10)
    assert given == [0]
    done.clear()
    memory.give_back_soon()  # and again for the next
    assert done.wait(10)
    assert given == [0, 0]


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's")
def test_freed_memory_leaves_the_process() -> None:
    """Blocks freed below one that stays are kept by glibc, and given back by the trim."""
    code = """
import gc, sys
from pathlib import Path
from ragdemo.serving import memory
def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 2**20
blocks = [bytearray(64_000) for _ in range(4_000)]
top = bytearray(64_000)
full = resident()
del blocks
memory._pending.acquire()
memory._give_back()
print(full - resident())
"""
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(said.stdout) > 200  # of 244 MB


# -- work ahead


def pieces(count: int) -> list[Chunk]:
    return [Chunk(str(n), "d", "d.txt", f"Number {n}.", 0, 9, (1,)) for n in range(count)]


@pytest.fixture
def soon(monkeypatch):
    monkeypatch.setattr(ahead, "QUIET", 0.1)


def test_work_ahead_is_done_in_order_while_nobody_writes(soon):
    done: list[str] = []
    worker = Ahead(lambda chunks: done.extend(c.id for c in chunks))
    held = pieces(5)
    with writing:
        worker.put(held[:3])
        time.sleep(0.3)
        assert done == []
    until(lambda: len(done) == 3)
    worker.put([*held[3:], *held[3:]])
    until(lambda: len(done) == 5)
    time.sleep(0.05)
    assert done == ["0", "1", "2", "3", "4"]


def test_nothing_is_done_ahead_for_somebody_who_left(soon):
    done: list[str] = []
    worker = Ahead(lambda chunks: done.extend(c.id for c in chunks))
    held = pieces(3)
    with writing:
        worker.put(held)
        del held[1]
        gc.collect()
    until(lambda: len(done) == 2)
    time.sleep(0.05)
    assert done == ["0", "2"]


def test_work_ahead_that_fails_leaves_the_rest(soon, monkeypatch):
    monkeypatch.setattr(ahead, "MOST", 4)
    done: list[str] = []

    def learn(chunks):
        if chunks[0].id == "4":
            raise MemoryError("too much")
        done.append(chunks[0].id)

    worker = Ahead(learn)
    held = pieces(6)
    with writing:
        worker.put(held)  # of more than MOST, the oldest go
    until(lambda: "5" in done)
    assert done == ["2", "3", "5"]


def test_passages_that_an_answer_needs_are_encoded_at_once(monkeypatch):
    """A model that answers counts as writing: it would wait for itself."""
    monkeypatch.setattr("ragdemo.serving.encoder.ASIDE", 1000.0)
    inner = HashingEncoder()
    shared = SharedEncoder(inner)
    texts = ["kept in mind", "seen on a page", "told"]

    def answer(jobs):
        with writing:
            jobs[0].tell(shared.encode_passages(texts))

    (found,) = together(1, lambda _: Line("answers", answer, most=1).result(Job("question")))
    assert np.array_equal(found, inner.encode_passages(texts))


def test_what_was_learnt_ahead_answers_the_same(soon):
    """And the first question about a passage encodes nothing but itself."""
    corpus = small_corpus()
    counted: list[int] = []

    class Counting(SharedEncoder):
        def _at_once(self, texts, method):
            counted.append(len(texts))
            return super()._at_once(texts, method)

    question = "How many days of leave do I get?"
    fresh = SharedGenerator(MiniGenerator(encoder=Counting(encoder())))
    hits = pipeline.retrieve(question, corpus, 3)
    before = pipeline.answer(question, hits, fresh)
    assert counted.pop(0) == 1  # the question
    assert sum(counted) > 3  # the sentences
    counted.clear()
    learnt = SharedGenerator(MiniGenerator(encoder=Counting(encoder())))
    worker = Ahead(learnt.learn)
    worker.put(corpus.chunks)
    until(lambda: all(c in learnt._generator._prior._known for c in corpus.chunks))
    assert pipeline.answer(question, hits, learnt).text == before.text
    assert counted == [1]
