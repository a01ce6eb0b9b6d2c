"""The job of a lost answer by Slurm's accounting, when the queue has forgotten it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from openssh_jobs.errors import ConnectionLost, SubmitUnknown
from tests.lab import parts
from tests.lab.room import Room, open_room
from tests.lab.site import Host, Site
from tests.lab.slurm import SlurmLab, in_place_of


@pytest.fixture(scope="module")
def accounting(slurm: SlurmLab, site: Site, lab_directory: Path) -> Iterator[SlurmLab]:
    """A Slurm that keeps accounts and forgets ended jobs in seconds, in place of the other."""
    parts.require("accounting")
    assert site.network is not None
    lab = SlurmLab(
        lab_directory / "slurmacct", site.network.login, accounting=True, remembers=2, timeout=2
    )
    with in_place_of(slurm, lab):
        yield lab


@pytest.fixture
def room(sshd: Host, accounting: SlurmLab, tmp_path: Path) -> Iterator[Room]:
    with open_room(sshd, "slurm", accounting, tmp_path) as room:
        yield room


def test_what_the_queue_has_forgotten_the_accounting_shows(
    room: Room, accounting: SlurmLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also what was cancelled before it could start, which a window of sacct usually leaves out."""
    client = room.cluster.internal.client
    real = client.run_sh

    def and_cut(script: bytes, timeout: float, *, once: bool = False, said: Any = None) -> object:
        answer = real(script, timeout, once=once)
        if once:
            raise ConnectionLost("cut", sent="maybe")
        return answer

    before = room.submit("sleep 300")
    with monkeypatch.context() as patch:
        patch.setattr(client, "run_sh", and_cut)
        cases: dict[str, dict[str, Any]] = {
            "ended": {},
            "held": {"hold": True},
            "waiting": {"after_ok": before},
            "array": {"array": "1-3%1", "hold": True},
        }
        for token, asked in cases.items():
            with pytest.raises(SubmitUnknown):
                room.submit("true", token=token, record_exit=False, **asked)
    places = {row.token: Path(row.place or "") for row in room.cluster.journal.rows()}
    for token in ("ended", "held", "waiting", "array"):
        (places[token] / "result-1").unlink()
    time.sleep(3)
    accounting.command("scancel", "-u", room.host.user)
    deadline = time.monotonic() + 90
    while accounting.command("squeue", "-h", "-t", "all", "-u", room.host.user).strip():
        assert time.monotonic() < deadline, "the queue does not forget"
        time.sleep(1)
    found = {str(job.token): job.id for job in room.cluster.recover()}
    assert sorted(found) == ["array", "ended", "held", "waiting"]
    for token, job_id in found.items():
        said = accounting.command("sacct", "-n", "-X", "-P", "-o", "SubmitLine", "-j", job_id)
        assert set(said.split("\n")[:-1]) == {said.split("\n")[0]}
        assert f"{places[token]}/job" in said
    assert len(set(found.values())) == 4
