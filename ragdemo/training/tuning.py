"""One fine-tuning of a private model: watched on held-out questions, ended early, the best kept.

    for news in tune(model, groups, step, plan, watch=watch, metric="recall@1", make=make):
        ...  # news.losses, news.points; news.trained is what there would be if it ended now

Knows nothing of what is learnt. Whoever trains has loaded the model for this alone; nothing here
touches one that answers visitors. Questions go first: before every layer the training waits while
an answer is being written, and it ends there as soon as it is cancelled. Dropout stays off: its
random numbers are the process's, so a seed would not repeat a run that others work beside.
"""

from __future__ import annotations

import math
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache, partial

import torch
from torch import Tensor, nn

from ragdemo.errors import Cancelled, RagdemoError
from ragdemo.evaluation.bootstrap import Interval, Paired, interval, paired
from ragdemo.serving.quiet import writing
from ragdemo.training.loop import Losses, Progress, Run, steps

ASIDE = 0.75  # seconds that one step waits at most while answers are written: none waits for ever
RESAMPLES = 999  # of a measuring's interval, for the chart: one with 9,999 takes 0.1 s
WIND_UP = 10.0  # seconds that taking the result waits for the training's thread
HELD_OUT, LEARNT = "held-out questions", "the questions it learns"  # what may be watched
NICE = 10  # of a training thread: the processor is the answers' first


@dataclass(frozen=True, slots=True)
class Plan:
    """How a model is trained."""

    steps: int = 100
    batch: int = 16  # questions a step
    rate: float = 1e-3  # peak learning rate of AdamW
    every: int = 10  # steps between two measurings of the held-out questions
    patience: int = 4  # measurings in a row without a better one that end it
    seed: int = 0  # of the split, the order of the batches and the draws

    def __post_init__(self) -> None:
        for name in ("steps", "every", "patience"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.batch < 2:
            raise ValueError(f"batch must be at least 2, got {self.batch}")
        if not 0 < self.rate < 1:
            raise ValueError(f"rate must lie between 0 and 1, got {self.rate}")


@dataclass(frozen=True, slots=True)
class Shares:
    """What one question weighs its passages by, for the chart; they sum to 1."""

    question: str
    parts: tuple[tuple[str, float], ...]  # a passage's label and its share, the greatest first


@dataclass(frozen=True, slots=True)
class Held:
    """What held-out questions came to: a value in 0..1 each. Only `watch` decides when to end and
    what to keep; `test` is looked at and never decides, so that it says what new questions get."""

    watch: tuple[float, ...]
    test: tuple[float, ...] = ()
    tie: float = 0.0  # higher is better among equal means of `watch`
    shares: Shares | None = None  # of one of them, where the training moves such a distribution

    @property
    def worth(self) -> tuple[float, float]:
        return (sum(self.watch) / max(1, len(self.watch)), self.tie)


@dataclass(frozen=True, slots=True)
class Point:
    """One measuring, for the chart."""

    step: int
    held: Interval  # of the watched questions
    shares: Shares | None = None


@dataclass(frozen=True, slots=True)
class Trained:
    """What came of it. `make()` gives the trained encoder or generator, with the best weights."""

    name: str
    metric: str
    before: tuple[float, ...]  # of each test question, untrained
    after: tuple[float, ...]  # with the weights that were kept
    best_step: int  # 0: the untrained model was the best
    steps: int
    seconds: float
    stopped: bool  # before its end, by whoever started it
    make: Callable[[], object] = field(repr=False)
    watched: str = HELD_OUT

    @property
    def change(self) -> Paired:
        return paired(self.after, self.before)

    @property
    def verdict(self) -> str:
        """Whether it helped, in plain words."""
        if self.best_step == 0:
            return (
                f"It did not help: no measuring of {self.metric} was better than the untrained "
                "model's, whose weights were kept."
            )
        if not self.before:
            return "No test questions were held out, so nothing says whether it helped."
        change, n = self.change, len(self.before)
        means = f"{_mean(self.before):.3f} to {_mean(self.after):.3f}"
        spread = f"95% interval {change.low:+.3f} to {change.high:+.3f}, {n} test questions"
        if change.difference < 0:
            return f"It got worse: {self.metric} fell from {means} ({spread})."
        if change.difference == 0:
            return f"Nothing gained: {self.metric} stayed at {_mean(self.after):.3f} ({spread})."
        doubt = "" if change.low > 0 else " So few questions can't rule out chance."
        return f"It helped: {self.metric} rose from {means} ({spread}).{doubt}"


@dataclass(frozen=True, slots=True)
class News:
    """How far it is; everything so far each time. `trained` is what it comes to if it ends here."""

    step: int
    of: int
    losses: tuple[float, ...]  # of every step
    points: tuple[Point, ...]
    seconds: float
    left: float | None  # seconds, about, if it goes to its end; None before the first step
    trained: Trained
    over: bool = False  # the last news

    @property
    def progress(self) -> str:
        """How the watched questions went."""
        first, best = self.points[0].held, max(self.points, key=lambda p: p.held.mean).held
        return (
            f"{self.trained.metric} of {self.trained.watched}: {first.mean:.2f} untrained, best so "
            f"far {best.mean:.2f} ({first.n} of them)."
        )


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else math.nan


def _point(step: int, held: Held) -> Point:
    return Point(step, interval(held.watch, resamples=RESAMPLES), held.shares)


class Manners:
    """Called before every layer: ends what is cancelled, and lets answers go first."""

    def __init__(self, cancelled: threading.Event) -> None:
        self._cancelled = cancelled
        self._left = ASIDE

    def next_step(self) -> None:
        self._left = ASIDE

    def __call__(self) -> None:
        if self._cancelled.is_set():
            raise Cancelled("Stopped.")
        if self._left > 0:
            began = time.monotonic()
            writing.wait_for_none(self._left)
            self._left -= time.monotonic() - began

    @contextmanager
    def of(self, model: nn.Module) -> Iterator[None]:
        """Called in every layer of the model meanwhile, forward and backward: a step of seconds is
        left within a fraction of one."""

        def forward(_module: nn.Module, _given: object, out: object) -> None:
            self()
            if isinstance(out, Tensor) and out.requires_grad:
                out.register_hook(lambda _gradient: self())

        leaves = [m for m in model.modules() if not any(m.children())]
        hooks = [leaf.register_forward_hook(forward) for leaf in leaves]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()


def step_aside() -> None:
    """Give this thread, and those that it starts, a low priority. Only Linux has it by thread."""
    if sys.platform == "linux":
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)


def tune(
    model: nn.Module,
    groups: Sequence[dict],
    step: Callable[[float], Losses],
    plan: Plan,
    *,
    watch: Callable[[], Held],
    name: str,
    metric: str,
    make: Callable[[], object],
    watched: str = HELD_OUT,
    cancelled: threading.Event | None = None,
) -> Iterator[News]:
    """Train the parameters of `groups` (AdamW's, each with a "peak" learning rate) in place.

    `watch` measures the model as it stands. The weights that measured best on the watched questions
    are in the model at the end, also where `cancelled` ends it early; the untrained ones count as
    the first measuring. With no question to watch, the last weights measured are kept. Raises
    RagdemoError where the loss is no longer a number.
    """
    manners = Manners(cancelled or threading.Event())
    run = Run(steps=plan.steps, seed=plan.seed, warm_steps=max(1, plan.steps // 10))
    optimiser = torch.optim.AdamW(list(groups), lr=0.0, weight_decay=0.01)
    parameters = [p for group in groups for p in group["params"]]
    progress = Progress()
    losses: list[float] = []
    points: list[Point] = []
    first = best = None
    kept = [p.detach().clone() for p in parameters]
    best_step = poorer = 0
    stopped = False
    began = time.monotonic()

    ended = threading.Event()

    def made(weights: Sequence[Tensor]) -> object:
        ended.wait(WIND_UP)  # a thread told to stop may still be in its last layer
        _put(parameters, weights)
        return make()

    def news(*, over: bool = False, stopped: bool = False) -> News:
        spent = time.monotonic() - began
        a_step = spent / progress.step if progress.step else None
        left = a_step and a_step * (plan.steps - progress.step)
        trained = Trained(
            name, metric, first.test, best.test, best_step, progress.step, spent,
            stopped or not over, cache(partial(made, kept)), watched,
        )  # fmt: skip
        return News(
            progress.step, plan.steps, tuple(losses), tuple(points), spent, left, trained, over
        )

    model.eval()
    try:
        with manners.of(model):
            first = best = watch()
            points.append(_point(0, first))
            yield news()
            for told in steps(model, optimiser, step, run, progress):
                manners.next_step()
                losses.append(float(sum(part.detach() for part in told.parts.values())))
                if not math.isfinite(losses[-1]):
                    raise RagdemoError(
                        "The training ran away: its loss is no number any more. Nothing was "
                        "changed. Try a lower learning rate."
                    )
                if progress.step % plan.every == 0 or progress.step == plan.steps:
                    now = watch()
                    points.append(_point(progress.step, now))
                    poorer += 1
                    if now.worth > best.worth or not now.watch:
                        best, best_step, poorer = now, progress.step, 0
                        kept = [p.detach().clone() for p in parameters]
                yield news()
                if poorer >= plan.patience:
                    break
    except Cancelled:
        stopped = True
    finally:
        optimiser.state.clear()  # twice the model's size, for a visitor who may stay for hours
        for parameter in parameters:
            parameter.grad = None
        ended.set()
    if first is None:  # stopped before anything was measured
        return
    _put(parameters, kept)
    yield news(over=True, stopped=stopped)


def _put(parameters: Sequence[nn.Parameter], weights: Sequence[Tensor]) -> None:
    with torch.no_grad():
        for parameter, value in zip(parameters, weights, strict=True):
            parameter.copy_(value)


def last(told: Iterator[News], say: Callable[[News], None] | None = None) -> Trained:
    """Train to the end with nobody watching. Raises Cancelled where it was stopped at once."""
    news: News | None = None
    for news in told:
        if say:
            say(news)
    if news is None:
        raise Cancelled("Stopped before anything was learnt.")
    return news.trained
