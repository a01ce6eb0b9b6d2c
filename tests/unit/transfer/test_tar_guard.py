"""Archives read on their way: all that honest tars write passes unchanged, nothing else does."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openssh_jobs.errors import TransferError, UnsafeName
from openssh_jobs.transfer import listing, tar_guard
from tests.helpers import examples, tar_in
from tests.names import NAMES

CREATE = {
    "tar": ["--format=gnu"],
    "tar sparse": ["-S"],
    "tar pax": ["--format=pax"],
    "tar pax sparse": ["-S", "--format=pax"],
    "tar ustar": ["--format=ustar"],
    "bsdtar pax": ["--format=pax", "--options", "hdrcharset=BINARY"],
    "bsdtar gnu": ["--format=gnutar"],
    "busybox": [],
}


@pytest.fixture
def top(tmp_path: Path) -> Path:
    """A tree with what is hard to say in a header."""
    top = tmp_path / "t"
    top.mkdir()
    for name in NAMES:
        (top / name).write_bytes(os.urandom(len(name)))
    for length in range(90, 110):
        # Cut off at the field's end the path would end in a dot or in two.
        folder = top / ("d" * (length - 5))
        folder.mkdir()
        for name in (".h", "..h", "...", "x" * 150):
            (folder / name).write_bytes(b"hidden")
        (folder / "link").symlink_to("l" * length + "/../" + "m" * length)
    os.link(top / "d".ljust(90, "d") / ".h", top / "hard")
    os.link(top / ("d" * 90) / ("x" * 150), top / ("hard" * 40))
    with (top / "holes").open("wb") as handle:
        for number in range(60):
            handle.seek(number << 18)
            handle.write(b"data" * 1024)
        handle.truncate(1 << 25)
    with (top / "one hole").open("wb") as handle:
        handle.truncate(1 << 22)
    with (top / "an odd end").open("wb") as handle:
        handle.seek(1 << 22)
        handle.write(b"data" * 1024 + b"end")
    (top / "empty").mkdir(mode=0o700)
    (top / "dangling").symlink_to("/nowhere/../at all")
    return top


def packed(top: Path, way: str, tmp_path: Path) -> bytes:
    program, *_ = way.split()
    if (
        program == "tar"
        and b"GNU"
        not in subprocess.run(
            ["tar", "--version"], capture_output=True, timeout=20, check=False
        ).stdout
    ):
        pytest.skip("tar is not GNU's here")
    path = "tar" if program == "tar" else str(tar_in(tmp_path / "bin", program) / "tar")
    argv = [path, "-c", "-f", "-", *CREATE[way], "."]
    done = subprocess.run(argv, cwd=top, capture_output=True, timeout=60, check=False)
    assert done.returncode == 0 or way == "tar ustar", done.stderr
    return done.stdout


def passed(data: bytes, members: list[listing.Member], stage: Path, *, step: int = 4096) -> bytes:
    """What a reader lets through."""
    reader = tar_guard.TarGuard(members, "h", os.fsencode(stage))
    out = [reader.feed(data[at : at + step]) for at in range(0, len(data), step)]
    reader.close()
    return b"".join(out)


@pytest.mark.parametrize("way", list(CREATE))
@pytest.mark.parametrize(
    "step", [4096, *(pytest.param(number, marks=pytest.mark.long) for number in (1, 1 << 20))]
)
def test_what_honest_tars_write_passes_unchanged(
    top: Path, tmp_path: Path, way: str, step: int
) -> None:
    if step == 1:
        for name in ("holes", "one hole", "an odd end"):
            (top / name).unlink()
    data = packed(top, way, tmp_path)
    members = listing.walk(os.fsencode(top))
    if way == "tar ustar":
        # It left out what it cannot say.
        names = {name.removeprefix("./") for name in _names(data)}
        members = [member for member in members if os.fsdecode(member.name) in names]
    assert passed(data, members, tmp_path, step=step) == data


def _names(data: bytes) -> list[str]:
    with tarfile.open(fileobj=io.BytesIO(data), errors="surrogateescape") as tar:
        return tar.getnames()


def one(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", content: bytes = b"") -> bytes:
    """The header of a member, and its content."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, link, len(content)
    head = info.tobuf(tarfile.GNU_FORMAT)
    return head + content + bytes(-len(content) % 512)


END = bytes(1024)
TOP = one("./", tarfile.DIRTYPE)
LISTED = [listing.Member(b"x", "f", 1), listing.Member(b"d", "d", 0), listing.Member(b"l", "l", 0)]


def signed(header: bytes, at: int, text: bytes) -> bytes:
    """A header with some bytes changed and its checksum right."""
    new = bytearray(header)
    new[at : at + len(text)] = text
    new[148:156] = b" " * 8
    new[148:156] = b"%06o\0 " % sum(new[:512])
    return bytes(new)


def pax(**records: str) -> bytes:
    lines = b""
    for key, value in records.items():
        body = f" {key.replace('_', '.')}={value}\n".encode()
        length = len(body) + len(str(len(body)))
        length += len(str(length)) - len(str(len(body)))
        lines += str(length).encode() + body
    return one("./PaxHeaders/x", tarfile.XHDTYPE, content=lines)


X = one("./x", content=b"1")
REFUSED = {
    "a name up": one("./../x"),
    "an absolute name": one("/x"),
    "not asked for": one("./y"),
    "another kind": one("./x", tarfile.SYMTYPE, "y"),
    "twice": X + X,
    "the top twice": TOP,
    "below what did not come": one("./d/x"),
    "below a link": one("./l", tarfile.SYMTYPE, "d") + one("./l/x"),
    "a hard link to outside": one("./x", tarfile.LNKTYPE, "/etc/passwd"),
    "a hard link up": one("./x", tarfile.LNKTYPE, "../x"),
    "a hard link to a directory": one("./d", tarfile.DIRTYPE) + one("./x", tarfile.LNKTYPE, "./d"),
    "a device": one("./x", tarfile.CHRTYPE),
    "a fifo": one("./x", tarfile.FIFOTYPE),
    "a volume": one("./x", b"V"),
    "a link with content": one("./l", tarfile.SYMTYPE, "d", b"1"),
    "a directory with content": one("./d", tarfile.DIRTYPE, content=b"1"),
    "a damaged sum": X[:150] + b"7" + X[151:],
    "an unknown form": signed(X, 257, b"ustax"),
    "a negative size": signed(X, 124, b"\xff" * 12),
    "an endless size": signed(X, 124, b"\x80" + b"\xff" * 11),
    "a size of letters": signed(X, 124, b"12x\0"),
    "a prefix that only some read": signed(X, 345, b"../../d"),
    "a prefix up": signed(signed(X, 257, b"ustar\x0000"), 345, b"../../d"),
    "pax: a path up": pax(path="../x") + X,
    "pax: an absolute path": pax(path="/x") + X,
    "pax: a sparse name up": pax(GNU_sparse_name="../x") + X,
    "pax: a hard link to outside": pax(linkpath="/etc/passwd") + one("./x", tarfile.LNKTYPE, "./x"),
    "pax: two paths": pax(path="x") + pax(path="x") + X,
    "pax: a size for a link": pax(size="512") + one("./l", tarfile.SYMTYPE, "d") + bytes(512),
    "pax: a size of letters": pax(size="-1") + X,
    "pax: nothing follows": pax(path="x"),
    "pax: another name in the header": pax(path="x") + one("../x"),
    "pax: for all members": one("g", tarfile.XGLTYPE, content=b"10 path=x\n") + X,
    "pax: no length": one("p", tarfile.XHDTYPE, content=b"path=x\n") + X,
    "a long name up": one("././@LongLink", b"L", content=b"./../x\0") + X,
    "a long name with a rest": one("././@LongLink", b"L", content=b"./x\0../x\0") + X,
    "a long name that is empty": one("././@LongLink", b"L", content=b"\0") + X,
    "two long names": one("././@LongLink", b"L", content=b"./x\0") * 2 + X,
    "a long link to outside": one("././@LongLink", b"K", content=b"/etc/passwd\0")
    + one("./x", tarfile.LNKTYPE, "./x"),
}


# A file whose content looks like headers: whoever reads another length finds them.
HIDDEN = one("./hidden", content=b"h") + END
HIDING = one("./d", content=bytes(512 * 6) + HIDDEN)
FAR = 512 * 8
MAP_1_0 = {"GNU_sparse_major": "1", "GNU_sparse_minor": "0", "GNU_sparse_name": "./x"}


def holes(content: bytes, *pieces: tuple[int, int], real: int, more: bytes = b"\0") -> bytes:
    """A member with a map of holes in GNU's own format."""
    words = b"".join(b"%011o\0%011o\0" % piece for piece in pieces)
    head = one("./x", b"S", content=content)
    return signed(signed(head, 386, words), 482, more + b"%011o\0" % real)


def ustar(content: bytes) -> bytes:
    return signed(one("./x", content=content), 257, b"ustar\x0000")


LENGTHS = {
    "a size behind NULs": signed(
        one("./x", content=HIDDEN), 124, (b"%o" % len(HIDDEN)).rjust(12, b"\0")
    ),
    "a sum behind NULs": signed(one("./x", content=HIDDEN), 148, b"")[:148]
    + b"\0\0" + signed(one("./x", content=HIDDEN), 148, b"")[148:154]
    + one("./x", content=HIDDEN)[156:],
    "holes: more in the map": holes(b"1", (0, FAR), real=FAR) + HIDING,
    "holes: less in the map": holes(b"1".ljust(512) + HIDDEN, (0, 1), real=1),
    "holes: nothing in the map": holes(HIDDEN, real=1),
    "holes: an odd piece": holes(b"1" * 512, (0, 12), (512, 500), real=1012),
    "holes: backwards": holes(b"1" * 1024, (512, 512), (0, 512), real=1024),
    "holes: outside of the file": holes(b"1", (1024, 1), real=1),
    "holes: a gap in the map": holes(b"1" * 1024, (0, 512), real=1024)[:410] + bytes(24),
    "holes: a letter says whether it goes on": holes(b"1", (0, 1), real=1, more=b"0"),
    "holes: an empty piece, and it goes on": holes(bytes(512), (0, 512), real=512, more=b"\1"),
    "holes: for a ustar": signed(holes(b"1", (0, 1), real=1), 257, b"ustar\x0000"),
    "holes: far more than was listed": holes(b"1", (0, 1), real=1 << 40),
    "pax holes: far more than was listed": pax(**MAP_1_0, GNU_sparse_realsize=str(1 << 40))
    + ustar(b"1\n0\n1\n".ljust(512, b"\0") + b"1"),
    "holes: with records": pax(**MAP_1_0, GNU_sparse_realsize="1") + holes(b"1", (0, 1), real=1),
    "pax holes: a size only": pax(GNU_sparse_size=str(FAR)) + ustar(b"1") + HIDING,
    "pax holes: a real size only": pax(GNU_sparse_realsize=str(FAR)) + ustar(b"1") + HIDING,
    "pax holes: 0.1": pax(
        GNU_sparse_size=str(FAR), GNU_sparse_numblocks="1", GNU_sparse_map=f"0,{FAR}"
    ) + ustar(b"1") + HIDING,
    "pax holes: more in the map": pax(**MAP_1_0, GNU_sparse_realsize=str(FAR))
    + ustar((b"1\n0\n%d\n" % FAR).ljust(512, b"\0") + b"1") + HIDING,
    "pax holes: less in the map": pax(**MAP_1_0, GNU_sparse_realsize="1")
    + ustar(b"1\n0\n1\n".ljust(512, b"\0") + b"1".ljust(512) + HIDDEN),
    "pax holes: a map without an end": pax(**MAP_1_0, GNU_sparse_realsize="1")
    + ustar(b"300\n" + b"1\n" * 254),
    "pax holes: a remark": pax(**MAP_1_0, GNU_sparse_realsize="1")
    + ustar(b"#1\n1\n0\n1\n".ljust(512, b"\0") + b"1"),
    "pax holes: a line without an end": pax(**MAP_1_0, GNU_sparse_realsize="1")
    + ustar(b"1" * 1024),
    "pax holes: nothing behind": pax(**MAP_1_0, GNU_sparse_realsize="1") + ustar(b""),
    "another size for libarchive": pax(SCHILY_realsize=str(FAR)) + ustar(b"1"),
    "a smaller size for libarchive": pax(SCHILY_realsize="1") + ustar(b"1".ljust(512) + HIDDEN),
    "another size of holes for libarchive": pax(SCHILY_realsize=str(FAR))
    + holes(b"1", (0, 1), real=1),
    "holes of Solaris": pax(SUN_holesdata=" 0 1") + ustar(b"1".ljust(512) + HIDDEN),
    "pax holes: another version": pax(
        **MAP_1_0 | {"GNU_sparse_minor": "1"}, GNU_sparse_realsize="1"
    ) + ustar(b"1\n0\n1\n".ljust(512, b"\0") + b"1"),
    "pax holes: in GNU's form": pax(**MAP_1_0, GNU_sparse_realsize="1")
    + one("./x", content=b"1\n0\n1\n".ljust(512, b"\0") + b"1"),
    "pax holes: a long name, too": one("././@LongLink", b"L", content=b"./d\0")
    + pax(**MAP_1_0, GNU_sparse_realsize="1")
    + ustar(b"1\n0\n1\n".ljust(512, b"\0") + b"1"),
}  # fmt: skip
REFUSED |= LENGTHS


@pytest.mark.parametrize("program", ["tar", "bsdtar", "busybox"])
@pytest.mark.parametrize("name", list(LENGTHS))
def test_no_tar_reads_a_header_that_was_taken_for_content(
    name: str, program: str, tmp_path: Path
) -> None:
    """What passes is what each real tar makes of it; which one is here is not known before."""
    path = "tar" if program == "tar" else str(tar_in(tmp_path / "bin", program) / "tar")
    members = [*LISTED[:1], LISTED[1]._replace(kind="f")]
    reader = tar_guard.TarGuard(members, "h", os.fsencode(tmp_path), plain=program == "busybox")
    data = TOP + LENGTHS[name] + END
    through = b""
    try:
        for at in range(0, len(data), 512):
            through += reader.feed(data[at : at + 512])
    except TransferError:
        pass
    stage = tmp_path / "stage"
    stage.mkdir()
    subprocess.run(
        [path, "-x", "-f", "-", "-C", stage], input=through, capture_output=True, timeout=20,
        check=False,
    )  # fmt: skip
    assert {one.name for one in stage.iterdir()} <= {"x", "d"}


@pytest.mark.parametrize("name", list(REFUSED))
def test_it_ends_before_a_tar_sees_the_header(name: str, tmp_path: Path) -> None:
    data = TOP + REFUSED[name] + END
    reader = tar_guard.TarGuard(LISTED, "h", os.fsencode(tmp_path))
    with pytest.raises(TransferError):
        reader.feed(data)
    # The same in pieces: nothing behind the header that was refused goes on.
    reader = tar_guard.TarGuard(LISTED, "h", os.fsencode(tmp_path))
    gone: list[bytes] = []
    pieces = iter([data[at : at + 512] for at in range(0, len(data), 512)])
    with pytest.raises(TransferError):
        gone.extend(map(reader.feed, pieces))
    assert len(b"".join(gone)) <= len(data) - len(END)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    "data", [b"", TOP, TOP + X, TOP + X[:700], TOP + X + bytes(100), TOP + X + bytes(512) + X + END]
)
def test_an_archive_without_an_end_is_none(data: bytes, tmp_path: Path) -> None:
    with pytest.raises(TransferError):
        passed(data, LISTED, tmp_path)


def test_zeros_without_an_end_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TransferError, match="does not end"):
        passed(TOP + bytes(2 << 20), LISTED, tmp_path)


def test_a_tar_without_pax_is_given_none(tmp_path: Path) -> None:
    reader = tar_guard.TarGuard(LISTED, "h", os.fsencode(tmp_path), plain=True)
    with pytest.raises(TransferError, match="does not know"):
        reader.feed(TOP + pax(path="x") + X + END)


def test_what_was_made_since_the_listing_passes_where_all_is_wanted(tmp_path: Path) -> None:
    data = TOP + X + one("./new", content=b"n") + END
    reader = tar_guard.TarGuard(LISTED, "h", os.fsencode(tmp_path), strangers=True)
    assert reader.feed(data) == data
    with pytest.raises(UnsafeName, match="not requested"):
        passed(data, LISTED, tmp_path)


def test_a_size_for_libarchive_that_is_the_size_passes(tmp_path: Path) -> None:
    with_holes = pax(SCHILY_realsize="2000") + holes(b"1", (1999, 1), real=2000)
    of_pax = pax(**MAP_1_0, GNU_sparse_realsize="2000", SCHILY_realsize="2000")
    of_pax += ustar(b"1\n1999\n1\n".ljust(512, b"\0") + b"1")
    for member in (pax(SCHILY_realsize="1") + X, with_holes, of_pax):
        assert passed(TOP + member + END, LISTED, tmp_path) == TOP + member + END


HONEST = TOP + X + one("./d", tarfile.DIRTYPE) + one("./l", tarfile.SYMTYPE, "x") + END


@examples(300)
@given(st.lists(st.tuples(st.integers(0, len(HONEST) - 1), st.integers(0, 255)), max_size=4))
def test_what_passes_is_read_by_a_tar_as_what_was_listed(changes: list[tuple[int, int]]) -> None:
    """Whatever bytes are changed (and the sums of headers put right)."""
    data = bytearray(HONEST)
    for at, value in changes:
        data[at] = value
    for start in (0, 512, 1536, 2048):
        data[start : start + 512] = signed(bytes(data[start : start + 512]), 148, b"")
    reader = tar_guard.TarGuard(LISTED, "h", b"/nowhere")
    try:
        through = reader.feed(bytes(data))
        reader.close()
    except TransferError:
        return
    kinds = {"x": tarfile.TarInfo.isreg, "d": tarfile.TarInfo.isdir, "l": tarfile.TarInfo.issym}
    try:
        with tarfile.open(fileobj=io.BytesIO(through)) as tar:
            members = tar.getmembers()
    except tarfile.ReadError:
        return  # a mode or an owner of letters: no tar takes that for anything else
    for member in members:
        name = member.name.removeprefix("./")
        assert name in (".", "") or kinds[name](member)


DEEP = one("./d", tarfile.DIRTYPE) + one("./d/y", content=b"y" * 700) + X
# A listing that was not looked at would be no excuse.
ODD = [b"x/y", b"e/x", b".", b"..", b"", b"/x", b"d/", b"d/.", b"d/..", b"d//x", b"d/../x"]
ALL_LISTED = [*LISTED, *(listing.Member(name, "f", 1) for name in (b"d/y", *ODD))]
NAMED = [b"./" + name + b"\0" for name in (b"x", b"d", b"l", b"d/y", b"d/z", *ODD)]
NAMED += [b"x\0", b"zzx\0", b"..x\0", b"//x\0"]
TEXTS = [b"\0", b" ", b"/", b"d", b"0", b"1", b"2", b"5", b"7", b"8", b"L", b"x", b"_1", b"\x80"]
TEXTS += [b"ustar\x0000", b"ustar  \0", b"ustar\0 \0"]
FIELDS = [*range(6), 99, 124, 134, 135, 148, *range(154, 158), 257, 262, 263, 264, 345, 500]
CHANGE = st.one_of(
    st.tuples(st.just(0), st.sampled_from(NAMED)),
    st.tuples(st.just(156), st.sampled_from(TEXTS)),
    st.tuples(
        st.sampled_from(FIELDS),
        st.sampled_from(TEXTS) | st.binary(min_size=1, max_size=12),
    ),
)


def _outcome(reader: tar_guard.TarGuard, data: bytes) -> tuple[bytes, str, dict[bytes, str]]:
    try:
        through = reader.feed(data)
        reader.close()
    except TransferError as error:
        return b"", f"{type(error).__name__}: {error}", reader._came.kinds
    return through, "", reader._came.kinds


@examples(300)
@given(st.lists(st.tuples(st.sampled_from([0, 512, 2048]), CHANGE, st.booleans()), max_size=3))
def test_the_short_way_of_plain_files_is_no_other_answer(
    changes: list[tuple[int, tuple[int, bytes], bool]],
) -> None:
    """What passes, the words of what does not, and what is known then, are those of the long."""
    data = DEEP + END
    for start, (at, text), right in changes:
        header = bytearray(data[start : start + 512])
        header[at : at + len(text)] = text
        new = bytes(header[:512].ljust(512, b"\0"))
        data = data[:start] + (signed(new, 0, b"") if right else new) + data[start + 512 :]
    short = tar_guard.TarGuard(ALL_LISTED, "h", b"/nowhere")
    long = tar_guard.TarGuard(ALL_LISTED, "h", b"/nowhere")
    long._plain_files = lambda data, at: at  # type: ignore[method-assign]
    assert _outcome(short, data) == _outcome(long, data)


@pytest.mark.parametrize("byte", [0, 1, 0x7F, 0xFF])
def test_the_sum_of_a_header_is_exact(byte: int) -> None:
    """The largest too, which a sum modulo something would take for a smaller one."""
    block = bytes([byte]) * 512
    assert tar_guard.header_sum(block) == sum(block) - 8 * byte + 8 * 32


def test_a_tar_here_may_stop_at_the_end(tmp_path: Path) -> None:
    """The zeros behind the end are nobody's: that is no broken pipe."""
    data = HONEST + bytes(1 << 18)
    source, into = os.pipe()
    here, to = os.pipe()
    os.close(here)
    with os.fdopen(into, "wb") as handle:
        handle.write(HONEST[:0])
    at_end = tar_guard.TarGuard(LISTED, "h", os.fsencode(tmp_path))
    at_end.feed(data)
    tar_guard.pass_on(source, to, at_end)
