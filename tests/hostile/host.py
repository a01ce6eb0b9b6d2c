"""A real sshd whose tools say what a variant wants, and the local ground around a target.

The sessions run in mount namespaces where the ground is covered by a mirror of it: the host has
files of the same names, with other contents, so that whatever is read or written on the ground
itself was read or written by this side.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
from pathlib import Path

from openssh_jobs import Connection
from tests.hostile.archives import unpacked
from tests.lab.sshd import Sshd

TOOLS = ("find", "tar", "stat", "readlink", "realpath", "rsync", "scp", "sftp-server", "ls")
_REAL = {"sftp-server": "/usr/lib/openssh/sftp-server", "tar": "/bin/tar"}
LONG_AGO = 1_000_000_000 * 10**9

_ENTER = """\
[ "$OJ_INSIDE" ] || OJ_INSIDE=1 exec unshare --mount --propagation private /bin/sh {own}/enter
mount --bind {mirror} {ground} || exit 1
PATH={bin}:/usr/bin:/bin:/usr/sbin:/sbin; export PATH
read -r HOME <{say}/home; export HOME
cd {ground}/in
unset OLDPWD OJ_INSIDE
if [ -e {say}/printf ]; then
    # A /bin/sh that keeps a function from its environment, whatever it has to unset.
    mount --bind {own}/sh /bin/sh
    lie='case "$1" in %s*0) cat {say}/printf;; *) builtin printf "$@";; esac'
    exec env "BASH_FUNC_printf%%=() {{ $lie; }}" /bin/bash -c "$SSH_ORIGINAL_COMMAND"
fi
exec /bin/bash -c "$SSH_ORIGINAL_COMMAND"
"""


class Hostile:
    """The server; ``say`` is what its tools say from the next session on."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.ground = directory / "ground"
        self._mirror = directory / "mirror"
        self._bin = directory / "bin"
        self._say = directory / "say"
        own = directory / "sshd"
        names = {
            "own": own,
            "mirror": self._mirror,
            "ground": self.ground,
            "bin": self._bin,
            "say": self._say,
        }
        self.server = Sshd(
            own,
            alias="hostile",
            sftp=False,
            config_extra=f"ForceCommand exec /bin/sh {own}/enter\n"
            f"Subsystem sftp {self._bin}/sftp-server",
        )
        for path in (own, self._bin, self._say):
            path.mkdir(parents=True, exist_ok=True)
        (own / "enter").write_text(_ENTER.format(**names))
        (own / "sh").write_text(
            '#!/bin/bash\nexec -a sh /bin/bash "${@/unset -f unset printf/unset -f unset}"\n'
        )
        (own / "sh").chmod(0o755)
        for tool in TOOLS:
            real = _REAL.get(tool, f"/usr/bin/{tool}")
            script = f'#!/bin/sh\nt={self._say}/{tool}\n[ -e $t ] && . $t\nexec {real} "$@"\n'
            (self._bin / tool).write_text(script)
            (self._bin / tool).chmod(0o755)
        self.ground.mkdir(exist_ok=True)
        lay(self._mirror, b"EVIL")

    def start(self) -> None:
        """Let it be logged in to."""
        self.server.start()

    def stop(self) -> None:
        """End it with all its sessions."""
        self.server.stop()

    def say(self, tools: dict[str, bytes], home: str | None) -> None:
        """From the next session on; ``{say}`` and ``{ground}`` in a script are the directories."""
        for path in self._say.iterdir():
            path.unlink()
        (self._say / "home").write_text((home or f"{self.ground}/in") + "\n")
        if "tar.pieces" in tools:
            tools["tar.data"] = unpacked(tools.pop("tar.pieces"), self.ground)
        for name, text in tools.items():
            for key, path in (("say", self._say), ("ground", self.ground)):
                text = text.replace(b"{%b}" % key.encode(), os.fsencode(path))
            (self._say / name).write_bytes(text)

    def plant(self, twisted: dict[str, str]) -> None:
        """The host's tree anew; ``twisted`` is what it is to the programs that move files."""
        lay(self._mirror, b"EVIL")
        for name, points_to in twisted.items():
            path = self._mirror / "in" / "twisted" / name
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            path.unlink(missing_ok=True)
            path.parent.mkdir(parents=True, exist_ok=True)
            if points_to == "|":
                os.mkfifo(path)
            elif points_to == "/":
                path.mkdir()
            elif points_to == "f":
                path.write_bytes(b"EVIL")
            else:
                path.symlink_to(points_to.format(ground=self.ground))

    def connection(self) -> Connection:
        """A new connection on the one login."""
        return Connection("hostile", ssh_config=self.server.config)


def lay(ground: Path, content: bytes) -> None:
    """The ground: a directory ``in`` for the target, and canaries everywhere."""
    if ground.exists():
        for path in ground.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    for name in ("in/canary", "in/.ssh/authorized_keys", "out/secret", "out/d/deep", "top"):
        path = ground / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    (ground / "out" / "setuid").write_bytes(content)
    (ground / "out" / "setuid").chmod(0o4755)
    for tree in ("in/tree", "in/twisted"):
        if content == b"EVIL":
            (ground / "in" / "new").write_bytes(content)
            (ground / "out" / "new").write_bytes(content)
            top = ground / tree
            (top / "sub").mkdir(parents=True)
            (top / "good").write_bytes(b"new good")
            (top / "sub" / "evil").write_bytes(b"EVIL")
            (top / "link").symlink_to("good")
            (top / "y").write_bytes(b"EVIL")
            (top / "x").mkdir()
            for name in ("secret", "canary", "authorized_keys", "new"):
                (top / "x" / name).write_bytes(b"EVIL")


def lay_target(ground: Path) -> Path:
    """A target that is there already, with links that may have come the day before."""
    target = ground / "in" / "t"
    (target / "sub").mkdir(parents=True)
    (target / "good").write_bytes(b"old good")
    (target / "sub" / "evil").write_bytes(b"old evil")
    (target / "dlink").symlink_to("../../out")
    (target / "flink").symlink_to("../../out/secret")
    return target


Facts = dict[str, tuple[object, ...]]


def look(top: Path, without: Path | None = None) -> Facts:
    """Everything below a directory: kinds, modes, links, contents."""
    found: Facts = {}
    for folder, directories, files in os.walk(top):
        directories[:] = [name for name in directories if Path(folder, name) != without]
        for name in (*directories, *files):
            path = Path(folder, name)
            if path == without:
                continue
            facts = path.lstat()
            more: object = ""
            if stat.S_ISLNK(facts.st_mode):
                more = os.readlink(path)
            elif stat.S_ISREG(facts.st_mode):
                more = (facts.st_nlink, facts.st_size, facts.st_mtime_ns)
                more = (more, hashlib.sha256(path.read_bytes()).hexdigest())
            found[str(path.relative_to(top))] = (stat.filemode(facts.st_mode), facts.st_ino, more)
    return found


def forget_reads(top: Path) -> None:
    """All files were read long ago, so that the next read is seen (relatime)."""
    for path in top.rglob("*"):
        if path.is_file() and not path.is_symlink():
            os.utime(path, ns=(LONG_AGO, path.stat().st_mtime_ns))


def was_read(top: Path, without: Path) -> list[str]:
    """Files that were read since ``forget_reads``."""
    return [
        str(path.relative_to(top))
        for path in top.rglob("*")
        if path.is_file() and not path.is_symlink() and without not in path.parents
        if path.stat().st_atime_ns != LONG_AGO
    ]
