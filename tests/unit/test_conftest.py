"""No test of this half can use a server."""

from __future__ import annotations

import pytest


@pytest.mark.parametrize(
    "name", ["site", "sshd", "jump", "slurm", "gridengine", "make_sshd", "asking"]
)
def test_a_server_is_refused(request: pytest.FixtureRequest, name: str) -> None:
    with pytest.raises(pytest.fail.Exception, match="belongs into tests/real"):
        request.getfixturevalue(name)
