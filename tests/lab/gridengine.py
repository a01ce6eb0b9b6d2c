"""A real Grid Engine of one host on one machine of the lab: sge_qmaster and sge_execd.

Debian's packages are not installed (their qsub is at odds with that of other schedulers, and they
want a mail server and a user): ``scripts/test`` unpacks them below ``.venv/unpacked``, and
everything runs from there, with SGE_ROOT, cell and spool in the lab's directory.  Its programs look
for parts of theirs in ``/usr/lib/gridengine``: in the lab's own mounts, they find them there.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.lab import namespaces
from tests.lab.network import Machine
from tests.lab.parts import UNPACKED
from tests.lab.room import Room, open_room
from tests.lab.site import Host
from tests.lab.slurm import Daemon, end_jobs, know_host, wait_until

PACKAGES = UNPACKED / "gridengine"
COMMANDS = ("qacct", "qalter", "qconf", "qdel", "qhold", "qhost", "qmod", "qrls", "qstat", "qsub")

_BOOTSTRAP = """\
admin_user none
default_domain none
ignore_fqdn false
spooling_method classic
spooling_lib libspoolc
spooling_params {root}/default/common;{root}/spool/qmaster
binary_path {binaries}
qmaster_spool_dir {root}/spool/qmaster
security_mode none
listener_threads 2
worker_threads 2
scheduler_threads 1
"""
# What qstat, and nothing else, needs: the site's file, as users have it in their profile.
_SETTINGS = """\
SGE_ROOT={root}; export SGE_ROOT
SGE_CELL=default; export SGE_CELL
PATH={root}/bin:$PATH; export PATH
"""
# Records are written at once; the default lets a job be in neither place for 15 seconds.
_REPORTING = (
    "accounting=true reporting=false flush_time=00:00:01 accounting_flush_time=00:00:00 "
    "joblog=false sharelog=00:00:00"
)


class GridEngineLab:
    """Grid Engine on one machine of the lab's network: queues all.q (eight slots) and short.q.

    ``master`` and ``host`` are the daemons, for tests that stop them.  ``prologue`` is what a user
    has in the profile there.
    """

    queues = ("all.q", "short.q")

    def __init__(self, directory: Path, machine: Machine) -> None:
        namespaces.require_own("a Grid Engine")
        self.directory, self.machine = directory, machine
        self._binaries = Path("/usr/lib/gridengine")
        self._environment = ["env", f"SGE_ROOT={directory}", "SGE_CELL=default", "SGE_ND=1"]
        # What qconf prints can be given back to it.
        self._environment.append("SGE_SINGLE_LINE=1")
        self._libraries = f"LD_LIBRARY_PATH={self._binaries}"
        self.prologue = f". {directory}/default/common/settings.sh"
        self.master = self._daemon("sge_qmaster")
        self.host = self._daemon("sge_execd")

    def _daemon(self, program: str) -> Daemon:
        argv = [*self.machine.enter, *self._environment, self._libraries]
        argv.append(str(self._binaries / program))
        return Daemon(program, argv, self.directory / f"{program}.out")

    def start(self) -> None:
        """Bring it all up; returns when jobs can run."""
        self._write_files()
        self.start_master()
        self._configure()
        self.start_host()

    def start_master(self) -> None:
        """Start the master; returns when it answers."""
        self.master.start()
        self._wait("sge_qmaster", lambda: bool(self.command("qconf", "-sm", check=False)))

    def start_host(self) -> None:
        """Start the host's daemon; returns when the master knows it."""
        self.host.start()
        self._wait("the host", self._host_answers)

    def _host_answers(self) -> bool:
        queues = self.command("qstat", "-f", "-q", "all.q", check=False)
        lines = [line for line in queues.splitlines() if line.startswith("all.q@")]
        # The last column is the queue's state, empty when all is well.
        return len(lines) == 1 and len(lines[0].split()) == 5 and "-NA-" not in lines[0]

    def command(self, *argv: str, user: str | None = None, check: bool = True) -> str:
        """The output of one of its commands on the login node, not through ssh."""
        program = str(self.directory / "bin" / argv[0])
        words = (*self._environment, program, *argv[1:])
        return self.machine.output(*words, user=user, check=check)

    def accounting(self, job_id: str) -> list[dict[str, str]]:
        """The records that its own accounting has of a job, in order."""
        number, _, task = job_id.partition(".")
        tasks = ["-t", task] if task else []
        said = self.command("qacct", "-j", number, *tasks, check=False)
        records: list[dict[str, str]] = []
        for line in said.splitlines():
            key, _, value = line.partition(" ")
            if line.startswith("==="):
                records.append({})
            elif records and key:
                records[-1].setdefault(key, value.strip())
        return records

    def own_word(self, job_id: str) -> tuple[str, str]:
        """The words ``failed`` and ``exit_status`` of its accounting, of the last run of a job."""
        record = self.accounting(job_id)[-1]
        return record["failed"].partition(":")[0].strip(), record["exit_status"].split()[0]

    def letters(self, job_id: str) -> str:
        """The state of a job in qstat's own letters, empty for one that it does not list."""
        rows = (line.split() for line in self.command("qstat", "-u", "*").splitlines())
        return next((row[4] for row in rows if row[:1] == [job_id]), "")

    def _wait(self, what: str, condition: Callable[[], bool], patience: float = 30) -> None:
        wait_until(what, condition, self.host, self.master, patience=patience)

    def _write_files(self) -> None:
        root = self.directory
        for name in ("bin", "default/common", "spool/qmaster", "spool/execd", "files"):
            (root / name).mkdir(mode=0o755, parents=True)
        (root / "tmp").mkdir()
        (root / "tmp").chmod(0o1777)
        # Nothing is written: a layer of the packages' files over the machine's, for this lab only.
        layered = f"lowerdir={PACKAGES}/usr/lib:/usr/lib"
        mount = ["mount", "-t", "overlay", "overlay", "-o", layered, "/usr/lib"]
        subprocess.run(mount, check=True, timeout=20)
        for command in COMMANDS:
            (root / "bin" / command).symlink_to(self._binaries / command)
        shutil.copytree(PACKAGES / "usr/share/gridengine/util", root / "util", symlinks=True)
        common = root / "default" / "common"
        name = self.machine.name
        (common / "bootstrap").write_text(_BOOTSTRAP.format(root=root, binaries=self._binaries))
        (common / "act_qmaster").write_text(f"{name}\n")
        (common / "host_aliases").write_text(f"{name} localhost\n")
        (common / "settings.sh").write_text(_SETTINGS.format(root=root))
        know_host("10.88.2.2", name)
        shared = PACKAGES / "usr/share/gridengine"
        configuration = (shared / "default-configuration").read_text()
        lines = {
            "execd_spool_dir": f"{root}/spool/execd",
            "reporting_params": _REPORTING,
            "mailer": "/bin/true",
            "load_report_time": "00:00:02",
            "max_unheard": "00:00:20",
        }
        (root / "files" / "global").write_text(
            "".join(_changed(line, lines) for line in configuration.splitlines(keepends=True))
        )
        resources = shared / "util/resources"
        for words in (
            ("spoolinit", "classic", "libspoolc", f"{common};{root}/spool/qmaster", "init"),
            ("spooldefaults.bin", "configuration", str(root / "files" / "global")),
            ("spooldefaults.bin", "complexes", str(resources / "centry")),
            ("spooldefaults.bin", "usersets", str(resources / "usersets")),
            ("spooldefaults.bin", "managers", "root"),
        ):
            self._prepare(*words)

    def _prepare(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [
                *self.machine.enter,
                *self._environment,
                self._libraries,
                str(self._binaries / program),
                *arguments,
            ],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, f"{program} {arguments}: {done.stdout}{done.stderr}"

    def _configure(self) -> None:
        """One host, two queues, a scheduler that looks every second."""
        name = self.machine.name
        self.command("qconf", "-as", name)
        self.command("qconf", "-ah", name, check=False)
        self._change("hostgroup", "-Ahgrp", f"group_name @allhosts\nhostlist {name}\n")
        scheduler = self.command("qconf", "-ssconf")
        faster = {
            "schedule_interval": "0:0:1",
            "flush_submit_sec": "1",
            "flush_finish_sec": "1",
        }
        text = "".join(_changed(line, faster) for line in scheduler.splitlines(keepends=True))
        self._change("scheduler", "-Msconf", text)
        for queue, slots in (("all.q", "8"), ("short.q", "1")):
            template = self.command("qconf", "-sq")
            wanted = {
                "qname": queue,
                "hostlist": "@allhosts",
                "slots": slots,
                "load_thresholds": "NONE",
                "shell": "/bin/sh",
                "notify": "00:00:02",
                "pe_list": "NONE",
                # The machine's own /tmp would keep what a job leaves that is deleted by force.
                "tmpdir": str(self.directory / "tmp"),
            }
            if queue == "short.q":
                wanted["h_rt"] = "0:10:0"
            text = "".join(_changed(line, wanted) for line in template.splitlines(keepends=True))
            self._change(queue, "-Aq", text)

    @contextlib.contextmanager
    def configured(self, **values: str) -> Iterator[None]:
        """The site's configuration with other values, for a while."""
        reported = self.command("qconf", "-sconf", "global").splitlines(keepends=True)
        usual = [line for line in reported if not line.startswith(("#", "conf_version"))]
        self._change("global", "-Mconf", "".join(_changed(line, values) for line in usual))
        try:
            yield
        finally:
            self._change("global", "-Mconf", "".join(usual))

    @contextlib.contextmanager
    def queue_with(self, queue: str, attribute: str, value: str, usual: str) -> Iterator[None]:
        """A queue with another attribute, for a while."""
        change = ("qconf", "-rattr", "queue", attribute)
        self.command(*change, value, queue)
        try:
            yield
        finally:
            self.command(*change, usual, queue)

    def _change(self, name: str, option: str, text: str) -> None:
        path = self.directory / "files" / name
        path.write_text(text)
        self.command("qconf", option, str(path))

    def stop(self) -> None:
        """End every job and both daemons."""
        if self.master.running():
            self.command("qdel", "-f", "-u", "*", check=False)
        # They take their time to end in order, and nothing of theirs is kept.
        self.host.stop(number=signal.SIGKILL)
        self.master.stop(number=signal.SIGKILL)
        end_jobs("sge_shepherd")
        subprocess.run(
            ["umount", "--lazy", "/usr/lib"], capture_output=True, timeout=20, check=False
        )


@contextlib.contextmanager
def open_grid_room(host: Host, lab: GridEngineLab, local: Path) -> Iterator[Room]:
    """A room whose jobs Grid Engine runs; it is left when none of the user's is listed."""
    with open_room(host, "sge", None, local, prologue=lab.prologue) as room:
        yield room
        lab.command("qdel", "-u", host.user, check=False)
        deadline = time.monotonic() + 20
        while lab.command("qstat", "-u", host.user).strip():
            assert time.monotonic() < deadline, "jobs that do not go"
            time.sleep(0.1)


def _changed(line: str, wanted: dict[str, str]) -> str:
    """A line of a configuration, with the value that is wanted."""
    key = line.split(None, 1)[0] if line.strip() else ""
    return f"{key} {wanted[key]}{os.linesep}" if key in wanted else line
