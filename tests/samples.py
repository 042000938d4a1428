"""Small documents and the shared models that several test files use."""

from functools import cache
from pathlib import Path

from ragdemo.corpus import Corpus
from ragdemo.embedding import Encoder, load_encoder
from ragdemo.generation.mini import MiniGenerator
from ragdemo.loading import load, read_folder
from ragdemo.pipeline import build
from ragdemo.samples import SAMPLE_DOCS
from ragdemo.types import Chunk, Hit

ROOT = Path(__file__).parents[1]

LEAVE = b"""# Annual leave

Full-time employees are entitled to 28 days of paid annual leave each year.
Requests for leave go to the line manager at least two weeks before the first day.

# Sick leave

An employee who is ill for more than seven days must send a doctor's certificate to the HR team.
"""
PHONES = b"""# Mobile phones

The company lends a mobile phone to staff who are on call.
A lost phone must be reported to the IT desk within 24 hours.
Roaming outside Europe costs \xc2\xa35.50 a day and needs the approval of Priya Raman.
"""
FILES = (("leave.md", LEAVE), ("phones.md", PHONES))


@cache
def encoder() -> Encoder:
    return load_encoder()


@cache
def mini() -> MiniGenerator:
    return MiniGenerator(encoder=encoder())


def small_corpus() -> Corpus:
    """Two files, a few chunks; a new corpus each time, since tests change it."""
    return build(FILES, encoder())


@cache
def handbook() -> Corpus:
    """The sample documents; read it, don't change it."""
    return build(read_folder(SAMPLE_DOCS), encoder())


def document(name: str = "leave.md", data: bytes = LEAVE):
    return load(data, name)


def hit(text: str, rank: int = 1, name: str = "note.md") -> Hit:
    chunk = Chunk(f"{name}:{rank}", name, name, text, 0, len(text), (1,))
    return Hit(chunk, 0.5, rank, "dense")
