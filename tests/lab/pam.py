"""A login node with real PAM and a real second factor: password, then a code that time makes.

Only in the lab: ``/etc`` is a copy-on-write layer there, so users get a password and ``sshd`` a PAM
service of its own without the machine noticing.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import struct
import subprocess
import time
from pathlib import Path

from tests.lab import namespaces

SECRET = base64.b32encode(b"openssh-jobs-test-20").decode()
_SERVICE = Path("/etc/pam.d/sshd")


def set_up(directory: Path, user: str, password: str, *, reuse: bool = False) -> None:
    """Give a user of the lab a password and a second factor.  ``reuse``: a code counts twice."""
    namespaces.require_own("PAM")
    directory.mkdir(mode=0o755, parents=True, exist_ok=True)
    secret = directory / f"totp-{user}"
    once = "" if reuse else '" DISALLOW_REUSE\n'
    secret.write_text(f'{SECRET}\n" WINDOW_SIZE 3\n{once}" TOTP_AUTH\n')
    os.chmod(secret, 0o600)
    _SERVICE.write_text(
        "auth required pam_unix.so\n"
        f"auth required pam_google_authenticator.so secret={directory}/totp-${{USER}} user=root "
        "allowed_perm=0600 no_strict_owner\n"
        "account required pam_permit.so\n"
        "session required pam_permit.so\n"
    )
    subprocess.run(["chpasswd"], input=f"{user}:{password}\n", text=True, check=True, timeout=20)


SSHD = """\
UsePAM yes
KbdInteractiveAuthentication yes
AuthenticationMethods keyboard-interactive
"""
# A key, then a password, then a code, as many sites have it.
SSHD_AFTER_KEY = SSHD.replace("keyboard-interactive\n", "publickey,keyboard-interactive\n")


def code(at: float | None = None) -> str:
    """The code of now, or of another time (RFC 6238, 30 s, six digits)."""
    counter = struct.pack(">Q", int((time.time() if at is None else at) // 30))
    digest = hmac.new(base64.b32decode(SECRET), counter, hashlib.sha1).digest()
    offset = digest[-1] & 15
    (number,) = struct.unpack(">I", digest[offset : offset + 4])
    return f"{(number & 0x7FFFFFFF) % 1_000_000:06}"
