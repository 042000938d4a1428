"""Models shared by all visitors: one worker thread owns each, jobs wait in line.

`SharedEncoder` and `SharedGenerator` keep the protocols of what they wrap, so the pipeline never
knows whether it is alone. `Ticket` says whose work a thread does.
"""

from ragdemo.serving.ahead import Ahead
from ragdemo.serving.encoder import SharedEncoder
from ragdemo.serving.generator import ROWS, SharedGenerator
from ragdemo.serving.job import Patience
from ragdemo.serving.line import Line
from ragdemo.serving.ticket import Place, Ticket

__all__ = [
    "ROWS",
    "Ahead",
    "Line",
    "Patience",
    "Place",
    "SharedEncoder",
    "SharedGenerator",
    "Ticket",
]
