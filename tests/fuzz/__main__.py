"""Fuzz one reader, guided by what its code has run:  python -m tests.fuzz READER SECONDS FOLDER

Needs the extra ``fuzz``.  What it finds stays in FOLDER/crash-*; inputs that reach new code are
kept in FOLDER/corpus, and the next run goes on from there.  ``growth`` instead of a reader takes
what all of them kept, repeats pieces of it, and looks whether time grows faster than the text;
``hosts`` plays a host that lies to the calls of a connection, ``clusters`` one that lies to a
``Cluster``.
"""

from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from random import Random

SIZES = (4_000, 32_000)
# 32 K are read in some milliseconds; a reader that wants more and grows like a square is reported.
SLOW = 0.25
STEEP = 20.0
WORDS = """JOBID STATE ST JobID State COMPLETED FAILED CANCELLED TIMEOUT PENDING RUNNING 0:9 3:0
    JobId= JobState= UserId=a(1) CLUSTER: Submitted batch job OJ: begin end job_state Exit_status
    substate Job_Id exec_host Hold_Types <job_list> </job_list> <state> </state> <JB_job_number>
    jobnumber failed exit_status taskid qsub_time ClusterId ProcId JobStatus ExitCode ExitBySignal
    STAT EXIT DONE TERM_RUNLIMIT RECORDS job-ID prior been submitted error marked for removal not
    found set infinite number current exit_code return_code 1e999 NaN -Infinity 0x1f 005 null true
    99999999999999999999"""


def guided(reader: str, seconds: int, folder: Path) -> None:
    """Let libFuzzer change the seeds for so many seconds; ends the process."""
    import atheris

    # Not "RegEx": it stands in for compiled patterns and lacks half of what they can.
    atheris.enabled_hooks.add("str")
    with atheris.instrument_imports(include=["openssh_jobs"]):
        from tests.fuzz import readers
    check = _collecting(readers.READERS[reader], folder / f"crash-{reader}-")
    corpus = folder / "corpus" / reader
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(readers.seeds(reader)):
        (corpus / f"seed-{number:04}").write_bytes(seed)
    words = folder / "words"
    words.write_bytes(b"".join(b'"%s"\n' % word for word in _words()))
    atheris.Setup(
        [
            sys.argv[0],
            f"-max_total_time={seconds}",
            f"-artifact_prefix={folder}/crash-{reader}-",
            f"-dict={words}",
            "-timeout=20",
            "-rss_limit_mb=2000",
            "-max_len=6000",
            "-print_final_stats=1",
            "-verbosity=0",
            "-close_fd_mask=0",
            str(corpus),
        ],
        check,
    )
    atheris.Fuzz()


def _collecting(check: Callable[[bytes], None], prefix: Path) -> Callable[[bytes], None]:
    """The same check, which keeps one input of each kind of failure and goes on."""
    seen: set[str] = set()

    def collect(data: bytes) -> None:
        try:
            check(data)
        except Exception as error:  # noqa: BLE001 - whatever it is: that is the finding
            steps = traceback.extract_tb(error.__traceback__)[-2:]
            kind = "-".join(
                (
                    type(error).__name__,
                    *(f"{Path(one.filename).stem}.{one.lineno}" for one in steps),
                )
            )
            if kind not in seen:
                seen.add(kind)
                Path(f"{prefix}{kind}").write_bytes(data)
                print(f"{prefix}{kind}: {error}"[:500], flush=True)

    return collect


def _words() -> list[bytes]:
    """What headers and states are made of, as libFuzzer's dictionary spells it."""
    return [word.encode() for word in WORDS.split()]


def growth(seconds: int, folder: Path) -> int:
    """The count of pieces whose repetition takes more than its length."""
    from tests.fuzz import readers

    random = Random(time.time_ns())
    checks = {
        reader: _collecting(check, folder / f"crash-{reader}-growth-")
        for reader, check in readers.READERS.items()
    }
    texts = [
        (reader, one)
        for reader in readers.READERS
        for one in (
            *readers.seeds(reader),
            *(path.read_bytes() for path in (folder / "corpus" / reader).glob("*")),
        )
    ]
    found = 0
    until = time.monotonic() + seconds
    while texts and time.monotonic() < until:
        reader, data = random.choice(texts)
        start = random.randrange(len(data) + 1)
        piece = data[start : start + random.choice((1, 2, 5, 20, 100, 400))]
        if not piece:
            continue
        low, high = (
            _seconds(checks[reader], data[:start] + piece * (size // len(piece) + 1)
                     + data[start:])
            for size in SIZES
        )  # fmt: skip
        if high > SLOW and high > STEEP * low:
            found += 1
            name = folder / f"crash-{reader}-growth-{found}"
            name.write_bytes(data[:start] + piece * (SIZES[1] // len(piece)) + data[start:])
            print(f"{name}: {low:.3f} s, {high:.3f} s, piece {piece!r}")
    return found


def _seconds(check: object, data: bytes) -> float:
    assert callable(check)
    begun = time.process_time()
    check(data)
    return time.process_time() - begun


def main() -> int:
    # Absolute: the host that lies runs its shells in a directory of its own.
    reader, seconds, folder = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]).resolve()
    if reader == "growth":
        return 1 if growth(seconds, folder) else 0
    if reader == "hosts":
        from tests.fuzz import hosts

        return 1 if hosts.main(seconds, folder) else 0
    if reader == "clusters":
        from tests.fuzz import clusters

        return 1 if clusters.main(seconds, folder) else 0
    guided(reader, seconds, folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
