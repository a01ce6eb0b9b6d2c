"""Which test files run in which share, so that all shares end at about the same time."""

from __future__ import annotations

from pathlib import PurePosixPath

# Seconds on two busy cores, of the files that take more than a few (``scripts/test tests
# --durations=0``, and with --unit).  A file that is missing here is as good as any other.
_SECONDS = {
    "tests/real/commands/test_left_by_rc.py": 165,
    "tests/real/commands/test_start_and_end.py": 120,
    "tests/real/cluster/test_shared_poll.py": 118,
    "tests/real/cli/test_watch.py": 110,
    "tests/real/cluster/test_hostile_texts.py": 86,
    "tests/real/openssh/test_ways.py": 78,
    "tests/real/cluster/test_once.py": 72,
    "tests/real/cluster/test_faults.py": 72,
    "tests/real/cluster/test_gridengine_states.py": 70,
    "tests/real/test_fuzz.py": 69,
    "tests/real/cli/test_demo.py": 64,
    "tests/real/cluster/test_recovery_tokens.py": 61,
    "tests/real/cluster/test_slurm_accounting.py": 58,
    "tests/real/commands/test_signals.py": 57,
    "tests/real/cli/test_doctor.py": 53,
    "tests/real/transfer/test_tree.py": 52,
    "tests/real/cluster/test_jobs.py": 51,
    "tests/real/cluster/test_exit_record_gridengine.py": 50,
    "tests/real/openssh/test_agents.py": 47,
    "tests/real/openssh/test_master.py": 46,
    "tests/real/commands/test_runner.py": 43,
    "tests/real/test_faults.py": 42,
    "tests/real/commands/test_odd_accounts.py": 42,
    "tests/real/cli/test_list.py": 41,
    "tests/real/arc/test_client.py": 39,
    "tests/real/arc/test_callers.py": 38,
    "tests/real/cli/test_status.py": 38,
    "tests/real/cluster/test_tidy.py": 38,
    "tests/real/cluster/test_causes.py": 35,
    "tests/real/cli/test_forward.py": 35,
    "tests/real/cluster/test_slurm_states.py": 34,
    "tests/real/cluster/test_exit_record.py": 34,
    "tests/real/schedulers/test_slurm.py": 31,
    "tests/real/transfer/test_transfer.py": 31,
    "tests/real/arc/test_local.py": 31,
    "tests/real/cli/test_interactive.py": 30,
    "tests/real/cluster/test_recovery.py": 30,
    "tests/real/cluster/test_submission.py": 30,
    "tests/real/test_lab.py": 29,
    "tests/real/openssh/test_wrong_answers.py": 29,
    "tests/real/transfer/test_corpus.py": 28,
    "tests/real/transport/test_conformance.py": 28,
    "tests/real/cli/test_completion.py": 28,
    "tests/real/commands/test_login_shells.py": 28,
    "tests/real/cluster/test_torque.py": 27,
    "tests/real/cluster/test_gridengine.py": 26,
    "tests/real/openssh/test_foreign_words.py": 25,
    "tests/real/cli/test_fetch.py": 24,
    "tests/real/commands/test_foreign_stdin.py": 24,
    "tests/real/cluster/test_poller.py": 24,
    "tests/real/cli/test_submit.py": 23,
    "tests/real/transfer/test_update.py": 23,
    "tests/real/commands/test_remote_process.py": 23,
    "tests/real/cli/test_exec.py": 21,
    "tests/real/test_gates.py": 19,
    "tests/real/cli/test_put_get.py": 19,
    "tests/real/commands/test_sharing.py": 18,
    "tests/real/files/test_remote_files.py": 18,
    "tests/real/cli/test_login.py": 18,
    "tests/real/openssh/test_ssh_config.py": 17,
    "tests/real/openssh/test_login_record.py": 17,
    "tests/real/commands/test_rc_obstacles.py": 15,
    "tests/real/files/test_private_directory.py": 15,
    "tests/real/cluster/test_recovery_accounting.py": 15,
    "tests/real/openssh/test_prompts.py": 15,
    "tests/real/cli/test_app.py": 13,
    "tests/real/cli/test_tidy.py": 12,
    "tests/real/test_hostile.py": 12,
    "tests/real/cluster/test_submit_many.py": 12,
    "tests/real/arc/test_logins.py": 10,
    "tests/real/cli/test_schemas.py": 10,
    "tests/real/transfer/test_parallel.py": 10,
    "tests/real/transport/test_session_limit.py": 9,
    "tests/real/cluster/test_private_submission.py": 9,
    "tests/real/cli/test_config.py": 9,
    "tests/real/cli/test_transfers.py": 9,
    "tests/real/cluster/test_local_connection.py": 9,
    "tests/real/transfer/test_faults.py": 9,
    "tests/real/cluster/test_waiting.py": 9,
    "tests/real/cluster/test_site_policy.py": 9,
    "tests/real/cli/test_ssh.py": 8,
    "tests/real/arc/test_defects.py": 8,
    "tests/real/arc/test_ways.py": 7,
    "tests/real/transfer/test_tar_flavours.py": 7,
    "tests/real/transfer/test_update_hosts.py": 7,
    "tests/real/transport/test_forwards.py": 7,
    "tests/real/cluster/test_swapped_names.py": 7,
    "tests/real/cluster/test_journal_disk.py": 6,
    "tests/real/openssh/test_ssh_errors.py": 5,
    "tests/real/openssh/test_questions.py": 5,
    "tests/real/cli/test_cancel.py": 5,
    "tests/real/cli/test_this_machine.py": 5,
    "tests/real/cli/test_tail.py": 5,
    "tests/real/transfer/test_progress.py": 4,
    "tests/real/cluster/test_takeover.py": 4,
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
