"""Errors whose text may be shown to a visitor as it stands.

Pages catch `RagdemoError` and nothing else: its message says what happened and what to do next.
The subclasses exist only where the visitor's next step differs.
"""


class RagdemoError(Exception):
    """Something a visitor can act on; `str(error)` is a sentence made to be read."""


class DocumentError(RagdemoError):
    """This file could not be read; the others are unaffected."""


class PasswordNeeded(DocumentError):
    """The file is encrypted and opens only with a password."""


class LimitReached(RagdemoError):
    """A setting in `settings.Limits` stopped the work; the message names it."""


class IndexMismatch(RagdemoError):
    """The index was built with another encoder, chunking or set of files than the ones in use."""


class ModelUnavailable(RagdemoError):
    """A model could not be loaded or reached; another one may be chosen."""


class Busy(RagdemoError):
    """The queue is full; try again in `retry_after` seconds."""

    def __init__(self, message: str, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Cancelled(RagdemoError):
    """The visitor stopped the work."""
