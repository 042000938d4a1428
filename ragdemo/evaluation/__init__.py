"""Measuring answers and retrieval: formulas, and the runs that apply them."""
