"""What a host's userland can do: GNU, BusyBox or BSD.  Told by trying, not by names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

StatFlavour = Literal["gnu", "plain", "bsd"]

# Everything in one control command: one round trip, about ten short processes on the host.
PROBE = rb"""
printf 'home %s\0' "$HOME"
printf 'cwd %s\0' "$(pwd -P)"
s=$(stat -c %.9Y / 2>/dev/null)
case $s in
*.?????????) printf 'stat gnu\0' ;;
*) if stat -c %f / >/dev/null 2>&1; then printf 'stat plain\0'; else printf 'stat bsd\0'; fi ;;
esac
if [ -n "$(find / -maxdepth 0 -printf %b 2>/dev/null)" ]; then printf 'find_printf yes\0'; fi
printf 'tar %s\0' "$(tar --version 2>/dev/null | head -n 1)"
if command -v tar >/dev/null; then printf 'has_tar yes\0'; fi
printf 'rsync %s\0' "$(rsync --version 2>/dev/null | head -n 1)"
for c in sha256sum shasum sha256; do
if command -v $c >/dev/null; then printf 'sha256 %s\0' $c; break; fi
done
printf 'system %s\0' "$(uname -s)"
printf 'node %s\0' "$(uname -n)"
printf 'user %s\0' "$(id -un)"
"""

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
    """What was found on a host; empty text means that there is none."""

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

    @property
    def gnu_tar(self) -> bool:
        """Whether tar is GNU tar."""
        return "GNU tar" in self.tar


def parse(output: bytes) -> Features:
    """Read the answer to ``PROBE``.  Raises ``ValueError`` where it is not complete."""
    found: dict[str, str] = {}
    for record in output.split(b"\0"):
        key, _, value = record.partition(b" ")
        found[key.decode("ascii", "replace").strip()] = value.decode("utf-8", "surrogateescape")
    missing = {"home", "cwd", "stat", "user"} - found.keys()
    if missing or not found["home"].startswith("/"):
        raise ValueError(f"the host's answer about itself lacks {sorted(missing) or 'a home'}")
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
        # BusyBox tar has a version only in some builds; that it is there counts.
        tar=(found.get("tar") or "tar") if has_tar else "",
        rsync=found.get("rsync", ""),
        sha256=found.get("sha256", ""),
    )
