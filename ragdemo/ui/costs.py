"""What each FAISS index costs and loses, for these passages or for many synthetic ones."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import streamlit as st

from ragdemo.corpus import NONSENSE, Corpus
from ragdemo.errors import LimitReached
from ragdemo.settings import MIB
from ragdemo.stores.costs import Cost, costs, synthetic
from ragdemo.ui import cache, drawn, running
from ragdemo.ui.known import SAMPLES
from ragdemo.ui.race import duration
from ragdemo.ui.state import Visitor

KIND = "costs"
QUERIES = 100
SIZES = {"These passages": 0, "100,000 synthetic": 100_000, "1,000,000 synthetic": 1_000_000}
# seconds for all kinds on two cores, 384 dimensions; HNSW's building is most of it
EXPECTED = {100_000: "about two minutes", 1_000_000: "half an hour or more"}
SPARE = 512 * MIB  # left to everybody else
IDS = 400  # bytes a vector's id takes in Python's dictionaries


def section(me: Visitor, board: running.Board) -> None:
    """Choose a size, measure, compare."""
    st.caption(
        "An index is how vectors are kept for searching. Flat compares the question with every "
        "vector: exact, and quick for small collections. The others skip most of them, and lose "
        "some neighbours for it. At which size does that begin to pay?"
    )
    chosen = st.segmented_control(
        "Over", list(SIZES), default="These passages", required=True, key="costs-size"
    )
    size = SIZES[chosen]
    dimension = me.corpus.encoder.dimension
    if size:
        st.caption(
            f"Takes {needed(size, dimension) / 1e9:.1f} GB of memory while it runs "
            f"({available() / 1e9:.1f} GB are free here) and {EXPECTED[size]} on two cores. "
            "The vectors are random, in clusters, as embeddings of text are."
        )
    if st.button(
        "Measure the indexes", icon=":material/speed:", key="costs-go",
        disabled=not size and not me.corpus.chunks,
    ):  # fmt: skip
        running.start(me, KIND, partial(_measured, me.corpus, size))
    body, found = board.place(KIND, _draw), me.results.get(KIND)
    if body and found:
        with body:
            _draw(found)


BUSY = "Somebody else measures large indexes just now. Try again in some minutes."


def needed(count: int, dimension: int) -> int:
    """Bytes: the vectors, an index of them, once more while IVF learns from a flat one, and the
    sample it learns from. Measured: 0.7 GB at 100,000 vectors of 384 numbers."""
    links = 4 * (2 * 32 + 32)  # of an HNSW with 32 links, upper levels included
    return count * (4 * 4 * dimension + links + IDS)


def available() -> int:
    """Bytes that may still be taken: the machine's, or the container's where that is less."""
    free = 2 << 30  # where nothing tells
    with contextlib.suppress(OSError, StopIteration, ValueError):
        lines = Path("/proc/meminfo").read_text().splitlines()
        free = 1024 * int(
            next(line for line in lines if line.startswith("MemAvailable")).split()[1]
        )
    with contextlib.suppress(OSError, ValueError):
        group = Path("/sys/fs/cgroup")
        most = int((group / "memory.max").read_text())  # ValueError: "max"
        free = min(free, most - int((group / "memory.current").read_text()))
    return free


def check(count: int, dimension: int) -> None:
    """Raise LimitReached where the machine is too small for it."""
    takes, free = needed(count, dimension), available()
    if takes + SPARE > free:
        raise LimitReached(
            f"{count:,} vectors take about {takes / 1e9:.1f} GB while they are measured, and "
            f"{free / 1e9:.1f} GB are free here, some of which others need. Choose fewer, or run "
            "the app on a larger machine."
        )


def _measured(corpus: Corpus, size: int, reins: running.Reins) -> Iterator[tuple[Cost, ...]]:
    if not size:
        yield from _told(corpus.vectors, _queries(corpus), reins)
        return
    check(size, corpus.encoder.dimension)
    with cache.heavy_turn(0, BUSY):
        reins.tell(f"Drawing {size:,} vectors", 0, 1)
        rows = synthetic(size + QUERIES, corpus.encoder.dimension)
        yield from _told(rows[:size], rows[size:], reins)


def _told(
    vectors: np.ndarray, queries: np.ndarray, reins: running.Reins
) -> Iterator[tuple[Cost, ...]]:
    def progress(kind: str, done: int, of: int) -> None:
        reins.tell(f"{kind}: {done:,} of {of:,} vectors", done, of)

    found: list[Cost] = []
    for cost in costs(vectors, queries, progress=progress):
        found.append(cost)
        yield tuple(found)


def _queries(corpus: Corpus) -> np.ndarray:
    """Real questions: the samples' set, ours, and nonsense."""
    asked = [q.question for q in cache.sample_set()[: QUERIES - len(NONSENSE)]]
    return corpus.encoder.encode_queries([*asked, *(s.question for s in SAMPLES), *NONSENSE])


def _draw(found: tuple[Cost, ...]) -> None:
    st.dataframe(
        table(found), hide_index=True, width="stretch",
        column_config={
            "recall": st.column_config.ProgressColumn(
                f"recall@{found[0].k}", min_value=0.0, max_value=1.0, format="%.3f"
            )
        },
    )  # fmt: skip
    drawn.text(sentence(found), look="small")
    if any(c.exact and c.needed for c in found):
        few = ", ".join(f"{c.kind} from {c.needed:,}" for c in found if c.exact and c.needed)
        st.caption(f"Too few vectors to learn from, so these search exactly: {few} vectors on.")
    st.caption(
        f"Recall@{found[0].k}, 0 to 1: share of the {found[0].k} truly nearest that the index "
        "finds; flat finds all. Memory is counted from the index's parts, time is the median of "
        "single searches on this machine."
    )


def table(found: tuple[Cost, ...]) -> pd.DataFrame:
    """A row a kind."""
    return pd.DataFrame(
        {
            "index": [c.kind for c in found],
            "memory": [f"{c.bytes / 1e6:,.1f} MB" for c in found],
            "building": [duration(c.build_s) for c in found],
            "one search": [duration(c.search_ms / 1000) for c in found],
            "recall": [c.recall for c in found],
        }
    )


def sentence(found: tuple[Cost, ...]) -> str:
    """The lesson of these figures."""
    said = f"{found[0].vectors:,} vectors of {found[0].dimension} numbers."
    flat = next((c for c in found if c.kind == "flat IP"), None)
    fast = min((c for c in found if not c.exact), key=lambda c: c.search_ms, default=None)
    if flat is None or fast is None:
        return said
    times = flat.search_ms / max(fast.search_ms, 1e-6)
    if times < 1.2:
        return f"{said} Nothing is quicker than comparing all of them: no need for more."
    return (
        f"{said} {fast.kind} is {times:.0f} times as quick as flat and finds {fast.recall:.0%} of "
        f"what flat finds; building it took {duration(fast.build_s)}, building flat "
        f"{duration(flat.build_s)}."
    )
