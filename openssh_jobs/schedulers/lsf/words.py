"""The words of bsub(1).  Pure."""

from __future__ import annotations

from ..submit_words import (
    ANOTHER,
    ELEMENTS,
    NOTHING,
    WAITS,
    SubmitWords,
    clock_seconds,
    meaning,
    words,
)


def seconds(text: str) -> int | None:
    """A run limit as bsub reads it: ``[HOURS:]MINUTES``, with a host or a model behind a slash."""
    return clock_seconds(text.partition("/")[0], (60, 3600))


_INTERACTIVE = "-I -Ip -Is -IS -ISp -ISs -IX"

BSUB = SubmitWords(
    program="bsub",
    style="plain",
    values=words(
        "-a -alloc_flags -app -b -C -c -clusters -cn_cu -cn_mem -core_isolation -cwd -D -data "
        "-datagrp -E -Ep -e -eo -env -eptl -eptlr -ext -F -f -freq -G -g -gpu -hostfile -i -is -J "
        "-Jd -jobaff -jsdl -jsdl_strict -jsm -json -k -L -Lp -M -m -mig -n -network -notify "
        "-nnodes -o -oo -P -p -pack -ptl -Q -q -R -S -s -sla -smt -sp -stage -step_cgroup -T -t -U "
        "-u -v -W -We -w -wa -wt -yaml"
    ),
    flags=words(f"-B -H -hl -K -N -Ne -r -rn -rnc -ti -tty -ul -V -h -x -XF -Zs {_INTERACTIVE}"),
    means=meaning(
        name="-J",
        queue="-q",
        account="-P",
        time_limit="-W",
        memory="-M",
        gpus="-gpu",
        reservation="-U",
        stdout_path="-o -oo",
        stderr_path="-e -eo",
        mail="-u",
    ),
    refused={
        **dict.fromkeys((*_INTERACTIVE.split(), "-K", "-tty"), WAITS),
        **dict.fromkeys(("-h", "-V"), NOTHING),
        **dict.fromkeys(("-jsdl", "-jsdl_strict", "-pack", "-json", "-yaml"), ANOTHER),
    },
    refused_values={"-J": (r".*\[", ELEMENTS)},
    seconds=seconds,
)
