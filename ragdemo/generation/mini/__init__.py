"""ragdemo-mini, the generator that comes with the project: network, reading, writing, weights."""

from ragdemo.generation.mini.generator import FOLDER, REFUSAL, MiniGenerator

__all__ = ["FOLDER", "REFUSAL", "MiniGenerator"]
