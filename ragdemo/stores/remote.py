"""What the stores that lie outside this process share: time limits, retries, one kind of error.

Knows no product. `Service` runs one call to a client library and turns whatever comes out of it
into a sentence that names the part that failed. Where visitors may not use such a store
(`policy`), there is no Service to be had.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from types import ModuleType
from typing import TypeVar
from urllib.parse import urlsplit

from ragdemo import policy
from ragdemo.errors import RagdemoError

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to wait for a service, and how often to ask again."""

    timeout_s: float = 20.0  # for one call
    attempts: int = 3
    first_wait_s: float = 0.25  # before the second attempt; doubles with each

    def __post_init__(self) -> None:
        if self.timeout_s <= 0 or self.attempts < 1 or self.first_wait_s < 0:
            raise ValueError(f"timeout_s > 0, attempts >= 1, first_wait_s >= 0: got {self}")


def library(service: str, module: str, install: str) -> ModuleType:
    """The client library, or a RagdemoError with the line that installs it."""
    try:
        return import_module(module)
    except ImportError as problem:
        raise RagdemoError(
            f"{service} needs a package that is not installed here. Install it with: {install}"
        ) from problem


class Service:
    """One vector database at one address."""

    def __init__(
        self,
        name: str,
        where: str,
        patience: Patience,
        *,
        passing: Callable[[Exception], bool],
        refused: Callable[[Exception], bool],
    ) -> None:
        """`passing` tells failures worth another attempt, `refused` those of a missing right.

        Raises RagdemoError where the owner of this machine does not allow a store at `where`.
        """
        permit(name, where)
        self.name = name
        self.where = where
        self.patience = patience
        self._passing = passing
        self._refused = refused

    def call(self, part: str, action: Callable[[], T]) -> T:
        """The result of `action`, tried again with growing waits while its failure may pass.

        `part` completes "... failed while ": "searching", "adding 200 vectors".
        """
        wait = self.patience.first_wait_s
        for attempt in range(1, self.patience.attempts + 1):
            try:
                return action()
            except RagdemoError:
                raise
            except Exception as problem:  # client libraries let many types through
                if self._refused(problem):
                    raise RagdemoError(
                        f"{self.name} at {self.where} refused the key or token while {part}. "
                        "Check that it is right and may read and write there."
                    ) from problem
                if attempt == self.patience.attempts or not self._passing(problem):
                    raise RagdemoError(
                        f"{self.name} at {self.where} failed while {part} "
                        f"({type(problem).__name__}). Check that it runs and can be reached from "
                        "here, or choose FAISS, which needs no server."
                    ) from problem
            time.sleep(wait)
            wait *= 2
        raise AssertionError("attempts is at least 1")

    def mismatch(self, collection: str, found: object, dimension: int) -> RagdemoError:
        """For a collection that is there already and holds something else."""
        return RagdemoError(
            f"{self.name} at {self.where} already has a collection {collection!r} of vectors with "
            f"{found} dimensions; the encoder in use gives {dimension}. "
            "Choose another name for the collection, or the encoder it was made with."
        )


def permit(name: str, where: str, *, allow_private: bool = True) -> None:
    """Raise RagdemoError where a store may not lie at `where`: before a client library is made,
    which connects as it likes.

    `allow_private=False`, for addresses that strangers type, refuses those inside the network of
    this machine but for those that its owner named; on a public host it is always so. A name that
    leads elsewhere the next time it is looked up gets past this; that is why servers are closed
    altogether on a public host until its owner opens them.
    """
    allowed = policy.current()
    if "://" not in where:
        allowed.need("store_files")
        return
    allowed.need("remote_stores")
    try:
        url = urlsplit(where)
        host, port = url.hostname or "", url.port or (443 if url.scheme == "https" else 80)
        found = policy.addresses(host, port)
    except (OSError, ValueError):  # ValueError holds UnicodeError
        return  # the client library says what is wrong with the address
    inside = [address for address in found if policy.is_inside(address)]
    closed = not allowed.permits(host, port) and (allowed.public or not allow_private)
    if any(map(policy.gives_credentials, found)) or (inside and closed):
        raise RagdemoError(
            f"{name} at {host} is inside this machine's own network, which may not be used here. "
            f"The owner of the server allows it with RAGDEMO_PRIVATE_ENDPOINTS={host}:{port}."
        )
