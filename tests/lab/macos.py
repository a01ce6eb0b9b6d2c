"""What a Mac has not, on Linux:  python -m tests.lab.macos COMMAND...   (as root)

The command runs as a plain user, in mounts of its own, where

* ``/proc`` is empty (``ps`` reads it elsewhere, and prints what BSD's does);
* tools that macOS lacks are gone: setsid, timeout, flock, sha256sum, getent, ...;
* tar is bsdtar, and stat, find, date, sed, wc, ... refuse what only GNU's understand;
* 256 files can be open at once.

Nothing of the machine is changed: the mounts end with the command.
"""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

from tests.lab import namespaces
from tests.paths import CHECKOUT

TOP = Path("/run/macos")
GNU = TOP / "gnu"
PROC = TOP / "proc"
USER, NUMBER = "plain", 7003

LACKING = (
    *("b2sum", "busybox", "chrt", "flock", "free", "getent", "gawk", "ionice", "ip", "ldd"),
    *("md5sum", "nproc", "nsenter", "numfmt", "pidof", "pmap", "prlimit", "setsid", "sha1sum"),
    *("sha224sum", "sha256sum", "sha384sum", "sha512sum", "shuf", "stdbuf", "strace", "tac"),
    *("taskset", "timeout", "unshare", "watch"),
)
# Options that BSD's tool of that name does not take; ``--*`` is any long one.
REFUSED = {
    "base64": ("-w*", "--*"),
    "chmod": ("--*",),
    "chown": ("--*",),
    "cp": ("-t*", "-T", "--*"),
    "date": ("-d*", "--*"),
    "df": ("--*",),
    "du": ("-b", "--*"),
    "grep": ("-P*", "--perl*"),
    "head": ("-n-*", "--*"),
    "hostname": ("-i", "-I", "--*"),
    "ln": ("-T", "-t*", "-r", "--*"),
    "ls": ("--*",),
    "mkdir": ("--*",),
    "mktemp": ("--*",),
    "mv": ("-T", "-t*", "--*"),
    "od": ("-w*", "--*"),
    "readlink": ("-f", "-e", "-m", "--*"),
    "rm": ("--*",),
    "rmdir": ("--*",),
    "sed": ("-z", "-s", "--*"),
    "sleep": ("infinity", "--*"),
    "sort": ("--*",),
    "tail": ("--*",),
    "touch": ("--*",),
    "xargs": ("-d*", "-a*", "--*"),
}
_CALL = {"sed": "sed --posix"}
_REFUSES = """\
#!/bin/bash
# {name} as on macOS: GNU's own, but for what BSD's does not know.
for word; do
  case $word in
    --) break ;;
    {refused}) echo "{name}: illegal option -- ${{word#-}}" >&2; exit 1 ;;
  esac
done
exec -a {name} {gnu}/{call} "$@"
"""
_WC = f"""\
#!/bin/sh
# wc as on macOS: numbers of eight columns, also when it is only one.
{GNU}/wc "$@" | while read -r line; do
  set -- $line
  while [ $# -gt 0 ]; do
    case $1 in *[!0-9]*) printf ' %s' "$1" ;; *) printf '%8s' "$1" ;; esac
    shift
  done
  echo
done
"""
_STAT = f"""\
#!/bin/bash
# stat as on macOS: -f FORMAT, of which the few that can be said in GNU's words.
[ "$1" != -c ] && [ "${{1#--}}" = "$1" ] || {{
  echo 'stat: illegal option -- c' >&2
  echo 'usage: stat [-FLnq] [-f format | -l | -r | -s | -x] [-t timefmt] [file ...]' >&2
  exit 1
}}
links=
case $1 in -L) links=-L; shift ;; esac
[ "$1" = -f ] || exec {GNU}/stat "$@"
case $2 in
  *%Lp*|*%z*|*%m*|*%Su*|*%u*|*%i*|*%d*|*%HT*) ;;
  *) echo "stat: $2: bad format" >&2; exit 1 ;;
esac
format=$({GNU}/printf '%s' "$2" |
  {GNU}/sed 's/%Xp/%f/; s/%Fa/%.9X/; s/%Fm/%.9Y/; s/%Fc/%.9Z/; s/%l/%h/' |
  {GNU}/sed 's/%u/%UID/; s/%Lp/%a/; s/%z/%s/; s/%m/%Y/; s/%Su/%U/; s/%UID/%u/; s/%HT/%F/')
shift 2
[ "$1" != -- ] || shift
exec -a stat {GNU}/stat $links -c "$format" -- "$@"
"""
_FIND = f"""\
#!/bin/bash
# find as on macOS.
for word; do
  case $word in
    -printf|-quit|-readable|-writable|-executable|-regextype)
      echo "find: $word: unknown primary or operator" >&2; exit 1 ;;
  esac
done
[ $# -gt 0 ] && [ "${{1#[-(!]}}" = "$1" ] || {{
  echo 'usage: find [-H | -L | -P] [-EXdsx] [-f path] path ... [expression]' >&2; exit 1; }}
exec -a find {GNU}/find "$@"
"""
_PS = f"""\
#!{sys.executable} -I
# ps -o FIELD=... -p PID[,PID...] as on macOS; of a process that is not there nothing, and 1.
import os, sys, time
PROC = {str(PROC)!r}
def fields(words):
    for word in words:
        for name in word.split(","):
            yield name.rstrip("=")
wanted, pids, words = [], [], sys.argv[1:]
while words:
    word = words.pop(0)
    if word.startswith("-o"):
        wanted += fields([word[2:] or words.pop(0)])
    elif word.startswith("-p"):
        pids += (word[2:] or words.pop(0)).split(",")
    elif word in ("-A", "-a", "-x", "-ax", "ax", "-axo"):
        pids += [name for name in os.listdir(PROC) if name.isdigit()]
        wanted += fields([words.pop(0)]) if word.endswith("o") else []
    else:
        sys.exit(f"ps: illegal argument: {{word}}")
found = 1
with open(PROC + "/stat") as handle:
    boot = next(int(line.split()[1]) for line in handle if line.startswith("btime"))
for pid in pids:
    try:
        with open(f"{{PROC}}/{{pid}}/stat") as handle:
            stat = handle.read().rpartition(")")[2].split()
        with open(f"{{PROC}}/{{pid}}/cmdline", "rb") as handle:
            command = os.fsdecode(handle.read().replace(b"\\0", b" ")).strip()
        owner = os.stat(f"{{PROC}}/{{pid}}").st_uid
    except OSError:
        continue
    if len(stat) < 20:
        continue  # it has just ended
    begun = boot + int(stat[19]) // os.sysconf("SC_CLK_TCK")
    known = {{"pid": pid, "ppid": stat[1], "pgid": stat[2], "sess": stat[3], "uid": owner,
             "stat": stat[0].replace("D", "U").replace("S", "Ss"), "state": stat[0],
             "lstart": time.strftime("%a %b %e %H:%M:%S %Y", time.localtime(begun)),
             "command": command, "args": command, "comm": command.split(" ")[0]}}
    try:
        print(*(f"{{known[name]:<5}}" for name in wanted))
    except KeyError as error:
        sys.exit(f"ps: {{error.args[0]}}: keyword not found")
    found = 0
sys.exit(found)
"""
_UPTIME = f"""\
#!/bin/sh
read -r one five fifteen rest <{PROC}/loadavg
echo "12:00  up 3 days,  4:05, 2 users, load averages: $one $five $fifteen"
"""


def _shims() -> dict[str, str]:
    found = {
        name: _REFUSES.format(
            name=name, refused="|".join(refused), gnu=GNU, call=_CALL.get(name, name)
        )
        for name, refused in REFUSED.items()
    }
    return {
        **found,
        "wc": _WC,
        "stat": _STAT,
        "find": _FIND,
        "ps": _PS,
        "uptime": _UPTIME,
        "tar": f'#!/bin/bash\nexec -a tar {GNU}/bsdtar "$@"\n',
    }


def _open(path: Path, name: str) -> None:
    """Let the user get to a path below a directory that is closed to others."""
    closed = [above for above in reversed(path.parents) if not above.stat().st_mode & 0o001]
    if closed:
        copy = TOP / name
        copy.mkdir()
        _mount("--bind", str(path), str(copy))
        _mount("-t", "tmpfs", "-o", "mode=755", "tmpfs", str(closed[0]))
        path.mkdir(parents=True)
        _mount("--bind", str(copy), str(path))


def _mount(*words: str) -> None:
    subprocess.run(["mount", *words], check=True, timeout=20)


def _prepare() -> None:
    _mount("--make-rprivate", "/")
    _mount("-t", "tmpfs", "-o", "mode=755", "tmpfs", "/run")
    for place in (TOP, GNU, PROC, TOP / "bin", TOP / "work", TOP / "dev"):
        place.mkdir(mode=0o755)
    home = TOP / "home"
    home.mkdir(mode=0o700)
    os.chown(home, NUMBER, NUMBER)
    for table, line in {
        "passwd": f"{USER}:x:{NUMBER}:{NUMBER}::{home}:/bin/sh",
        "group": f"{USER}:x:{NUMBER}:",
    }.items():
        copy = TOP / table
        copy.write_text(Path("/etc", table).read_text() + line + "\n")
        _mount("--bind", str(copy), f"/etc/{table}")
    _open(Path(sys.base_prefix), "python")
    _open(CHECKOUT, "checkout")
    _mount("--bind", "/usr/bin", str(GNU))
    _mount("--bind", "/proc", str(PROC))
    # Some tests leave out PATH, so the tools themselves are other ones, in a layer over theirs.
    for name in LACKING:
        if (GNU / name).exists():
            os.mknod(TOP / "bin" / name, 0o020000, 0)
    for name, text in _shims().items():
        if (GNU / name).exists():
            (TOP / "bin" / name).write_text(text)
            (TOP / "bin" / name).chmod(0o755)
    layers = f"lowerdir=/usr/bin,upperdir={TOP / 'bin'},workdir={TOP / 'work'}"
    _mount("-t", "overlay", "overlay", "-o", layers, "/usr/bin")
    # /dev/fd is a link into /proc here, and a file system of its own there.
    _mount("--rbind", "/dev", str(TOP / "dev"))
    _mount("-t", "tmpfs", "-o", "mode=755", "tmpfs", "/dev")
    for name in ("null", "zero", "full", "random", "urandom", "tty", "ptmx", "pts", "shm"):
        if (TOP / "dev" / name).exists():
            Path("/dev", name).symlink_to(TOP / "dev" / name)
    for name, link in {"fd": "fd", "stdin": "fd/0", "stdout": "fd/1", "stderr": "fd/2"}.items():
        Path("/dev", name).symlink_to(PROC / "self" / link)
    _mount("-t", "tmpfs", "-o", "mode=555,ro", "tmpfs", "/proc")


def main(command: list[str]) -> int:
    """Run the command there; it takes the place of this process."""
    missing = [name for name in ("bsdtar", "mount") if shutil.which(name) is None]
    if os.geteuid() != 0 or missing:
        why = f"needs {' and '.join(missing)}" if missing else "needs root, which it then gives up"
        print(f"tests.lab.macos {why}.", file=sys.stderr)
        return 2
    namespaces.leave(namespaces.NEW_MOUNTS)
    _prepare()
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, 4096))
    os.setgroups([])
    os.setgid(NUMBER)
    os.setuid(NUMBER)
    os.umask(0o022)
    if not os.access(CHECKOUT / "setup.cfg", os.R_OK):
        print(f"A plain user cannot read {CHECKOUT}.", file=sys.stderr)
        return 2
    environment = {
        "HOME": str(TOP / "home"),
        "HYPOTHESIS_STORAGE_DIRECTORY": str(TOP / "home" / "hypothesis"),
        "LANG": os.environ.get("LANG", "C.UTF-8"),
        "LOGNAME": USER,
        "PATH": "/usr/bin:/bin:/usr/sbin:/sbin",
        "PYTHONDONTWRITEBYTECODE": "1",
        "TMPDIR": str(TOP / "home"),
        "USER": USER,
        **{
            name: value
            for name, value in os.environ.items()
            if name.startswith(("OPENSSH_JOBS_LAB", "COVERAGE_", "PYTHONPATH"))
        },
    }
    os.execvpe(command[0], command, environment)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
