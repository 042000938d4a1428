"""The same PDFs and the same MiniLM through ragdemo and four libraries, each by its quick start.

    pip install -r requirements.txt -r benchmarks/requirements.txt
    pip install --no-deps -r benchmarks/requirements-llama-index.txt
    python benchmarks/peers.py --out DIR                   the table, and ingest.svg in DIR
    python benchmarks/peers.py --long 5 --rounds 1         a rehearsal

Each library runs in a process of its own, two threads each, nobody beside it; rounds take turns,
the order reversed every other round. Timed is from a folder of PDFs to a searchable index, imports
and the model's loading before it (`start s`); `CPU s` is the same span in seconds of processor,
which other work on the machine hardly changes. MB is the peak of the process and its children
together, start and all. recall@5: of the answerable sample questions whose gold page is in a PDF,
the share with a gold page among five retrieved from the sample PDFs alone (the long ones repeat
their sentences). `quickstarts.py` says what each library's quick start is.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import psutil
from made import SAMPLES, pages_pdf
from pypdf import PdfReader
from quickstarts import QUICK_STARTS, Found, K, pdfs

from ragdemo.embedding import minilm_path
from ragdemo.evaluation.questions import Question, sample_questions

THREADS = 2
EVERY = 0.05  # seconds between two looks at the memory
PATIENCE = 300  # seconds for one library in one round
A_LONG_ONE = 40  # pages
OURS = next(iter(QUICK_STARTS))
PACKAGES = (
    "torch", "sentence-transformers", "pypdf", "faiss-cpu", "langchain-core",
    "langchain-community", "llama-index-core", "haystack-ai", "txtai", "liteparse",
)  # fmt: skip


@dataclass
class Runs:
    """What was measured of one library, a value a round."""

    start: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    processor: list[float] = field(default_factory=list)
    megabytes: list[float] = field(default_factory=list)
    chunks: int = 0
    recall: float | None = None
    problem: str = ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--long", type=int, default=3, help=f"PDFs of {A_LONG_ONE} pages")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=QUICK_STARTS, default=list(QUICK_STARTS))
    parser.add_argument("--out", type=Path, help="folder for the plot")
    chosen = parser.parse_args()
    asked = questions()
    with tempfile.TemporaryDirectory() as held:
        everything, alone = Path(held, "all"), Path(held, "samples")
        for folder in everything, alone:
            folder.mkdir()
            for file in pdfs(SAMPLES):
                shutil.copy(file, folder)
        for number in range(chosen.long):
            (everything / f"long-{number}.pdf").write_bytes(pages_pdf(A_LONG_ONE, number))
        pages = sum(len(PdfReader(file).pages) for file in pdfs(everything))
        measured = {name: Runs() for name in chosen.only}
        for turn in range(chosen.rounds):
            for name in chosen.only if turn % 2 == 0 else reversed(chosen.only):
                tell(f"round {turn + 1} of {chosen.rounds}: {name}")
                one_round(name, measured[name], everything, alone, asked if turn == 0 else [])
        files = len(pdfs(everything))
    print(f"{conditions()}\n\n{files} PDFs, {pages} pages; {len(asked)} questions; "
          f"median of {chosen.rounds} rounds.\n")  # fmt: skip
    print(table(measured, pages))
    if chosen.out:
        draw(measured, pages, chosen.out)


def questions() -> list[Question]:
    return [
        question
        for question in sample_questions(SAMPLES)
        if question.answerable and any(file.endswith(".pdf") for file, _ in question.places)
    ]


def one_round(name: str, runs: Runs, folder: Path, alone: Path, asked: Sequence[Question]) -> None:
    job = folder.parent / "job.json"
    facts = {"model": str(minilm_path()), "folder": str(folder), "asked": str(alone)}
    job.write_text(json.dumps({**facts, "questions": [q.question for q in asked]}))
    environment = {
        **os.environ, "OMP_NUM_THREADS": str(THREADS), "OMP_WAIT_POLICY": "PASSIVE",
        "HF_HUB_OFFLINE": "1", "HAYSTACK_TELEMETRY_ENABLED": "False", "LANGSMITH_TRACING": "false",
        "TOKENIZERS_PARALLELISM": "true",
    }  # fmt: skip
    command = [sys.executable, str(Path(__file__).with_name("quickstarts.py")), name, str(job)]
    with tempfile.TemporaryFile("w+") as complaints:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=complaints, text=True, env=environment
        )
        peak, searchable = [0.0], threading.Event()
        watching = threading.Thread(target=watch, args=(process.pid, peak, searchable))
        watching.start()
        giving_up = threading.Timer(PATIENCE, process.kill)
        giving_up.start()
        told: dict = {}
        for line in process.stdout:
            told |= json.loads(line)
            if "seconds" in told:
                searchable.set()
        giving_up.cancel()
        searchable.set()
        watching.join()
        if process.wait() or "seconds" not in told:
            complaints.seek(0)
            last = (complaints.read().strip().splitlines() or ["no word"])[-1]
            runs.problem = f"ended with {process.returncode}: {last[:200]}"
            tell(f"{name} {runs.problem}")
            return
    runs.start.append(told["ready"])
    runs.seconds.append(told["seconds"])
    runs.processor.append(told["processor"])
    runs.megabytes.append(peak[0])
    runs.chunks = told["chunks"]
    if asked:
        pairs = zip(asked, told["found"], strict=True)
        runs.recall = statistics.fmean(holds(q, found) for q, found in pairs)


def watch(pid: int, peak: list[float], enough: threading.Event) -> None:
    """Keeps in `peak` the most MB that a process and its children held together."""
    root = psutil.Process(pid)
    while not enough.wait(EVERY):
        try:
            itself = root.cmdline()
            # a child that has not become another program yet shares its parent's memory
            tree = [root, *(c for c in root.children(recursive=True) if c.cmdline() != itself)]
            peak[0] = max(peak[0], sum(p.memory_info().rss for p in tree) / 2**20)
        except psutil.NoSuchProcess:
            continue


def holds(question: Question, found: Found) -> bool:
    """Is a gold page among those of the hits?"""
    gold = {(file, page) for file, pages in question.places for page in pages}
    return any((file, page) in gold for file, pages in found[:K] for page in pages)


COLUMNS = (
    "library", "chunks", "start s", "ingest s", "CPU s", "pages/s", "chunks/s", "peak MB",
    "recall@5", "to ragdemo",
)  # fmt: skip


def table(measured: dict[str, Runs], pages: int) -> str:
    lines = ["| " + " | ".join(COLUMNS) + " |", "|" + "---|" * len(COLUMNS)]
    ours = measured[OURS].seconds if OURS in measured else []
    for name, runs in measured.items():
        cells = row(runs, ours, pages) if runs.seconds else [runs.problem or "not measured"]
        cells += [""] * (len(COLUMNS) - 1 - len(cells))
        lines.append("| " + " | ".join([name, *cells]) + " |")
    return "\n".join(lines)


def row(runs: Runs, ours: Sequence[float], pages: int) -> list[str]:
    start, seconds, processor, megabytes = (
        statistics.median(values)
        for values in (runs.start, runs.seconds, runs.processor, runs.megabytes)
    )
    # rounds neighbour each other: the median of their ratios holds where the load changes
    ratios = [theirs / mine for theirs, mine in zip(runs.seconds, ours, strict=False)]
    return [
        str(runs.chunks),
        f"{start:.1f}",
        f"{seconds:.2f}",
        f"{processor:.1f}",
        f"{pages / seconds:.1f}",
        f"{runs.chunks / seconds:.1f}",
        f"{megabytes:,.0f}",
        "" if runs.recall is None else f"{runs.recall:.1%}",
        f"{statistics.median(ratios):.2f}" if ratios else "",
    ]


def draw(measured: dict[str, Runs], pages: int, out: Path) -> None:
    from plot import bars

    speeds = {n: pages / statistics.median(r.seconds) for n, r in measured.items() if r.seconds}
    out.mkdir(parents=True, exist_ok=True)
    title = f"From {pages} pages of PDF to a searchable index, the same MiniLM, two threads"
    bars(title, list(speeds), list(speeds.values()), "pages a second", out / "ingest.svg")


def conditions() -> str:
    packages = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    return (
        f"{time.strftime('%Y-%m-%d')} · Python {platform.python_version()} · {packages} · "
        f"{platform.machine()}, {os.cpu_count()} cores, {THREADS} threads, "
        f"load before it {os.getloadavg()[0]:.1f}"
    )


def tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
