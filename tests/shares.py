"""Which test files run in which share, so that all shares end at about the same time."""

from __future__ import annotations

from pathlib import PurePosixPath

# Seconds on two busy cores, of the files that take more than a few (``scripts/test --unit
# --durations=0``).  A file that is missing here is as good as any other.
_SECONDS = {
    "tests/unit/cluster/test_poller.py": 38,
    "tests/unit/cluster/test_recovery.py": 25,
    "tests/unit/cluster/test_shared_poll.py": 22,
    "tests/unit/cluster/test_shared_poll_processes.py": 17,
    "tests/unit/cluster/test_history.py": 13,
    "tests/unit/test_local_connection.py": 11,
    "tests/unit/cluster/test_submission.py": 10,
    "tests/unit/test_parser_noise.py": 10,
    "tests/unit/cluster/test_tidy.py": 9,
    "tests/unit/cluster/test_journal_file.py": 8,
    "tests/unit/schedulers/direct/test_scheduler.py": 8,
    "tests/unit/transfer/test_tar_guard.py": 8,
    "tests/unit/cluster/test_waiting.py": 7,
    "tests/unit/schedulers/launcher/test_launcher.py": 7,
    "tests/unit/cluster/test_recovery_tokens.py": 6,
    "tests/unit/cluster/test_tracker_forgetting.py": 5,
    "tests/unit/commands/test_command_line.py": 5,
    "tests/unit/openssh/test_locks.py": 5,
    "tests/unit/schedulers/launcher/test_any_shell.py": 5,
    "tests/unit/test_architecture.py": 5,
    "tests/unit/cli/test_app.py": 4,
    "tests/unit/cluster/test_dependencies.py": 4,
    "tests/unit/cluster/test_journal.py": 4,
    "tests/unit/cluster/test_submitted.py": 4,
    "tests/unit/openssh/test_identities.py": 4,
    "tests/unit/cluster/test_job_files.py": 3,
    "tests/unit/cluster/test_poller_growth.py": 3,
    "tests/unit/test_docs.py": 3,
    "tests/unit/test_house.py": 1,
    "tests/unit/test_removals.py": 1,
}
_OTHERS = 0.7
# They look at the same thing, which the first of them has to make.
_TOGETHER = (
    ("tests/unit/test_architecture.py", "tests/unit/test_house.py", "tests/unit/test_removals.py"),
)


class Shares:
    """Gives each file to the share with the least to do; files have to come in a fixed order.

    Only files below ``top`` are run.
    """

    def __init__(self, number: int, top: str) -> None:
        self._loads = [0.0] * number
        self._known: dict[str, int] = {}
        groups = {path: group for group in _TOGETHER for path in group}
        for path in sorted(_SECONDS, key=lambda path: (-_SECONDS[path], path)):
            if path not in self._known and path.startswith(f"{top}/"):
                files = groups.get(path, (path,))
                share = self._take(sum(_SECONDS[file] for file in files))
                self._known.update(dict.fromkeys(files, share))

    def share_of(self, path: PurePosixPath) -> int:
        """The number of the share, from 1 on; ``path`` begins at the top of the checkout."""
        name = str(path)
        if name not in self._known:
            self._known[name] = self._take(_OTHERS)
        return self._known[name]

    def _take(self, seconds: float) -> int:
        least = self._loads.index(min(self._loads))
        self._loads[least] += seconds
        return least + 1
