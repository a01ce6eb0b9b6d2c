"""Submissions with something happening to each of them: every job is there once in the end."""
