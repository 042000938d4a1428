"""ragdemo: what retrieval-augmented generation does, shown on your own documents.

    from ragdemo import MiniGenerator, build, compare, load_encoder, read_folder

Importing this loads nothing heavy; each name loads its module when first used.
"""

import os
from importlib import import_module

# On a busy two-core host OpenMP's default spin-wait makes torch ten times slower. It is read once,
# when torch is imported, so it has to be said here, before anything can import torch.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

_NAMES = {
    "Ask": "settings",
    "Chunking": "settings",
    "Corpus": "corpus",
    "Decoding": "types",
    "MiniGenerator": "generation.mini",
    "RagdemoError": "errors",
    "build": "pipeline",
    "compare": "pipeline",
    "create": "generation",
    "load_encoder": "embedding",
    "read_folder": "loading",
    "retrieve": "pipeline",
    "stream": "pipeline",
    "summarise": "pipeline",
}
__all__ = sorted(_NAMES)


def __getattr__(name: str):
    if name not in _NAMES:
        raise AttributeError(f"module 'ragdemo' has no attribute {name!r}")
    return getattr(import_module(f"ragdemo.{_NAMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
