"""Faults that are made for real while something is under way, and what has to come of them."""
