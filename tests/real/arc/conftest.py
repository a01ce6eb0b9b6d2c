"""The fixtures of these tests."""

from tests.real.arc.places import flavour, place

__all__ = ["flavour", "place"]
