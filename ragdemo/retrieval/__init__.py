"""Question -> hits: one protocol, interchangeable retrievers."""

from ragdemo.retrieval.base import Retriever

__all__ = ["Retriever"]
