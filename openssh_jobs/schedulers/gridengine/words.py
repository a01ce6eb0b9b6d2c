"""The words of Grid Engine's qsub(1).  Pure."""

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

QSUB = SubmitWords(
    program="qsub",
    style="plain",
    values=words(
        "-@ -A -C -M -N -P -R -S -a -ac -adds -ar -b -binding -bgio -c -ckpt -cmdname -ct -dc -dl "
        "-e -hold_jid -hold_jid_ad -i -j -jc -js -jsv -l -m -masterl -masterq -mbind -mods -now -o "
        "-ot -p -par -pty -q -r -rdi -rou -rps -sc -shell -si -stdout -sync -t -tc -tcon -umask -v "
        "-w -wd -xd -xdv -xd_run_as_image_user"
    ),
    flags=words("-V -clear -cwd -h -hard -help -nostdin -notify -soft -terse -verbose -verify"),
    pairs=words("-pe"),
    means=meaning(
        name="-N",
        queue="-q",
        account="-P",
        time_limit="h_rt",
        memory="h_vmem",
        reservation="-ar",
        stdout_path="-o",
        stderr_path="-e",
        mail="-M",
    ),
    resources=words("-l"),
    refused={
        "-@": "a file of options may hold what could not be followed",
        "-clear": "it takes away the options of the submission",
        "-help": NOTHING,
        "-verify": NOTHING,
        "-t": ELEMENTS,
    },
    refused_values={
        "-sync": ("[^n]", WAITS),
        "-b": ("y", ANOTHER),
        "-w": ("[vp]", NOTHING),
        "-pty": ("y", WAITS),
    },
    seconds=clock_seconds,
)
