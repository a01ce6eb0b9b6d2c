"""A slow link that counts round trips: how often the client sent after it had received."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.bench.peers import SlowLink


class CountingLink(SlowLink):
    """``turns`` counts each time that the client sends after bytes of the server have reached it.

    With a delay that is long against the time that either side thinks, that is a round trip.
    """

    def __init__(self, address: str, port: int, delay: float) -> None:
        super().__init__(address, port, delay)
        self.turns = 0
        self._heard = False

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if writer.get_extra_info("peername")[1] == self._to[1]:
            await super()._carry(_Tap(reader, "read", self._speaks), writer)  # type: ignore[arg-type]
        else:
            await super()._carry(reader, _Tap(writer, "write", self._hears))  # type: ignore[arg-type]

    def _speaks(self) -> None:
        self.turns += self._heard
        self._heard = False

    def _hears(self) -> None:
        self._heard = True


class _Tap:
    """A stream of which one method is noted."""

    def __init__(self, stream: Any, method: str, note: Any) -> None:
        self._stream, self._method, self._note = stream, method, note

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._stream, name)
        if name != self._method:
            return found
        if name == "write":
            return lambda data: (self._note(), found(data))[1]

        async def read(size: int) -> bytes:
            data: bytes = await found(size)
            self._note()
            return data

        return read
