"""One question taken apart: what every stage of the pipeline made of it.

Plain typed functions over a corpus, a generator and a finished comparison; nothing here knows
Streamlit, and importing it loads no model.
"""

from ragdemo.anatomy.parts import Anatomy, Dropped, Search, take_apart

__all__ = ["Anatomy", "Dropped", "Search", "take_apart"]
