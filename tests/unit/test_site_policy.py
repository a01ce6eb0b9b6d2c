"""A site's policy: typed, bounded, and only ever tighter."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openssh_jobs import site_policy
from openssh_jobs.site_policy import SitePolicy, parse

WHOLE = b"""
poll_floor = 30
history_floor = 120.5
sessions = 4
streams = 2
max_age = 43200
data_host = "transfer.example.org"
agents = false
message = "Maintenance on Tuesday."
"""


def test_all_settings() -> None:
    assert parse(WHOLE, "f") == SitePolicy(
        poll_floor=30.0,
        history_floor=120.5,
        sessions=4,
        streams=2,
        max_age=43200.0,
        data_host="transfer.example.org",
        agents=False,
        message="Maintenance on Tuesday.",
    )
    assert parse(b"", "f") == SitePolicy()
    assert parse(WHOLE, "f").as_dict()["agents"] is False


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("poll_floor = -1", "poll_floor must be a number of seconds from 0 to 3600, not -1"),
        ("poll_floor = 1e6", "from 0 to 3600"),
        ("poll_floor = nan", "from 0 to 3600, not nan"),
        ("poll_floor = true", "not True"),
        ("sessions = 0", "sessions must be an integer from 1 to 1000, not 0"),
        ("sessions = 2.5", "not 2.5"),
        ('streams = "4"', "not '4'"),
        ("max_age = 1", "from 60 to"),
        ("agents = 1", "agents must be true or false, not 1"),
        ('message = "a\\u001b[2J"', "message must be one line"),
        ('message = "a\\nb"', "message must be one line"),
        (f'message = "{"x" * 201}"', "at most 200"),
        ('data_host = ["a"]', "data_host must be one line"),
        ("pollfloor = 3", "'pollfloor' is not a setting of a site"),
        ("poll_floor =", "f cannot be read: "),
        ("#" * 8192 + "x = 1", "f cannot be read: it is longer than 8192 bytes"),
        ("[" * 4000, "f cannot be read: "),
        (f"sessions = {'9' * 400}", f"not {'9' * 60}..."),
        (f"sessions = 0x{'f' * 8000}", "from 1 to 1000, not such a number"),
        (f"{'k' * 400} = 1", "kkk... is not a setting"),
    ],
)
def test_what_is_wrong_is_left_out_and_named(text: str, problem: str) -> None:
    found = parse(text.encode(), "f")
    assert found.as_dict() == {}
    assert len(found.problems) == 1
    assert problem in found.problems[0]


def test_a_policy_that_is_nonsense_is_a_few_lines_of_problems() -> None:
    found = parse("".join(f"key{number} = 1\n" for number in range(500)).encode(), "f")
    assert len(found.problems) == 11
    assert found.problems[-1] == "f: 490 more settings are wrong"


def test_what_is_right_beside_it_counts() -> None:
    found = parse(b"sessions = 0\nstreams = 1\n", "f")
    assert (found.as_dict(), len(found.problems)) == ({"streams": 1}, 1)


@given(st.binary(max_size=200))
def test_any_bytes_give_a_policy(data: bytes) -> None:
    found = parse(data, "f")
    assert all(isinstance(problem, str) for problem in found.problems)


NUMBER = st.none() | st.integers(1, 100)
POLICY = st.builds(
    SitePolicy,
    poll_floor=NUMBER,
    history_floor=NUMBER,
    sessions=NUMBER,
    streams=NUMBER,
    max_age=NUMBER,
    agents=st.none() | st.booleans(),
)


@given(POLICY, POLICY)
def test_two_policies_are_never_looser_than_one(one: SitePolicy, other: SitePolicy) -> None:
    both = one.tightened(other)
    assert both == other.tightened(one)
    for policy in (one, other):
        for name in ("poll_floor", "history_floor"):
            assert (getattr(both, name) or 0) >= (getattr(policy, name) or 0)
        for name in ("sessions", "streams", "max_age"):
            if getattr(policy, name) is not None:
                assert getattr(both, name) <= getattr(policy, name)
        if policy.agents is False:
            assert both.agents is False


def test_the_file_of_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_DIRS", str(tmp_path))
    path = Path(site_policy.local_file())
    assert path == tmp_path / "openssh_jobs" / "site.toml"
    assert site_policy.local() == SitePolicy()
    path.parent.mkdir()
    path.write_text("sessions = 3\n")
    assert site_policy.local().sessions == 3
    path.chmod(0o666)
    found = site_policy.local()
    assert (found.sessions, found.problems) == (None, (f"{path} is not used: others can write it",))
    path.unlink()
    path.mkdir()
    assert "cannot be read" in site_policy.local().problems[0]
