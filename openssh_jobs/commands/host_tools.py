"""``Features``: what the host's stat, find, tar, rsync and sha256 can do, found by trying them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from . import scripts

StatFlavour = Literal["gnu", "plain", "bsd"]


def probe() -> bytes:
    """The script whose answer ``parse`` reads."""
    return scripts.read("commands/host_tools")


# st_mode in hex, size, uid, gid, links, inode, device, then access, change and status times.
STAT_ARGUMENTS: dict[StatFlavour, tuple[str, str]] = {
    "gnu": ("-c", "%f %s %u %g %h %i %d %.9X %.9Y %.9Z"),
    "plain": ("-c", "%f %s %u %g %h %i %d %X %Y %Z"),
    "bsd": ("-f", "%Xp %z %u %g %l %i %d %Fa %Fm %Fc"),
}
SIZE_ARGUMENTS: dict[StatFlavour, tuple[str, str]] = {
    "gnu": ("-c", "%s"),
    "plain": ("-c", "%s"),
    "bsd": ("-f", "%z"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Features:
    """The tools that were found on a host; an empty text means that the tool is missing."""

    home: str
    cwd: str
    user: str
    node: str
    system: str
    stat: StatFlavour
    find_printf: bool
    tar: str
    rsync: str
    sha256: str
    nice: bool = False

    @property
    def gently(self) -> bytes:
        """Shell text before a program that works long: ``nice``, where the host has it."""
        return b"nice " if self.nice else b""

    @property
    def gnu_tar(self) -> bool:
        """Whether tar is GNU tar."""
        return "GNU tar" in self.tar


def parse(output: bytes) -> Features:
    """Read the answer to ``probe``.  Raises ``ValueError`` if it is incomplete."""
    found: dict[str, str] = {}
    for record in output.split(b"\0"):
        key, _, value = record.partition(b" ")
        found[key.decode("ascii", "replace").strip()] = value.decode("utf-8", "surrogateescape")
    missing = {"home", "cwd", "stat", "user"} - found.keys()
    if missing:
        raise ValueError(f"the host's answer about itself lacks {sorted(missing)}")
    if not found["home"].startswith("/"):
        raise ValueError(
            f"HOME is {found['home'][:99]!r} there, which is no absolute path (see its rc files)"
        )
    stat = found["stat"]
    has_tar = "has_tar" in found
    return Features(
        home=found["home"],
        cwd=found["cwd"],
        user=found["user"],
        node=found.get("node", ""),
        system=found.get("system", ""),
        stat="gnu" if stat == "gnu" else "plain" if stat == "plain" else "bsd",
        find_printf="find_printf" in found,
        # BusyBox tar prints a version only in some builds.
        tar=(found.get("tar") or "tar") if has_tar else "",
        rsync=found.get("rsync", ""),
        sha256=found.get("sha256", ""),
        nice="nice" in found,
    )
