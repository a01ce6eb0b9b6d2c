"""The private sshd with the variants and faults that tests want."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path

from openssh_jobs.testing.sshd import PrivateSshd


class Sshd(PrivateSshd):
    """``PrivateSshd`` plus the limits, banners, shells and rc files of real sites.

    ``files`` go into the private home (``{".bashrc": "echo noise"}``).
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        *,
        max_sessions: int | None = None,
        max_startups: str | None = None,
        banner: str | None = None,
        files: Mapping[str, str] | None = None,
        shell: Sequence[str] = (),
        config_extra: str = "",
        alias: str = "private",
        user: str | None = None,
        address: str = "127.0.0.1",
        port: int | None = None,
        private_home: bool = True,
        sftp: bool = True,
        identity: str | os.PathLike[str] | None = None,
        enter: Sequence[str] = (),
    ) -> None:
        lines = [config_extra]
        if max_sessions is not None:
            lines.append(f"MaxSessions {max_sessions}")
        if max_startups is not None:
            lines.append(f"MaxStartups {max_startups}")
        if banner is not None:
            lines.append(f'Banner "{Path(directory).absolute()}/banner"')
        super().__init__(
            directory,
            alias=alias,
            user=user,
            address=address,
            port=port,
            private_home=private_home,
            shell=shell,
            sftp=sftp,
            config_extra="\n".join(lines),
            identity=identity,
            enter=enter,
        )
        self.banner = banner
        self.files = dict(files or {})

    def start(self) -> None:
        """Start with the banner and the rc files in place."""
        self.directory.mkdir(mode=0o755, parents=True, exist_ok=True)
        if self.banner is not None:
            (self.directory / "banner").write_text(self.banner)
        if self.files:
            assert self.private_home, "files are only put into a private home"
            self.home.mkdir(mode=0o700, exist_ok=True)
        for name, text in self.files.items():
            path = self.home / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            if os.geteuid() == 0:
                os.chown(path, self.uid, self.gid)
        super().start()

    def freeze(self) -> None:
        """Stop every connection's server side, as a hung login node does; see ``thaw``."""
        self.kill_sessions(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let frozen connections go on."""
        self.kill_sessions(signal.SIGCONT)
