"""Sizes, spans and moments as people read them.  Pure."""

from __future__ import annotations

from datetime import date, datetime, timedelta


def size(number: float) -> str:
    """Bytes as ``1.2 MB``, in powers of 1000."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if number < 1000 or unit == "TB":
            break
        number /= 1000
    return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"


def memory(number: float) -> str:
    """Bytes as ``31.8 GB``, in powers of 1024 as schedulers count; whole numbers without ``.0``."""
    for unit in ("B", "KB", "MB", "GB", "TB"):
        if number < 1024 or unit == "TB":
            break
        number /= 1024
    text = f"{number:.1f}" if number < 100 else f"{number:.0f}"
    return f"{text.removesuffix('.0')} {unit}"


def duration(value: timedelta | None) -> str:
    """``0:12:03``, ``2-00:00:00`` from a day on; empty for ``None``."""
    if value is None:
        return ""
    seconds = int(value.total_seconds())
    days, seconds = divmod(seconds, 86400)
    text = f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}"
    return f"{days}-{text.rjust(8, '0')}" if days else text


def span(seconds: float) -> str:
    """Seconds as ``12 h``, ``1 h 30 min``, ``40 s``: the two largest units."""
    left, parts = round(seconds), []
    for length, unit in ((86400, "d"), (3600, "h"), (60, "min"), (1, "s")):
        if left >= length:
            parts.append(f"{left // length} {unit}")
            left %= length
    return " ".join(parts[:2]) or "0 s"


def moment(value: datetime | None, today: date | None = None) -> str:
    """A time in the local time zone: ``today 09:14``, ``2026-03-09 09:14``; empty for ``None``.

    Without ``today`` always with the date.
    """
    if value is None:
        return ""
    local = value.astimezone()
    names = {0: "today", 1: "yesterday", -1: "tomorrow"}
    days = (today - local.date()).days if today is not None else None
    if days in names:
        return f"{names[days]} {local:%H:%M}"
    return f"{local:%Y-%m-%d %H:%M}"
