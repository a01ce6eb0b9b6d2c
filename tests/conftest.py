"""Every test runs against real programs, in an environment of its own.

Run by root, pytest starts itself again inside namespaces of its own (tests/lab/namespaces.py), so
that a real Slurm, real users and real cables can come and go without the machine noticing.
``OPENSSH_JOBS_LAB=none`` leaves that out; a plain user has no choice, and what needs it is skipped.
"""

from __future__ import annotations

import faulthandler
import gc
import itertools
import os
import pwd
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from types import FrameType
from typing import TYPE_CHECKING, Any, Literal

import hypothesis
import pytest

from tests.lab import leaks, namespaces, parts
from tests.lab.gridengine import GridEngineLab
from tests.lab.ledger import Ledger
from tests.lab.site import Host, Site
from tests.lab.slurm import SlurmLab
from tests.lab.sshd import Sshd
from tests.paths import CHECKOUT
from tests.shares import Shares

if TYPE_CHECKING:
    from openssh_jobs import Connection
    from tests.lab.interactive import InteractiveServer

# No test fails because the machine is busy.
hypothesis.settings.register_profile(
    "patient", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
# scripts/test --unit takes a quarter of the examples; the whole run takes all.
hypothesis.settings.register_profile(
    "short", hypothesis.settings.get_profile("patient"), max_examples=25
)
hypothesis.settings.load_profile("patient")

LEDGER = Ledger()
_REAL_HOME = Path(pwd.getpwuid(os.geteuid()).pw_dir)
_DIRECTORY = pytest.StashKey[Path]()
_TRACES = pytest.StashKey[set[str]]()
_TROUBLE = pytest.StashKey[list[str]]()
_WATCH_ENDS = pytest.StashKey[float]()
_SHARES = pytest.StashKey[Shares]()
_LONGEST_TEST = 1800.0


# -- the run ------------------------------------------------------------------------------------


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """As root, go on in the lab's namespaces; this process becomes the one that waits for it."""
    # An IDE that calls pytest.main() would not survive being replaced.
    from_a_shell = Path(sys.argv[0]).name in ("pytest", "py.test", "__main__.py")
    wanted = namespaces.MARK not in os.environ and from_a_shell
    if wanted and os.geteuid() == 0 and namespaces.why_not() is None:
        arguments = [str(word) for word in config.invocation_params.args]
        command = [sys.executable, *_warning_options(), "-m", "pytest", *arguments]
        os.chdir(config.invocation_params.dir)
        sys.stdout.flush()
        sys.stderr.flush()
        argv = namespaces.command_line(command)
        os.execvp(argv[0], argv)


def _warning_options() -> list[str]:
    return [f"-W{option}" for option in sys.warnoptions]


def pytest_addoption(parser: pytest.Parser) -> None:
    text = "run the files of the Nth of OF shares (tests/shares.py): all N together are the suite"
    parser.addoption("--share", metavar="N/OF", help=text)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Whole files, because the tests of a file share what they start; others are not imported."""
    name = collection_path.name
    if config.option.share is None or not (name.startswith("test_") and name.endswith(".py")):
        return None
    number, of = map(int, config.option.share.split("/"))
    if not 1 <= number <= of:
        raise pytest.UsageError(f"--share {config.option.share}: there is no such share")
    # Every share sees all files, in the same order.
    shares = config.stash.setdefault(_SHARES, Shares(of, config.getini("testpaths")[0]))
    file = PurePosixPath(collection_path.relative_to(CHECKOUT))
    return True if shares.share_of(file) != number else None


def pytest_configure(config: pytest.Config) -> None:
    """A short private directory: sockets must have names of at most 90 bytes."""
    _take_usual_signals()
    if namespaces.inside():
        directory = namespaces.LAB
    else:
        directory = Path(tempfile.mkdtemp(prefix="ojt", dir="/tmp"))
        directory.chmod(0o755)
        (directory / "tmp").mkdir()
    config.stash[_DIRECTORY] = directory
    config.stash[_TRACES] = leaks.traces(_REAL_HOME)
    config.stash[_TROUBLE] = []
    config.stash[_WATCH_ENDS] = 0.0


def pytest_collection_finish() -> None:
    """Thousands of tests stay to the end: no collection of garbage looks at them again."""
    gc.collect()
    gc.freeze()


def _take_usual_signals() -> None:
    """Programs that tests start and interrupt must not inherit that a signal is ignored.

    nohup, and a shell that starts the tests in the background, ignore some.
    """
    usual: dict[int, signal.Handlers | Callable[[int, FrameType | None], Any]] = {
        signal.SIGINT: signal.default_int_handler,
        signal.SIGTERM: signal.SIG_DFL,
        signal.SIGHUP: signal.SIG_DFL,
        signal.SIGQUIT: signal.SIG_DFL,
        signal.SIGCHLD: signal.SIG_DFL,
    }
    for number, handler in usual.items():
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, handler)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> None:
    """No wait of a test is for ever: the run ends, and says where it was."""
    # Each call starts a thread: one for every ten seconds of tests, not for every test.
    now = time.monotonic()
    if now >= item.config.stash[_WATCH_ENDS]:
        assert sys.__stderr__ is not None
        faulthandler.dump_traceback_later(_LONGEST_TEST, exit=True, file=sys.__stderr__)
        item.config.stash[_WATCH_ENDS] = now + 10


def pytest_report_header(config: pytest.Config) -> str:
    if namespaces.inside():
        return "lab: mount, network and process namespaces of its own"
    unseen = "" if leaks.has_processes() else "; no /proc: nobody looks for processes left behind"
    switched_off = os.environ.get(namespaces.MARK) == "none"
    why = "switched off" if switched_off else namespaces.why_not() or "switched off"
    return f"lab: none, everything on loopback: {why}{unseen}"


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """All fixtures are down: whatever is still there, or does not add up, fails the run."""
    config = session.config
    faulthandler.cancel_dump_traceback_later()
    directory, trouble = config.stash[_DIRECTORY], config.stash[_TROUBLE]
    trouble += [f"left running: {line}" for line in leaks.wait_for_processes(directory)]
    before = config.stash[_TRACES]
    left = leaks.traces(_REAL_HOME) - before
    trouble += [f"left on disk: {name}" for name in sorted(left)]
    text, right = LEDGER.report()
    if not right:
        trouble.append(f"does not add up: {text}")
    if trouble and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    if LEDGER.hosts or LEDGER.retired:
        terminalreporter.write_line(LEDGER.report()[0])
    for line in config.stash[_TROUBLE]:
        terminalreporter.write_line(line, red=True)


def pytest_unconfigure(config: pytest.Config) -> None:
    directory = config.stash.get(_DIRECTORY, None)
    if directory is not None and not namespaces.inside():
        shutil.rmtree(directory, ignore_errors=True)


# -- environment --------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def lab_directory(pytestconfig: pytest.Config) -> Path:
    """The directory that the run may write to: short, and readable to the users of the lab."""
    return pytestconfig.stash[_DIRECTORY]


@pytest.fixture(scope="session", autouse=True)
def private_environment(lab_directory: Path) -> Iterator[None]:
    """HOME, XDG directories, sockets and settings of our own; no agent, no askpass, no Slurm."""
    home = lab_directory / "me"
    runtime = lab_directory / "r"
    for directory in (home, runtime):
        directory.mkdir(mode=0o700)
    with pytest.MonkeyPatch.context() as patch:
        for name in ("SSH_", "SLURM_", "SBATCH_", "SGE_", "PBS_", "OPENSSH_JOBS_", "XDG_"):
            for variable in [known for known in os.environ if known.startswith(name)]:
                if variable != namespaces.MARK:
                    patch.delenv(variable)
        for variable in ("DISPLAY", "WAYLAND_DISPLAY"):
            patch.delenv(variable, raising=False)
        for variable, value in {
            "HOME": home,
            "TMPDIR": lab_directory / "tmp",
            "XDG_CONFIG_HOME": home / ".config",
            "XDG_STATE_HOME": home / ".state",
            "XDG_CACHE_HOME": home / ".cache",
            "XDG_DATA_HOME": home / ".share",
            "OPENSSH_JOBS_RUNTIME_DIR": runtime,
            "OPENSSH_JOBS_CONFIG": home / "servers.toml",
        }.items():
            patch.setenv(variable, str(value))
        yield


_numbers = itertools.count(1)


@pytest.fixture
def cold(lab_directory: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty socket directory and no memory of any host: whatever connects has to log in.

    Say so with ``expect_logins``, and stop the masters that you open: one that is left fails.
    """
    directory = lab_directory / f"c{next(_numbers)}"
    directory.mkdir(mode=0o700)
    for variable, name in {
        "OPENSSH_JOBS_RUNTIME_DIR": "r",
        "XDG_STATE_HOME": "s",
        "XDG_CACHE_HOME": "k",
        "XDG_CONFIG_HOME": "g",
    }.items():
        (directory / name).mkdir(mode=0o700)
        monkeypatch.setenv(variable, str(directory / name))
    yield directory / "r"
    left = leaks.wait_for_processes(directory, named_only=True)
    assert left == [], "masters or clients of this test still run"


# -- logins -------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def _logins_add_up(request: pytest.FixtureRequest) -> Iterator[None]:
    """No test may log in more or less often than it says (not at all, if it says nothing)."""
    before = LEDGER.counts()
    fixtures, bastions = LEDGER.by_fixtures, LEDGER.at_bastions
    meant: dict[str, int] = {"hosts": 0}
    request.node.stash[_MEANT] = meant
    inner_before = _behind_bastions()
    yield
    seen = LEDGER.counts()
    logins = seen["hosts"] - before["hosts"] - (LEDGER.by_fixtures - fixtures)
    on_the_way = seen["bastions"] - before["bastions"] - (LEDGER.at_bastions - bastions)
    inner = _behind_bastions() - inner_before - (LEDGER.at_bastions - bastions)
    LEDGER.by_tests += meant["hosts"]
    LEDGER.at_bastions += meant.get("bastions", inner)
    assert logins == meant["hosts"], f"{logins} logins, and {meant['hosts']} were meant"
    assert on_the_way == meant.get("bastions", inner), (
        f"{on_the_way} logins at the bastion, {inner} behind it"
    )


_MEANT = pytest.StashKey[dict[str, int]]()


def _behind_bastions() -> int:
    return sum(server.logins() for server in LEDGER.hosts if server.alias == "inner")


@pytest.fixture
def expect_logins(request: pytest.FixtureRequest) -> Callable[..., None]:
    """``expect_logins(2)``: this test logs in exactly twice, over all hosts.

    Logins at the bastion have to be as many as at the host behind it; ``bastions=3`` says else.
    """

    def expect(number: int, *, bastions: int | None = None) -> None:
        meant = request.node.stash[_MEANT]
        meant["hosts"] = number
        if bastions is not None:
            meant["bastions"] = bastions

    return expect


# -- hosts --------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def site(lab_directory: Path) -> Iterator[Site]:
    """The login node, its bastion and the agent.  Nobody is logged in; see ``cold``."""
    parts.require("ssh", "sshd")
    if namespaces.inside():
        parts.require("network")
    site = Site(lab_directory / "s")
    try:
        site.start()
        for server in site.servers():
            LEDGER.add(server, bastion=server is site.bastion)
        yield site
    finally:
        site.stop()


@pytest.fixture(scope="session")
def _shared_masters(site: Site) -> Iterator[dict[str, Any]]:
    masters: dict[str, Any] = {}
    yield masters
    for connection in masters.values():
        connection.close(stop_master=True)


def _warm(route: str, site: Site, masters: dict[str, Any]) -> Host:
    """The host, with the master open that all tests share (so a test on it adds no login)."""
    import openssh_jobs

    host = site.host(route)
    before = LEDGER.counts()
    if route not in masters:
        masters[route] = openssh_jobs.Connection(host.alias, ssh_config=host.config)
    masters[route].open()
    opened: Counter[str] = LEDGER.counts()
    opened.subtract(before)
    LEDGER.by_fixtures += opened["hosts"]
    LEDGER.at_bastions += opened["bastions"]
    return host


@pytest.fixture
def sshd(site: Site, _shared_masters: dict[str, Any]) -> Host:
    """The login node, straight; its master is open."""
    return _warm("direct", site, _shared_masters)


@pytest.fixture
def jump(site: Site, _shared_masters: dict[str, Any]) -> Host:
    """The login node through the bastion, with a key that only the agent has; master open."""
    return _warm("jump", site, _shared_masters)


@pytest.fixture(scope="session")
def slurm(site: Site, lab_directory: Path) -> Iterator[SlurmLab]:
    """A real Slurm on the login node: submit as ``hpcalice`` through ``sshd`` or ``jump``."""
    parts.require("slurm")
    parts.require_namespaces("a Slurm")
    assert site.network is not None
    slurm = SlurmLab(lab_directory / "slurm", site.network.login)
    try:
        slurm.start()
        yield slurm
    finally:
        slurm.stop()


@pytest.fixture(scope="session")
def gridengine(site: Site, lab_directory: Path) -> Iterator[GridEngineLab]:
    """A real Grid Engine on the login node, for those who begin with its ``prologue``."""
    parts.require("gridengine")
    parts.require_namespaces("a Grid Engine")
    assert site.network is not None
    lab = GridEngineLab(lab_directory / "gridengine", site.network.login)
    try:
        lab.start()
        yield lab
    finally:
        lab.stop()


@pytest.fixture(params=["direct", "jump"])
def route(request: pytest.FixtureRequest) -> str:
    """Both ways to the login node."""
    return str(request.param)


@pytest.fixture(params=["mux", "process"])
def backend(request: pytest.FixtureRequest) -> Literal["mux", "process"]:
    """Both backends of the exec lane."""
    return "mux" if request.param == "mux" else "process"


@pytest.fixture
def host(route: str, site: Site, _shared_masters: dict[str, Any]) -> Host:
    """The login node by each route; its master is open."""
    return _warm(route, site, _shared_masters)


@pytest.fixture
def connection(host: Host, backend: Literal["mux", "process"]) -> Iterator[Connection]:
    """A connection by each route and backend, on the shared master."""
    import openssh_jobs

    connection = openssh_jobs.Connection(host.alias, ssh_config=host.config, exec_backend=backend)
    with connection:
        yield connection


@pytest.fixture
def make_sshd(lab_directory: Path) -> Iterator[Callable[..., Host]]:
    """``make_sshd(max_sessions=1, shell=("tcsh",), files={".bashrc": "echo hi"}) -> Host``.

    A server for this test alone, with a private home; arguments as for ``Sshd``.  Nobody is
    logged in: use it with ``cold`` or an ``expect_logins`` of your own.
    """
    parts.require("ssh", "sshd")
    started: list[Sshd] = []

    def make(**variant: Any) -> Host:
        files = variant.get("files") or ()
        if any(name.startswith(".bash") for name in files) and not variant.get("shell"):
            parts.require_bash_account()
        user = "hpcalice" if namespaces.inside() else None
        directory = lab_directory / f"v{next(_numbers)}"
        server = Sshd(directory, **{"alias": "private", "user": user, **variant})
        started.append(server)
        server.start()
        LEDGER.add(server)
        return Host(
            alias=server.alias,
            config=server.config,
            home=server.home,
            user=server.user,
            server=server,
        )

    yield make
    for server in started:
        server.stop()
        if server in LEDGER.hosts:
            LEDGER.retire(server)


@pytest.fixture
def asking(cold: Path) -> Iterator[Callable[..., InteractiveServer]]:
    """``asking("alias", steps=[...]) -> InteractiveServer``: a server that asks for secrets."""
    from tests.lab.interactive import InteractiveServer

    parts.require("ssh")
    started: list[InteractiveServer] = []

    def make(alias: str = "asks", **variant: Any) -> InteractiveServer:
        one = InteractiveServer(cold.parent / f"i{next(_numbers)}", alias, **variant)
        one.start()
        started.append(one)
        return one

    yield make
    for one in started:
        one.stop()
