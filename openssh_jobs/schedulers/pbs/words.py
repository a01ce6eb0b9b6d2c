"""The words of qsub(1B): PBS and Torque.  Pure."""

from __future__ import annotations

from ..submit_words import (
    ANOTHER,
    ELEMENTS,
    NOTHING,
    SILENT,
    WAITS,
    SubmitWords,
    clock_seconds,
    meaning,
    words,
)

_MEANS = meaning(
    name="-N",
    queue="-q",
    account="-A",
    time_limit="walltime",
    stdout_path="-o",
    stderr_path="-e",
    mail="-M",
)
_REFUSED = {"-I": WAITS, "-z": SILENT, "--version": NOTHING}

PBS_QSUB = SubmitWords(
    program="qsub",
    style="getopt",
    values=words("-a -A -c -C -e -j -J -k -l -m -M -N -o -p -P -q -r -R -S -u -v -W"),
    flags=words("-f -G -h -I -V -X -z --version"),
    means=_MEANS,
    resources=words("-l"),
    refused={**_REFUSED, "-J": ELEMENTS, "-G": WAITS},
    refused_values={"-W": (r".*\bblock\s*=\s*[^f]", WAITS)},
    seconds=clock_seconds,
)
TORQUE_QSUB = SubmitWords(
    program="qsub",
    style="getopt",
    values=words(
        "-a -A -b -c -C -d -D -e -F -j -k -K -l -L -m -M -N -o -p -P -q -r -S -t -T -u -v -w -W"
    ),
    flags=words("-f -h -I -n -V -x -X -z -E --version --about --help"),
    means=_MEANS,
    resources=words("-l"),
    refused={
        **_REFUSED,
        **dict.fromkeys(("--about", "--help"), NOTHING),
        "-t": ELEMENTS,
        "-x": ANOTHER,
    },
    refused_values={"-W": (r".*\bblock\s*=\s*[^f]", WAITS)},
    seconds=lambda text: _torque_seconds(text),
)


def _torque_seconds(text: str) -> int | None:
    """Torque also takes days: ``D:H:M:S``."""
    return clock_seconds(text, (1, 60, 3600, 86400))
