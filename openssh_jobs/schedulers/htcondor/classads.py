"""ClassAds as HTCondor prints them: ``-json``, ``-jsonl``, ``-xml``, ``-long``.  Pure.

Sources: CondorClassAdListWriter (compat_classad.cpp) and the unparsers of HTCondor 25 (sink.cpp,
jsonSink.cpp, xmlSink.cpp).
"""

from __future__ import annotations

import json
import re
from typing import Any

from ...errors import SchedulerError
from ..fields import whole_number
from ..markup import unescape

SPOILT = "\0"
"""A key of no ClassAd: marks one in which a name stands twice."""


def number_of(value: object) -> int | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return int(value) if abs(value) < 1e15 else None
    return whole_number(value) if isinstance(value, str) else None


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    # Names of attributes are the same in capitals: of two values neither is believed.
    if len({name.lower() for name in made}) != len(pairs):
        made[SPOILT] = True
    return made


_DECODER = json.JSONDecoder(strict=False, object_pairs_hook=_pairs)


def json_list(text: str) -> list[dict[str, Any]] | None:
    """The ads of a JSON list, ignoring text around it; ``None`` without a list."""
    found: list[dict[str, Any]] | None = None
    end = 0
    for tries, start in enumerate(re.finditer(r"^[ \t]*(?=\[)", text, re.MULTILINE)):
        if start.end() < end:
            continue
        if tries > 200:
            break
        try:
            value, end = _DECODER.raw_decode(text, start.end())
        except (ValueError, RecursionError):
            continue
        if isinstance(value, list) and all(isinstance(item, dict) for item in value):
            found = [*(found or ()), *value]
    return found


def only_lists(text: str) -> list[dict[str, Any]] | None:
    """The ads of a text that is JSON lists and nothing else; ``None`` for any other one."""
    found: list[dict[str, Any]] = []
    text = text.strip()
    while text:
        try:
            value, end = _DECODER.raw_decode(text)
        except (ValueError, RecursionError):
            return None
        if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
            return None
        found += value
        text = text[end:].lstrip()
    return found


def members(text: str) -> dict[str, tuple[int, int]]:
    """Of each cluster in ``-json``: how many jobs are listed, and how many it was submitted with.

    Two numbers that are the same where the ads do not say (before HTCondor 8.8).
    """
    listed: dict[str, set[object]] = {}
    totals: dict[str, int] = {}
    for ad in json_list(text) or ():
        cluster = str(number_of(ad.get("ClusterId")))
        listed.setdefault(cluster, set()).add(number_of(ad.get("ProcId")))
        totals[cluster] = max(totals.get(cluster, 0), number_of(ad.get("TotalSubmitProcs")) or 0)
    return {number: (len(procs), totals[number] or len(procs)) for number, procs in listed.items()}


def _json_lines(text: str, unparsed: list[str]) -> list[dict[str, Any]]:
    ads: list[dict[str, Any]] = []
    for line in text.split("\n"):  # a text in JSON holds no newline, but what ends a line for str
        if re.match(r"\{\s*\"", line) is None:
            continue
        try:
            ad = _DECODER.decode(line)
        except (ValueError, RecursionError):
            unparsed.append(line[:1000])
            continue
        ads.append(ad)
    return ads


_TAG = re.compile(r"<(/?)([a-z]{1,2})((?:\s+[a-z]+=\"[^\"<>]*\")?)\s*(/?)>([^<]*)")
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", "a": "\a", "b": "\b", "f": "\f", "v": "\v"}


def _xml_ads(text: str) -> list[dict[str, Any]]:
    """The ads of ``<classads>``.  A value may be an ad or a list itself, not a job."""
    _, _, body = text.partition("<classads>")
    body, closed, _ = body.rpartition("</classads>")
    if not closed:
        raise SchedulerError("XML without its end", kind="parse_error", stdout=text)
    ads: list[dict[str, Any]] = []
    pairs: list[tuple[str, Any]] = []
    depth = 0
    name = ""
    for end, tag, argument, empty, value in _TAG.findall(body):
        if tag in ("c", "l"):
            depth += -1 if end else 0 if empty else 1
            if end and depth == 0:
                ads.append(_pairs(pairs))
            elif not end and depth == 1:
                pairs = []
        elif depth != 1 or end:
            continue
        elif tag == "a":
            name = unescape(argument.partition('"')[2].rpartition('"')[0])
        elif tag in ("i", "r", "s", "b"):
            pairs.append((name, _xml_value(tag, argument, "" if empty else value)))
    return ads


def _xml_value(tag: str, argument: str, text: str) -> Any:
    if tag == "b":
        return '"t"' in argument
    if tag == "s":
        return _ESCAPE.sub(lambda match: _ESCAPES.get(match[1], match[1]), unescape(text))
    try:
        return int(text) if tag == "i" and len(text) < 20 else float(text)
    except ValueError:
        return None


def long_ads(text: str) -> list[tuple[str, dict[str, Any]]]:
    """The ads of ``-long``, each with its text.

    A string is printed as it is, but for its quotes: one with newlines goes on to the line that
    ends it, so that none of its lines is taken for an attribute.
    """
    found: list[tuple[str, dict[str, Any]]] = []
    lines: list[str] = []
    pairs: list[tuple[str, Any]] = []
    name, value, is_open = "", "", False
    for line in [*text.split("\n"), ""]:
        if is_open:
            value = f"{value}\n{line}"
            is_open = not _is_closed(line)
            if not is_open:
                pairs.append((name, _long_value(value)))
        elif not line.strip():
            if pairs:
                found.append(("\n".join(lines), _pairs(pairs)))
            lines, pairs = [], []
        else:
            name, equals, value = line.partition(" = ")
            if equals and re.fullmatch(r"[A-Za-z_]\w*", name, re.ASCII):
                value = value.strip(" \t\r")
                is_open = value.startswith('"') and not (len(value) > 1 and _is_closed(value))
                if not is_open:
                    pairs.append((name, _long_value(value)))
        lines.append(line)
    if pairs or is_open:
        found.append(("\n".join(lines), {SPOILT: True} if is_open else _pairs(pairs)))
    return found


def _is_closed(line: str) -> bool:
    # In this form a backslash is not escaped itself: before a quote it always means the quote.
    line = line.rstrip(" \t\r")
    return line.endswith('"') and not line.endswith('\\"')


def _long_value(value: str) -> Any:
    if value.startswith('"'):
        return value[1:].rstrip()[:-1].replace('\\"', '"')
    if value.lower() in ("true", "false"):
        return value.lower() == "true"
    return number_of(value.partition(".")[0])


def escaped_ads(text: str, unparsed: list[str]) -> list[dict[str, Any]] | None:
    """The ads of a form that escapes its texts: JSON, JSON lines, XML; ``None`` for another one.

    The form is the first that holds jobs: a banner can look like any.  ``SchedulerError`` where it
    is cut off.
    """
    lists = json_list(text)
    if _are_jobs(lists):
        return lists
    odd: list[str] = []
    lines = _json_lines(text, odd)
    if not _are_jobs(lines):
        if _XML.search(text) is not None:
            return _xml_ads(text)
        if lists is None and re.search(r"^[ \t]*\[\s*(?:\{|$)", text, re.MULTILINE):
            raise SchedulerError("no valid JSON", kind="parse_error", stdout=text)
    unparsed += odd
    if lines:
        return lines
    return [] if odd else lists


# In JSON quotes would stand before it: there it is the text of a user.
_XML = re.compile(r"^[^\"\n]*<classads>", re.MULTILINE)


def _are_jobs(ads: list[dict[str, Any]] | None) -> bool:
    return any("ClusterId" in ad for ad in ads or ())
