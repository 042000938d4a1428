"""Which training batches ragdemo-mini sees when: the stages of a run, and the stream drawn in them.

One process draws some 400 rows a second, all that two cores learn; a GPU learns faster than that,
so `Workers` draws in several processes. Knows nothing of the network.
"""

from __future__ import annotations

import multiprocessing
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from ragdemo.training.mini_data import Item, Mixer, closed_items, copy_items, load, paragraphs
from ragdemo.training.mini_tensors import Batch, Tensors, packed, unpacked


@dataclass(frozen=True)
class Stage:
    """What is drawn until this share of the run is over."""

    name: str
    until: float
    several: float = 0.0  # chance of near misses beside the gold passage
    refuse: float = 0.0  # share of rows without an answer
    ask: float = 0.0  # share of rows that write the question
    closed: float = 0.0  # share of rows without passages; they cost a tenth of the others
    tricks: float = 0.0  # share of questions that look answered, and of those asked beside them
    choose: float = 0.0  # share of the rows that only choose, and write nothing
    copies: bool = False  # the warm-up's made-up queries instead of questions


STAGES = (
    Stage("copy", 0.06, copies=True),
    Stage("one", 0.40, several=0.3, refuse=0.05, ask=0.1, closed=0.2),
    Stage(
        "several",
        1.0,
        several=0.7,
        refuse=0.15,
        ask=0.15,
        closed=0.05,
        tricks=0.45,
        choose=0.7,
    ),
)
CAP_TOKENS = 3_600  # encoder tokens in a batch on two cores; a GPU takes ten times that
CAP_ROWS = 24


def batches(
    draw: Callable[[bool], Item],
    encoder: Tensors,
    rng: random.Random,
    cap: int,
    choose: float = 0.0,
) -> Iterator[Batch]:
    """Endless batches of rows of similar length under `cap` encoder tokens, with `choose` chance
    of those whose rows only choose; `draw` is told whether a row will be written."""
    while True:
        write = rng.random() >= choose
        pool = [draw(write) for _ in range(max(160, cap // 40))]
        # characters / 4.2 is close enough to word pieces for packing
        sizes = {
            id(i): sum(len(p.text) + len(i.question) + 30 for p in i.passages) / 4.2 + 12
            for i in pool
        }
        pool.sort(key=lambda i: sizes[id(i)])
        packed: list[list[Item]] = [[]]
        total = 0.0
        for item in pool:
            if packed[-1] and (
                total + sizes[id(item)] > cap or len(packed[-1]) >= max(CAP_ROWS, cap // 150)
            ):
                packed.append([])
                total = 0.0
            packed[-1].append(item)
            total += sizes[id(item)]
        rng.shuffle(packed)
        for items in packed:
            batch = encoder.batch(items, write)
            if batch.selects.any() or batch.labels.any():
                yield batch


class Draws:
    """The stream of batches: which stage is on, and what is drawn in it."""

    def __init__(self, data: Path, seed: int, cap: int, stages: tuple[Stage, ...] = STAGES) -> None:
        self.rng = random.Random(seed)
        items, self.held = load(data)
        self.mixer = Mixer(items, self.rng)
        pool = paragraphs(data)
        self.copies = copy_items(pool, self.rng)
        self.closed = closed_items(data, pool, self.rng)
        self.encoder = Tensors()
        self.cap = cap
        self.stages = stages
        self._stage: Stage | None = None
        self._stream: Iterator[Batch] = iter(())

    def next(self, share: float) -> Batch:
        stage = next(s for s in self.stages if share <= s.until)
        if stage != self._stage:
            self._stage = stage
            self._stream = batches(self._draw, self.encoder, self.rng, self.cap, stage.choose)
        return next(self._stream)

    def _draw(self, write: bool) -> Item:
        stage = self._stage
        if stage.copies:
            return next(self.copies)
        if write and self.rng.random() < stage.closed:
            return next(self.closed)
        if self.rng.random() < stage.tricks:
            return self.mixer.trick(stage.several)
        while True:
            item = self.mixer.draw(stage.several, stage.refuse, stage.ask if write else 0.0)
            if write or item.task == "answer":
                return item


class Workers:
    """The stream of `draws`, drawn by `count` processes at once, each with a seed of its own.

    They go by the share of the run that was last asked for, so a stage begins a few batches late.
    """

    def __init__(self, draws: Draws, seed: int, count: int) -> None:
        fork = multiprocessing.get_context("fork")  # the rows were read once and are shared
        self._share = fork.Value("d", 0.0)
        self._drawn = fork.Queue(2 * count)
        self._processes = [
            fork.Process(target=self._work, args=(draws, seed * 1000 + number), daemon=True)
            for number in range(count)
        ]
        for process in self._processes:
            process.start()

    def next(self, share: float) -> Batch:
        self._share.value = share
        return unpacked(*self._drawn.get())

    def close(self) -> None:
        for process in self._processes:
            process.terminate()
            process.join()

    def _work(self, draws: Draws, seed: int) -> None:
        torch.set_num_threads(1)
        draws.rng.seed(seed)
        while True:
            self._drawn.put(packed(draws.next(self._share.value)))
