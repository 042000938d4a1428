"""A class on one machine: waiting times, fairness, memory, growth, and a soak.

    python benchmarks/serving.py threads            visitors through the Python API
    python benchmarks/serving.py sessions           visitors over real websocket sessions
    python benchmarks/serving.py ask                where the time of a question goes
    python benchmarks/serving.py upload             a question while 500 pages are read in
    python benchmarks/serving.py memory             start, models, a class with documents, after it
    python benchmarks/serving.py cold               command to first paint and first answer
    python benchmarks/serving.py growth             10 to 5,000 pages, with the fitted exponent
    python benchmarks/serving.py soak --minutes 30  mixed use of a class

Each prints a Markdown table under the conditions it was measured in, and with `--out FOLDER` draws
it there. `--visitors 1 2 --questions 1` and the like rehearse it.
"""

from __future__ import annotations

import argparse
import os
import platform
import random
import statistics
import sys
import threading
import time
from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
import plot
from made import SAMPLES, pages_pdf
from session import App, Failed, Session, running

from ragdemo import pipeline
from ragdemo.corpus import Corpus
from ragdemo.errors import RagdemoError
from ragdemo.evaluation.questions import sample_questions
from ragdemo.loading import load, read_folder
from ragdemo.serving import SharedEncoder, SharedGenerator
from ragdemo.settings import MIB, Limits

A_FILE = 500  # pages
LIMITS = Limits(
    file_bytes=200 * MIB, pages=5_000, characters=10**8, parse_seconds=600, parse_cpu_seconds=600
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=PARTS)
    parser.add_argument("--visitors", type=int, nargs="+", default=[1, 5, 10, 30])
    parser.add_argument("--questions", type=int, default=1, help="of each visitor; of `ask` in all")
    parser.add_argument("--pages", type=int, nargs="+", default=[10, 100, 1_000, 5_000])
    parser.add_argument("--repeat", type=int, default=3, help="of `cold` and `ask`")
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="folder for the plot")
    chosen = parser.parse_args()
    print(conditions() + "\n")
    PARTS[chosen.what](chosen)


def conditions() -> str:
    from importlib.metadata import version

    packages = ", ".join(f"{n} {version(n)}" for n in ("torch", "transformers", "streamlit"))
    load_now = os.getloadavg()[0]
    return (
        f"{time.strftime('%Y-%m-%d')} · Python {platform.python_version()} · {packages} · "
        f"{platform.machine()}, {os.cpu_count()} cores, load before it {load_now:.1f}"
    )


def table(head: Sequence[str], lines: Sequence[Sequence[object]]) -> None:
    print("| " + " | ".join(head) + " |\n|" + "---|" * len(head))
    for line in lines:
        said = (f"{x:,.2f}" if isinstance(x, float) else str(x) for x in line)
        print("| " + " | ".join(said) + " |", flush=True)
    print()


def picture(chosen: argparse.Namespace) -> Path | None:
    """Where the plot of this part goes."""
    if chosen.out is None:
        return None
    chosen.out.mkdir(parents=True, exist_ok=True)
    return chosen.out / f"{chosen.what}.png"


def side_by_side(count: int, work: Callable[[int], object]) -> list:
    """What `work(i)` gives, each in its own thread, all begun together; or what it raised."""
    results: list = [None] * count
    start = threading.Barrier(count)

    def run(number: int) -> None:
        start.wait()
        try:
            results[number] = work(number)
        except (RagdemoError, Failed, OSError, TimeoutError) as problem:
            results[number] = problem

    threads = [threading.Thread(target=run, args=(n,)) for n in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


@cache
def questions() -> list[str]:
    return [question.question for question in sample_questions(SAMPLES)]


@cache
def shared() -> tuple[SharedEncoder, SharedGenerator]:
    from ragdemo.embedding import load_encoder
    from ragdemo.generation import create

    encoder = SharedEncoder(load_encoder())
    return encoder, SharedGenerator(create("mini", encoder=encoder))


@cache
def handbook() -> Corpus:
    return pipeline.build(read_folder(SAMPLES), shared()[0])


# -- a class


def threads(chosen: argparse.Namespace) -> None:
    """Waiting times through the Python API."""
    _, generator = shared()
    corpus = handbook()

    def ask(number: int) -> float:
        begun = time.perf_counter()
        for turn in range(chosen.questions):
            question = questions()[(number + 31 * turn) % len(questions())]
            pipeline.compare(question, corpus, generator)
        return (time.perf_counter() - begun) / chosen.questions

    ask(0)
    a_class(chosen, "the Python API, threads", lambda count: ask)


def sessions(chosen: argparse.Namespace) -> None:
    """Waiting times over websockets, drawing included."""
    with running() as app:
        open_sessions: list[Session] = []

        def visitors(count: int) -> Callable[[int], float]:
            while len(open_sessions) < count:
                open_sessions.append(Session(app))
                open_sessions[-1].open()
            return ask

        def ask(number: int) -> float:
            taken = [
                open_sessions[number].ask(questions()[(number + 31 * turn) % len(questions())])
                for turn in range(chosen.questions)
            ]
            return statistics.fmean(seen["answers"] for seen in taken)

        visitors(1)(0)
        a_class(chosen, "websocket sessions of the started app", visitors)
        for session in open_sessions:
            session.close()


def a_class(
    chosen: argparse.Namespace, how: str, visitors: Callable[[int], Callable[[int], float]]
) -> None:
    lines = []
    for count in chosen.visitors:
        ask = visitors(count)
        for number in range(count):
            ask(number)  # afterwards the sentences of these passages are known to both ways
        begun = time.perf_counter()
        for number in range(count):
            ask(number)
        one_by_one = time.perf_counter() - begun
        begun = time.perf_counter()
        found = side_by_side(count, ask)
        total = time.perf_counter() - begun
        taken = [x for x in found if isinstance(x, float)]
        for problem in {str(x) for x in found if not isinstance(x, float)}:
            print(f"A visitor had no answer: {problem}\n")
        p50, p95 = np.percentile(taken, [50, 95]).tolist() if taken else (0.0, 0.0)
        fair = max(taken) / p50 if taken else 0.0
        answered = f"{len(taken)} of {count}"
        lines.append((count, answered, p50, p95, fair, total, one_by_one, one_by_one / total))
    print(f"Visitors asking at the same moment, {chosen.questions} question(s) each, {how}.\n")
    table(
        ("visitors", "answered", "p50 s", "p95 s", "slowest / median", "all s", "one by one s",
         "throughput x"), lines,
    )  # fmt: skip
    if path := picture(chosen):
        series = {name: [line[n] for line in lines] for name, n in (("p50", 2), ("p95", 3))}
        title = f"Waiting for both answers, {how}"
        plot.lines(title, chosen.visitors, series, "visitors at once", "s", path)


# -- one question


def ask(chosen: argparse.Namespace) -> None:
    """Time to passages, first word and both answers; both against the grounded one alone."""
    _, generator = shared()
    corpus = handbook()
    pipeline.compare(questions()[0], corpus, generator)
    generator.learn(corpus.chunks)  # as the app does of itself when nobody asks
    marks: dict[str, list[float]] = {"passages": [], "first word": [], "both answers": []}
    ratios, alone = [], []
    for number in range(max(chosen.questions, 10)):
        question = questions()[number % len(questions())]
        hits = pipeline.retrieve(question, corpus)
        pair = []
        for way in (0, 1) if number % 2 else (1, 0):
            begun = time.perf_counter()
            if way:
                pipeline.answer(question, hits, generator)
            else:
                both(question, hits, generator)
            pair.append((way, time.perf_counter() - begun))
        taken = dict(pair)
        alone.append(taken[1])
        ratios.append(taken[0] / taken[1])
        begun = time.perf_counter()
        seen: dict[str, float] = {}
        for update in pipeline.stream(question, corpus, generator):
            now = time.perf_counter() - begun
            if update.hits is not None:
                seen.setdefault("passages", now)
            if update.grounded or update.baseline:
                seen.setdefault("first word", now)
        seen["both answers"] = time.perf_counter() - begun
        for name, value in seen.items():
            marks[name].append(value)
    print(f"{len(alone)} questions one by one over the sample documents.\n")
    rows = [(name, *np.percentile(v, [50, 95]).tolist()) for name, v in marks.items()]
    rows.append(("grounded alone, from its passages", *np.percentile(alone, [50, 95]).tolist()))
    rows.append(("both / grounded alone", *np.percentile(ratios, [50, 95]).tolist()))
    table(("", "p50 s (or x)", "p95 s (or x)"), rows)
    if path := picture(chosen):
        names, middle = [row[0] for row in rows[:-1]], [row[1] for row in rows[:-1]]
        plot.bars("One question, median", names, middle, "s", path)


def both(question: str, hits: Sequence, generator: SharedGenerator) -> None:
    from ragdemo.types import Decoding

    prompts = [generator.prompt(question, h, decoding=Decoding()) for h in (hits, [])]
    events = [threading.Event()] * 2
    for _ in generator.stream(prompts, [Decoding()] * 2, events):
        pass


def upload(chosen: argparse.Namespace) -> None:
    """What a large upload costs those who ask meanwhile."""
    encoder, generator = shared()
    corpus = handbook()
    document = load(
        pages_pdf(min(A_FILE, chosen.pages[-1]), chosen.seed), "long.pdf", limits=LIMITS
    )

    def asked() -> list[float]:
        taken = []
        for question in questions()[: max(chosen.questions, 5)]:
            begun = time.perf_counter()
            pipeline.compare(question, corpus, generator)
            taken.append(time.perf_counter() - begun)
        return taken

    asked()
    before = asked()
    begun = time.perf_counter()
    told: list[float] = []
    uploading = threading.Thread(
        target=lambda: (Corpus(encoder).add(document), told.append(time.perf_counter() - begun))
    )
    uploading.start()
    time.sleep(1)
    meanwhile = asked()
    went_on = uploading.is_alive()
    uploading.join()
    said = f"A file of {len(document.pages)} pages is embedded (in {told[0]:.1f} s) while a visitor"
    late = "" if went_on else "; it ended before they did"
    print(f"{said} asks {len(before)} questions{late}.\n")
    rows = [
        (name, statistics.median(taken), max(taken))
        for name, taken in (("nobody uploads", before), ("meanwhile", meanwhile))
    ]
    delays = [b - a for a, b in zip(before, meanwhile, strict=True)]
    table(("question", "median s", "slowest s"), [*rows, ("delay", *_middle(delays))])
    if path := picture(chosen):
        names, middle = [row[0] for row in rows], [row[1] for row in rows]
        plot.bars("A question, median", names, middle, "s", path)


def _middle(values: list[float]) -> tuple[float, float]:
    return statistics.median(values), max(values)


# -- the app


def memory(chosen: argparse.Namespace) -> None:
    """Resident memory of the app's process."""
    count = max(chosen.visitors)
    with running() as app:
        rows = [("started, nobody there", app.megabytes())]
        first = Session(app)
        first.open()
        first.ask(questions()[0])
        rows.append(("models loaded, one question asked", app.megabytes()))
        visitors = [Session(app) for _ in range(count)]

        def visit(number: int) -> None:
            visitors[number].open()
            visitors[number].open("documents")
            visitors[number].upload(f"own-{number}.pdf", pages_pdf(10, number))
            visitors[number].open("")
            visitors[number].ask(questions()[number % len(questions())])

        problems = [p for p in side_by_side(count, visit) if p]
        rows.append((f"{count} visitors with 10 pages each", app.megabytes()))
        for visitor in visitors:
            visitor.close()
        for seconds in (5, 60):
            time.sleep(seconds - (5 if seconds > 5 else 0))
            rows.append((f"{seconds} s after they left", app.megabytes()))
        first.close()
    print(f"Resident memory; {len(problems)} of {count} visits failed{_why(problems)}.\n")
    table(("when", "MB"), rows)
    if path := picture(chosen):
        plot.bars("Resident memory", [row[0] for row in rows], [row[1] for row in rows], "MB", path)


def _why(problems: Sequence[object]) -> str:
    return f" ({'; '.join(sorted({str(p) for p in problems}))})" if problems else ""


def cold(chosen: argparse.Namespace) -> None:
    """From the command, files in the system's cache after the first time."""
    rows = []
    for number in range(1, chosen.repeat + 1):
        with running() as app:
            visitor = Session(app)
            at = time.perf_counter() - app.began
            painted = at + visitor.open()
            visitor.ask(questions()[0])
            answered = time.perf_counter() - app.began
            rows.append((str(number), painted, answered))
            visitor.close()
    table(("start", "first element s", "first answer s"), rows)
    if path := picture(chosen):
        names = ["first element", "first answer"]
        middle = [statistics.median(row[n] for row in rows) for n in (1, 2)]
        plot.bars("From the command, median", names, middle, "s", path)


def growth(chosen: argparse.Namespace) -> None:
    """Ingest and search by pages."""
    encoder, _ = shared()
    asked = encoder.encode_queries(questions()[:20])
    rows, fits = [], []
    for count in chosen.pages:
        files = [
            (f"{start}.pdf", pages_pdf(min(A_FILE, count - start), chosen.seed + start))
            for start in range(0, count, A_FILE)
        ]
        before, begun = own_megabytes(), time.perf_counter()
        documents = [load(data, name, limits=LIMITS) for name, data in files]
        read = time.perf_counter() - begun
        corpus = Corpus(encoder)
        for document in documents:
            corpus.add(document)
        took = time.perf_counter() - begun
        corpus.search(asked[0], 5)
        begun = time.perf_counter()
        for row in asked:
            corpus.search(row, 5)
        search = (time.perf_counter() - begun) / len(asked) * 1000
        grown = max(0.0, own_megabytes() - before)
        held = corpus.bytes() / MIB
        rows.append(
            (f"{count:,}", len(corpus.chunks), read, took, count / took, search, held, grown)
        )
        fits.append((count, took, search, held))
    print(
        "Reading, cutting, embedding; 20 searches by vector, mean. Memory: what the corpus says it "
        "holds, and what the process grew by.\n"
    )
    head = "pages, passages, read s, ingest s, pages/s, search ms, held MB, grown MB"
    table(head.split(", "), rows)
    if len(fits) > 1:
        logs = np.log(np.array(fits))
        slopes = [float(np.polyfit(logs[:, 0], logs[:, n], 1)[0]) for n in (1, 2, 3)]
        said = zip(("ingest", "search", "held memory"), slopes, strict=True)
        print("Fitted exponent: " + ", ".join(f"{name} {slope:.2f}" for name, slope in said))
    if path := picture(chosen):
        _, *measured = zip(*fits, strict=True)
        series = dict(zip(("ingest, s", "search, ms", "held, MB"), measured, strict=True))
        plot.lines("Growth", chosen.pages, series, "pages", "s, ms, MB", path, logarithmic=True)


def soak(chosen: argparse.Namespace) -> None:
    """Visitors come, ask, upload, leave in the middle, and come again."""
    count, until = max(chosen.visitors), time.perf_counter() + 60 * chosen.minutes
    done = {"questions": 0, "uploads": 0, "left in the middle": 0, "visits": 0}
    problems: list[str] = []
    one = threading.Lock()

    def visitor(app: App, number: int) -> None:
        dice = random.Random(chosen.seed + number)
        while time.perf_counter() < until:
            session = Session(app)
            leaving = False
            try:
                session.open()
                tally("visits")
                for _ in range(dice.randint(1, 4)):
                    what = dice.random()
                    if what < 0.15:
                        leaving = True
                        threading.Timer(dice.uniform(0.2, 2.0), session.close).start()
                        tally("left in the middle")
                        session.ask(dice.choice(questions()))
                        break
                    if what < 0.3:
                        session.open("documents")
                        session.upload(
                            "own.pdf", pages_pdf(dice.randint(1, 12), dice.randint(0, 9))
                        )
                        session.open("")
                        tally("uploads")
                    else:
                        session.ask(dice.choice(questions()))
                        tally("questions")
                    time.sleep(dice.uniform(1, 15))
            except Exception as problem:
                # a closed connection is what leaving in the middle looks like from here
                closed = type(problem).__name__ in ("ConnectionClosedOK", "ConnectionClosedError")
                if not (leaving and closed):
                    with one:
                        problems.append(f"{type(problem).__name__}: {problem}")
            finally:
                session.close()

    def tally(name: str) -> None:
        with one:
            done[name] += 1

    with running() as app:
        first = Session(app)
        first.open()
        first.ask(questions()[0])
        people = [
            threading.Thread(target=partial(visitor, app, n), daemon=True) for n in range(count)
        ]
        rows = [("0.0", app.megabytes(), 0)]
        for person in people:
            person.start()
        begun = time.perf_counter()
        while time.perf_counter() < until:
            time.sleep(min(60.0, max(0.5, until - time.perf_counter())))
            minutes = (time.perf_counter() - begun) / 60
            rows.append((f"{minutes:.1f}", app.megabytes(), done["questions"]))
        for person in people:
            person.join(120)
        time.sleep(10)
        rows.append(("10 s after all left", app.megabytes(), done["questions"]))
        first.close()
    half = [row[1] for row in rows[len(rows) // 2 : -1]]
    print(
        f"{count} visitors, {done}; {len(problems)} errors{_why(problems)}. Memory over the second "
        f"half: {min(half):,.0f} to {max(half):,.0f} MB.\n"
    )
    table(("minute", "MB", "questions answered"), rows)
    if path := picture(chosen):
        minutes, taken = [float(row[0]) for row in rows[:-1]], [row[1] for row in rows[:-1]]
        plot.lines(f"{count} visitors", minutes, {"resident": taken}, "minutes", "MB", path)


def own_megabytes() -> float:
    status = Path("/proc/self/status").read_text()
    return int(next(x.split()[1] for x in status.splitlines() if x[:6] == "VmRSS:")) / 1024


PARTS = {
    part.__name__: part for part in (threads, sessions, ask, upload, memory, cold, growth, soak)
}

if __name__ == "__main__":
    main()
