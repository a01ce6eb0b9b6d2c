"""Answers of framed scripts, made up by tests."""

from __future__ import annotations


def frame(*sections: tuple[str, str, int]) -> str:
    """What a framed script prints, as base.framed has it."""
    mark = "0123456789abcdef77"
    body = "".join(
        f"OJ:{mark} begin {name}\n{text}\nOJ:{mark} end {name} {code}\n"
        for name, text, code in sections
    )
    return f"OJ+{mark}\n{body}OJ-{mark}\n"
