"""The sample documents, and the index of them that comes along.

Reading and embedding them takes a slow machine half a minute, which a host that wakes up, and the
first visitor with it, need not wait for. The index is what `python -m ragdemo index --docs
sample_docs --out sample_docs/index.zip` writes; a test builds it anew and compares.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from ragdemo.corpus import Corpus
from ragdemo.embedding import Encoder
from ragdemo.errors import RagdemoError
from ragdemo.loading import read_folder
from ragdemo.settings import Chunking

SAMPLE_DOCS = Path(__file__).resolve().parents[1] / "sample_docs"
INDEX = SAMPLE_DOCS / "index.zip"


def stored(encoder: Encoder, index: Path = INDEX) -> Corpus | None:
    """The corpus of the sample documents, their files beside it, as it was stored; None where the
    index is missing or damaged, or was made of other files, with another encoder or cut another
    way than by default."""
    files = {hashlib.sha256(data).hexdigest(): data for _, data in read_folder(SAMPLE_DOCS)}
    try:
        corpus = Corpus.imported(index.read_bytes(), encoder)
    except (OSError, RagdemoError):
        return None
    if corpus.documents.keys() != files.keys() or corpus.chunking != Chunking():
        return None
    corpus.originals = {name: files[name] for name in corpus.documents}
    return corpus
