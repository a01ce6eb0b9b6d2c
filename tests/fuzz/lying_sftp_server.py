"""An sftp-server that lies:  lying_sftp_server.py SEED SERVER

Starts the real one and changes its packets on the way: bytes of them, or what comes after some.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from random import Random


def main() -> None:
    random = Random(int(sys.argv[1]))
    server = subprocess.Popen([sys.argv[2]], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert server.stdin is not None
    assert server.stdout is not None

    def forward() -> None:
        while data := os.read(0, 65536):
            server.stdin.write(data)  # type: ignore[union-attr]
            server.stdin.flush()  # type: ignore[union-attr]
        server.stdin.close()  # type: ignore[union-attr]

    threading.Thread(target=forward, daemon=True).start()
    honest = random.randrange(1, 12)
    while data := bytearray(os.read(server.stdout.fileno(), 65536)):
        honest -= 1
        if honest == -1:
            # A client may wait for ever for an answer that it did not know again.
            ending = threading.Timer(1.0, os._exit, [1])
            ending.daemon = True
            ending.start()
        if honest < 0:
            for _ in range(random.randrange(1, 4)):
                data[random.randrange(len(data))] = random.randrange(256)
        os.write(1, data)
        if honest < -20:
            break
    server.kill()


if __name__ == "__main__":
    main()
