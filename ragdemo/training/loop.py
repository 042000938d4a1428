"""The training loop that every trainer here shares: bounded, resumable, seeded, watched.

Knows nothing of what is learnt: it is given a model, a stream of losses and a function that
measures. The learning rate rises over the first steps and falls to zero at the end of the run's
minutes or steps, whichever bounds it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from ragdemo.embedding import native_bf16

WARM_STEPS = 100
FLAT = 0.3  # share of the run before the learning rate begins to fall
SAVE_SECONDS = 180


@dataclass(frozen=True)
class Run:
    """How long and where."""

    minutes: float = 60.0
    steps: int | None = None  # bounds the run instead of the minutes
    seed: int = 0
    device: str = "cpu"
    checkpoint: Path | None = None
    watch_seconds: float = 600.0
    report_steps: int = 50
    warm_steps: int = WARM_STEPS


@dataclass
class Progress:
    """What a checkpoint remembers beside weights and optimiser."""

    step: int = 0
    examples: int = 0
    seconds: float = 0.0
    history: list[dict] = field(default_factory=list)  # one entry a measuring

    def share(self, run: Run) -> float:
        """How much of the run is over, 0..1."""
        done = self.seconds / (60 * run.minutes) if run.steps is None else self.step / run.steps
        return min(1.0, done)


@dataclass(frozen=True)
class Losses:
    """One step's named losses, which are added, and its number of examples."""

    parts: Mapping[str, Tensor]
    examples: int


def rate(progress: Progress, run: Run) -> float:
    """Factor on the peak learning rate, 0..1."""
    falling = max(0.02, (1 - progress.share(run)) / (1 - FLAT))
    return min(1.0, (progress.step + 1) / run.warm_steps, falling)


def steps(
    model: nn.Module,
    optimiser: torch.optim.Optimizer,
    step: Callable[[float], Losses],
    run: Run,
    progress: Progress,
) -> Iterator[Losses]:
    """One optimiser step each, until the run's bound or until nobody asks for more; `progress` is
    brought up to date before each is told. Each parameter group has its own "peak".

    `step(share)` draws a batch for that share of the run and returns its losses.
    """
    begun = time.monotonic() - progress.seconds
    while progress.share(run) < 1:
        for group in optimiser.param_groups:
            group["lr"] = group["peak"] * rate(progress, run)
        # made anew each time: the mode is the thread's, and would leak out at the yield
        wide = run.device != "cpu" or native_bf16()
        with torch.autocast(run.device, torch.bfloat16, enabled=wide):
            losses = step(progress.share(run))
        sum(losses.parts.values()).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        progress.step += 1
        progress.examples += losses.examples
        progress.seconds = time.monotonic() - begun
        yield losses


def fit(
    model: nn.Module,
    optimiser: torch.optim.Optimizer,
    step: Callable[[float], Losses],
    run: Run,
    *,
    watch: Callable[[], dict[str, float]] | None = None,
    say: Callable[[str], None] = print,
) -> Progress:
    """Train until the run's bound; see `steps`. A checkpoint that exists is resumed: weights,
    optimiser, step count and time already spent.
    """
    progress = resume(run.checkpoint, model, optimiser)
    watched = saved = window = time.monotonic()
    seen = 0
    model.train()
    for losses in steps(model, optimiser, step, run, progress):
        seen += losses.examples
        if progress.step % run.report_steps == 0:
            say(_line(progress, losses, run, seen / (time.monotonic() - window)))
            seen, window = 0, time.monotonic()
        if watch and time.monotonic() - watched > run.watch_seconds:
            say(_measured(progress, model, watch))
            watched = time.monotonic()
        if run.checkpoint and time.monotonic() - saved > SAVE_SECONDS:
            save(run.checkpoint, model, optimiser, progress)
            saved = time.monotonic()
    if watch:
        say(_measured(progress, model, watch))
    if run.checkpoint:
        save(run.checkpoint, model, optimiser, progress)
    return progress


def _line(progress: Progress, losses: Losses, run: Run, speed: float) -> str:
    parts = "  ".join(f"{name} {loss.item():5.2f}" for name, loss in losses.parts.items())
    share = progress.share(run)
    left = progress.seconds * (1 - share) / max(share, 1e-9) / 60
    return (
        f"{share:4.0%}  step {progress.step:6d}  {parts}  {speed:7.1f} examples/s  "
        f"{left:5.1f} min left"
    )


def _measured(progress: Progress, model: nn.Module, watch: Callable[[], dict[str, float]]) -> str:
    model.eval()
    result = {name: round(value, 4) for name, value in watch().items()}
    model.train()
    minutes = round(progress.seconds / 60, 1)
    progress.history.append({"examples": progress.examples, "minutes": minutes, **result})
    return f"      measured {progress.history[-1]}"


def resume(
    path: Path | None, model: nn.Module, optimiser: torch.optim.Optimizer | None
) -> Progress:
    """Load a checkpoint where there is one; a fresh `Progress` where there is none."""
    if path is None or not path.exists():
        return Progress()
    stored = torch.load(path, weights_only=True, map_location="cpu")
    model.load_state_dict(stored["model"])
    if optimiser is not None:
        peaks = [group["peak"] for group in optimiser.param_groups]  # this run's, not the old one's
        optimiser.load_state_dict(stored["optimiser"])
        for group, peak in zip(optimiser.param_groups, peaks, strict=True):
            group["peak"] = peak
    return Progress(**stored["progress"])


def save(
    path: Path, model: nn.Module, optimiser: torch.optim.Optimizer, progress: Progress
) -> None:
    """Written beside and moved into place: a run that is killed leaves the last whole one."""
    part = path.with_suffix(".part")
    torch.save(
        {
            "model": model.state_dict(),
            "optimiser": optimiser.state_dict(),
            "progress": vars(progress),
        },
        part,
    )
    part.replace(path)
