"""Shared by processes: results and errors that travel, forks while sessions are held."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from openssh_jobs import Connection
from openssh_jobs.errors import CommandFailed, CommandTimeout, ConnectError, OpenSSHJobsError
from tests.helpers import processes, run_client
from tests.lab.site import Host


def same(one: Any, other: Any) -> bool:
    if isinstance(one, OpenSSHJobsError):
        return (type(one), str(one), one.sent) == (type(other), str(other), other.sent)
    return bool(one == other)


def test_results_and_errors_travel(connection: Connection, host: Host) -> None:
    things: list[Any] = [
        connection.run("echo ä; exit 3"),
        connection.stat("/"),
        connection.scandir("/etc")[0],
        connection.disk_usage("/"),
        connection.check(),
        connection.stats(),
        connection.features,
    ]
    calls: list[Callable[[], object]] = [
        lambda: connection.run("exit 3", check=True),
        lambda: connection.run("sleep 60", timeout=1),
        lambda: connection.run("kill -9 0"),
        lambda: connection.stat("/no/such"),
        lambda: connection.run("true", cwd="/no/such"),
        lambda: connection.rmtree("/"),
        lambda: Connection("no-such-host.invalid", ssh_config="none", master="existing").run("x"),
    ]
    for call in calls:
        with pytest.raises(OpenSSHJobsError) as caught:
            call()
        things.append(caught.value)
    for thing in things:
        for again in (pickle.loads(pickle.dumps(thing)), copy.copy(thing), copy.deepcopy(thing)):
            assert same(thing, again), repr(thing)
    failed, late = things[7], things[8]
    assert isinstance(failed, CommandFailed)
    assert pickle.loads(pickle.dumps(failed)).result == failed.result
    assert isinstance(late, CommandTimeout)
    assert pickle.loads(pickle.dumps(late)).confirmed
    with pytest.raises(ConnectError):
        raise pickle.loads(pickle.dumps(things[-1]))


POOL = """
import multiprocessing, os
from concurrent.futures import ProcessPoolExecutor
def work(number):
    result = c.run('echo %d; exit %d' % (number, number))
    try:
        c.stat('/no/such')
    except FileNotFoundError as error:
        return result, error
with c.popen('cat') as held:
    assert c.is_dir('/')                      # a shell
    c.write_text('shared', 'x'); c.get('shared', sys.argv[2] + '.got')  # an sftp
    with ProcessPoolExecutor(3, mp_context=multiprocessing.get_context(METHOD)) as pool:
        for number, (result, error) in enumerate(pool.map(work, range(6))):
            assert (result.returncode, result.stdout) == (number, '%d\\n' % number)
            assert error.filename == '/no/such' and error.host == c.host
    assert c.is_dir('/')
    assert held.communicate('still here', timeout=20) == ('still here', '')
c.remove('shared'); os.unlink(sys.argv[2] + '.got')
c.close()
"""


def test_a_pool_of_forks_while_sessions_are_held(host: Host, backend: str) -> None:
    assert run_client(POOL.replace("METHOD", "'fork'"), host, backend) == ""


FORK = """
import os, time
# The child outlives what the parent does: were its copies of the pipes open, nothing would end.
process = c.popen('cat')
process.stdin.write('buffered'); c.is_dir('/')
ready, go = os.pipe(), os.pipe()
pid = os.fork()
if pid == 0:
    code = 1
    try:
        assert c.run('echo child').stdout == 'child\\n' and c.is_dir('/')
        os.write(ready[1], b'x'); os.read(go[0], 1)
        code = 0
    finally:
        os._exit(code)
os.read(ready[0], 1)
assert process.communicate(' and more', timeout=20) == ('buffered and more', '')
assert c.is_dir('/')
assert c.run('cat', input='x' * 300000, timeout=20).stdout == 'x' * 300000
os.write(go[1], b'x')
assert os.waitpid(pid, 0)[1] == 0
assert c.is_dir('/')
c.close()
for one in (*ready, *go): os.close(one)
"""


def test_a_fork_takes_nothing_from_its_parent(host: Host, backend: str) -> None:
    assert run_client(FORK, host, backend) == ""


ASKING = """
import os, threading, time
from openssh_jobs import Cluster
cluster = Cluster(c, scheduler='direct', prologue='sleep 1', poll_interval=0)
job = cluster.submit(script_text='exec sleep 30', directory='forked')
thread = threading.Thread(target=job.status)
thread.start()
time.sleep(0.5)
assert cluster.internal.poller.is_asking
pid = os.fork()
if pid == 0:
    code = 1
    try:
        code = 0 if job.status().state == 'running' else 2
    finally:
        os._exit(code)
deadline = time.monotonic() + 40
while (done := os.waitpid(pid, os.WNOHANG)) == (0, 0) and time.monotonic() < deadline:
    time.sleep(0.05)
if done == (0, 0):
    os.kill(pid, 9); os.waitpid(pid, 0)
assert done == (pid, 0), done
thread.join(20)
job.cancel()
job.wait(timeout=20)
c.close()
c.open().rmtree('forked')
c.close()
"""


@pytest.mark.parametrize(("route", "backend"), [("direct", "mux")])
def test_a_fork_while_another_thread_asks_the_queue(host: Host, backend: str) -> None:
    """The child does not wait for a thread that it has not got."""
    assert run_client(ASKING, host, backend) == ""


def test_a_program_that_ends_without_close_leaves_nothing(host: Host, backend: str) -> None:
    """No close, no with: a warning would fail it, and what it held is over with it."""
    code = "assert c.is_dir('/'); c.run('true'); p = c.popen('sleep 161803; true'); p.end()"
    assert run_client(code, host, backend) == ""
    assert processes("161803") == []


def test_importing_takes_nothing_that_is_not_needed(tmp_path: Path) -> None:
    import subprocess
    import sys

    code = "import sys, openssh_jobs.connection; print(' '.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    heavy = {"asyncio", "tempfile", "hashlib", "concurrent.futures", "multiprocessing", "pexpect",
             "sqlite3", "random", "json"}  # fmt: skip
    assert loaded.isdisjoint(heavy), sorted(loaded & heavy)
