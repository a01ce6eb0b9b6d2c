"""The words of sbatch(1), by its manual pages of 17.02 to 24.11.  Pure."""

from __future__ import annotations

import re

from ..submit_words import ANOTHER, ELEMENTS, NOTHING, SILENT, WAITS, SubmitWords, meaning, words


def seconds(text: str) -> int | None:
    """A time limit as sbatch reads it: minutes, M:S, H:M:S, D-H, D-H:M, D-H:M:S."""
    found = re.fullmatch(
        r"(?:([0-9]{1,5})-)?([0-9]{1,9})(?::([0-9]{1,9}))?(?::([0-9]{1,9}))?", text
    )
    if found is None:
        return None
    days, first, second, third = (None if part is None else int(part) for part in found.groups())
    if days is not None:
        return days * 86400 + (first or 0) * 3600 + (second or 0) * 60 + (third or 0)
    if third is not None:
        return (first or 0) * 3600 + (second or 0) * 60 + third
    return (first or 0) * 60 + (second or 0)


SBATCH = SubmitWords(
    program="sbatch",
    style="getopt",
    values=words(
        "-A --account --acctg-freq -a --array --batch --bb --bbf -b --begin -D --chdir "
        "--cluster-constraint -M --clusters --cluster --comment -C --constraint --container "
        "--container-id -S --core-spec --cores-per-socket --cpu-freq --cpus-per-gpu -c "
        "--cpus-per-task --deadline --delay-boot -d --dependency -m --distribution -e --error -x "
        "--exclude --export --export-file --extra -B --extra-node-info --gid --gpu-bind --gpu-freq "
        "-G --gpus --gpus-per-node --gpus-per-socket --gpus-per-task --gres --gres-flags --hint -i "
        "--input -J --job-name --kill-on-invalid-dep -L --licenses --mail-type --mail-user "
        "--mcs-label --mem --mem-bind --mem-per-cpu --mem-per-gpu --mincpus --network -F "
        "--nodefile -w --nodelist -N --nodes -n --ntasks --ntasks-per-core --ntasks-per-gpu "
        "--ntasks-per-node --ntasks-per-socket --open-mode -o --output -p --partition "
        "--power --prefer --priority --profile -q --qos --reservation --segment --signal "
        "--sockets-per-node --switches --thread-spec --threads-per-core -t --time --time-min --tmp "
        "--tres-bind --tres-per-task "
        "--uid --wait-all-nodes --wckey --wrap --workdir"
    ),
    flags=words(
        "--contiguous -h --help -H --hold -I --ignore-pbs --no-requeue -O --overcommit -s --share "
        "--parsable -Q --quiet --reboot --requeue --spread-job --test-only -u --usage "
        "--use-min-nodes -v --verbose -V --version -W --wait"
    ),
    optional=words(
        "--exclusive --get-user-env --nice -k --no-kill --oversubscribe --propagate "
        "--resv-ports --oom-kill-step"
    ),
    means=meaning(
        name="-J --job-name",
        queue="-p --partition",
        account="-A --account",
        time_limit="-t --time",
        nodes="-N --nodes",
        cpus="-c --cpus-per-task",
        memory="--mem",
        gpus="-G --gpus --gres",
        qos="-q --qos",
        reservation="--reservation",
        constraint="-C --constraint",
        stdout_path="-o --output",
        stderr_path="-e --error",
        mail="--mail-user",
    ),
    refused={
        "--wrap": ANOTHER,
        "-W": WAITS,
        "--wait": WAITS,
        "-a": ELEMENTS,
        "--array": ELEMENTS,
        **dict.fromkeys(("--test-only", "-h", "--help", "-u", "--usage"), NOTHING),
        **dict.fromkeys(("-V", "--version"), NOTHING),
        # Also with --parsable (22.05).
        **dict.fromkeys(("-Q", "--quiet"), SILENT),
    },
    seconds=seconds,
)
