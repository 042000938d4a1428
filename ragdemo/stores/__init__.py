"""Where vectors are kept and searched: one protocol, interchangeable stores."""

from ragdemo.stores.base import VectorStore

__all__ = ["VectorStore"]
