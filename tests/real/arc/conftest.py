"""The fixtures of these tests."""

from tests.real.arc.places import flavour, own_settings, place, sleeps

__all__ = ["flavour", "own_settings", "place", "sleeps"]
