"""Hosts that mean harm: what they say is chosen, and what is around the target must not notice."""
