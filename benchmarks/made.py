"""PDFs made for a benchmark: as many pages as wanted, in the sample handbook's own sentences."""

from __future__ import annotations

import io
import random
from functools import cache
from pathlib import Path

from ragdemo.loading import load, read_folder
from ragdemo.settings import Limits
from ragdemo.text import sentences

SAMPLES = Path(__file__).parents[1] / "sample_docs"
PATIENT = Limits(parse_seconds=120, parse_cpu_seconds=120)  # the machine may be busy


@cache
def _said() -> list[str]:
    found = []
    for name, data in read_folder(SAMPLES):
        text = load(data, name, limits=PATIENT).text
        found += [" ".join(text[s.start : s.end].split()) for s in sentences(text)]
    return [s for s in found if len(s.split()) > 5]


@cache
def pages_pdf(count: int, seed: int) -> bytes:
    """A PDF of so many pages, each of 20 sentences of the handbook in another order."""
    from reportlab.lib.styles import getSampleStyleSheet
    from reportlab.platypus import PageBreak, Paragraph, SimpleDocTemplate
    from reportlab.rl_config import defaultPageSize

    dice = random.Random(seed)
    style = getSampleStyleSheet()["BodyText"]
    story: list = []
    for number in range(count):
        text = " ".join(dice.choices(_said(), k=20)).replace("&", "and").replace("<", "")
        story += [PageBreak()] if number else []
        story.append(Paragraph(f"Page {number + 1}. {text}", style))
    made = io.BytesIO()
    SimpleDocTemplate(made, pagesize=defaultPageSize).build(story)
    return made.getvalue()
