"""The queued generator whose model can also be watched while it writes, in its turn in line."""

from __future__ import annotations

from ragdemo.errors import RagdemoError
from ragdemo.generation.tracing import TokenStep
from ragdemo.serving import SharedGenerator
from ragdemo.types import Decoding, Prompt


class WatchedGenerator(SharedGenerator):
    """A `SharedGenerator` with `tracing.Traceable`."""

    def trace(self, prompt: Prompt, decoding: Decoding) -> tuple[TokenStep, ...]:
        """As the protocol says; RagdemoError where the model can't be watched."""
        if not hasattr(self._generator, "trace"):
            raise RagdemoError(
                f"{self.name} does not show what it weighed before each word. Choose the bundled "
                "generator or a Hugging Face model to see that."
            )
        return self._called("trace", (prompt, decoding))
