"""Every setting in one place, frozen and checked when made.

A field nobody reads is deleted. Each dataclass names the stage it belongs to.
"""

from __future__ import annotations

from dataclasses import dataclass

MIB = 1024 * 1024


def _need(ok: bool, message: str) -> None:
    if not ok:
        raise ValueError(message)


@dataclass(frozen=True, slots=True)
class Limits:
    """What one visitor may load. Sized for a small shared host."""

    file_bytes: int = 20 * MIB  # one file
    total_bytes: int = 100 * MIB  # all files of a visitor
    files: int = 50
    pages: int = 1_000  # of one file
    characters: int = 3_000_000  # of one file's text
    parse_seconds: float = 8.0  # wall clock for one file in the child process
    parse_cpu_seconds: int = 8  # RLIMIT_CPU of the child
    parse_memory: int = 512 * MIB  # RLIMIT_AS of the child

    def __post_init__(self) -> None:
        for name in self.__slots__:
            _need(getattr(self, name) > 0, f"{name} must be above 0, got {getattr(self, name)}")


@dataclass(frozen=True, slots=True)
class Chunking:
    """How documents are cut, in the encoder's own tokens."""

    tokens: int = 200  # aim for a chunk; never above the encoder's limit
    overlap: int = 40  # tokens repeated from the chunk before, whole sentences only

    def __post_init__(self) -> None:
        _need(16 <= self.tokens <= 512, f"tokens must lie in 16..512, got {self.tokens}")
        _need(
            0 <= self.overlap <= self.tokens // 2,
            f"overlap must lie in 0..tokens/2, got {self.overlap}",
        )


ORDERS = ("best first", "best last", "as in the document")
FUSED = ("together", "marginalise")


@dataclass(frozen=True, slots=True)
class Ask:
    """How one question is answered, apart from how words are picked (`types.Decoding`)."""

    k: int = 5  # passages looked up
    template: str | None = None  # a name in prompts.TEMPLATES, a visitor's own text, or the default
    use_history: bool = False  # let a follow-up use the turns before it
    fusion: str = "together"  # how passages become one answer; see fusion.FUSIONS
    order: str = "best first"  # of passages that stand together in one text

    def __post_init__(self) -> None:
        _need(1 <= self.k <= 20, f"k must lie in 1..20, got {self.k}")
        _need(self.fusion in FUSED, f"unknown fusion {self.fusion!r}: choose from {FUSED}")
        _need(self.order in ORDERS, f"unknown order {self.order!r}: choose from {ORDERS}")
