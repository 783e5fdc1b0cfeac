"""A TCP proxy before a server, which can refuse, cut, slow, silence, or lose the answers of connections.

It runs in a thread of its own and holds at most some pieces of 64 KiB for each connection, so a side that does not
read holds up the other, as without it.
"""

import asyncio
import socket
import struct
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

_PIECE = 65_536
_LOOPBACK = "127.0.0.1"
# A slow connection gets its bytes in so many portions a second.
_PORTIONS = 20


class Wire:
    """A context in which `port` leads to the target: host and port, or a unix socket.

    The effect on connections lasts until the next method is called, or `restore`. All may be called from any thread.
    """

    def __init__(self, target: tuple[str, int] | Path) -> None:
        self.target = target
        # Bound from the start, so that no other program takes the port while connections are refused.
        self._holder = socket.socket()
        self._holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._holder.bind((_LOOPBACK, 0))
        self.port = int(self._holder.getsockname()[1])
        self._rate: int | None = None
        self._loses_answers = False
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="wire", daemon=True)
        self._flows = asyncio.Event()
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()
        # The connections of clients whose next answer is to be lost.
        self._losing: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def address(self) -> str:
        return f"http://{_LOOPBACK}:{self.port}"

    def __enter__(self) -> Self:
        self._thread.start()
        self.restore()
        return self

    def __exit__(self, *_: object) -> None:
        self._do(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._holder.close()

    def restore(self) -> None:
        """Pass everything on again. Silent connections continue where they stopped."""
        self._do(self._set())

    def refuse(self) -> None:
        """Refuse new connections, and cut those that are open."""
        self._do(self._refuse())

    def cut(self) -> None:
        """Reset the connections that are open now, and change nothing else."""
        self._do(self._cut())

    def slow(self, rate: int) -> None:
        """Pass on `rate` bytes a second, each way of each connection."""
        self._do(self._set(rate=rate))

    def hang(self) -> None:
        """Accept connections, and pass nothing on."""
        self._do(self._set(flows=False))

    def lose_answers(self) -> None:
        """Pass on calls, and cut the connection when the answer comes."""
        self._do(self._set(loses_answers=True))

    def lose_next_answers(self) -> None:
        """Cut each connection that is open now when its next answer comes. Others work."""
        self._do(self._set(loses_next=True))

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout=30)

    async def _set(
        self, *, rate: int | None = None, flows: bool = True, loses_answers: bool = False, loses_next: bool = False
    ) -> None:
        self._rate, self._loses_answers = rate, loses_answers
        self._losing = set(self._open) if loses_next else set()
        if flows:
            self._flows.set()
        else:
            self._flows.clear()
        if self._server is None:
            listener = socket.socket()
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((_LOOPBACK, self.port))
            self._server = await asyncio.start_server(self._accept, sock=listener, backlog=128)

    async def _refuse(self) -> None:
        if self._server:
            self._server.close()
            self._server = None
        await self._cut()
        self._flows.set()

    async def _cut(self) -> None:
        for writer in list(self._open):
            _reset(writer)
        await asyncio.sleep(0)

    async def _end(self) -> None:
        await self._refuse()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        self._tasks.add(task)
        ends = {writer}
        pumps: list[asyncio.Task[None]] = []
        end: Callable[[asyncio.StreamWriter], None] = _reset
        self._open.add(writer)
        try:
            await self._flows.wait()
            answers, beyond = await self._connect()
            ends.add(beyond)
            self._open.add(beyond)
            both = (self._pump(reader, beyond, is_answer=False), self._pump(answers, writer, is_answer=True))
            pumps = [asyncio.create_task(each) for each in both]
            await asyncio.gather(*pumps)
            end = asyncio.StreamWriter.close  # a reset would lose what a side has not read yet
        except (OSError, asyncio.CancelledError):
            pass  # either side has ended, or the server is down: the other learns it by the reset
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            for each in ends:
                end(each)
            self._open -= ends
            self._losing -= ends
            self._tasks.discard(task)

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if isinstance(self.target, Path):
            return await asyncio.open_unix_connection(self.target, limit=_PIECE)
        return await asyncio.open_connection(*self.target, limit=_PIECE)

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, is_answer: bool) -> None:
        """Pass on data until its end, and then the end."""
        while True:
            rate = self._rate
            piece = await source.read(max(1, rate // _PORTIONS) if rate else _PIECE)
            await self._flows.wait()
            if is_answer and (self._loses_answers or sink in self._losing):
                raise ConnectionResetError
            if not piece:
                with suppress(OSError):
                    sink.write_eof()
                return
            sink.write(piece)
            await sink.drain()
            if rate:
                await asyncio.sleep(len(piece) / rate)


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close a connection at once, so that the other side gets an error and not an end."""
    found = writer.get_extra_info("socket")
    with suppress(OSError):
        if found is not None and found.family != socket.AF_UNIX:
            found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
