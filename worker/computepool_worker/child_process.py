"""The child process, seen from the parent: spoken to, listened to, and ended with all its own."""

import asyncio
import contextlib
import os
import signal
import threading
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

from computepool_worker import boundary, orphans
from computepool_worker.boundary import (
    Answer,
    Begun,
    BoundaryError,
    Done,
    Execute,
    Fail,
    Ready,
    Refused,
)
from computepool_worker.child_start import Started, send
from computepool_worker.logs import EventLog
from computepool_worker.output import LineGate, Tail

# Room for the traceback of a segfault; of its lines the last few go into the termination message.
_TAIL_BYTES = 16 * 1024
_TAIL_LINES = 15
_LINES_PER_SECOND = 20.0
_LINE_WIDTH = 2000
_DROPPED_INTERVAL = 10.0
# A process that hangs in a driver does not die of SIGKILL: there is nothing to wait for then.
_KILL_PATIENCE = 5.0
_DRAIN_PATIENCE = 1.0
# A driver may take some seconds to free the memory of a process that was killed.
_ORPHAN_PATIENCE = 4.0


@dataclass(frozen=True, slots=True)
class Exit:
    """How the child ended: ``code`` as subprocess has it, minus the signal that killed it.

    ``peak_memory`` is the largest resident memory in bytes, ``cpu_seconds`` the time on processors.
    """

    code: int
    peak_memory: int
    cpu_seconds: float

    def __str__(self) -> str:
        if self.code >= 0:
            return f"exited with code {self.code}"
        try:
            name = signal.Signals(-self.code).name
        except ValueError:
            name = f"signal {-self.code}"
        hint = " (often the kernel, for want of memory)" if self.code == -signal.SIGKILL else ""
        return f"was killed by {name}{hint}"


class ChildLostError(Exception):
    """The child will give no answer: ``what`` happened, and what it last wrote to stderr.

    ``ended`` says how it ended; None if it would not.
    """

    def __init__(self, what: str, last_lines: Sequence[str], ended: Exit | None) -> None:
        self.what = what
        self.last_lines = tuple(last_lines)
        self.ended = ended
        text = "".join(f"\n{boundary.shorten(line, 160)}" for line in last_lines[-_TAIL_LINES:])
        super().__init__(f"the child process {what}{text}")


class Child:
    """A running child, of which the event loop sees every sign of life.

    It answers one request at a time: ``ready`` first, then any number of ``execute``. Both raise
    ChildLostError when no answer can come any more; the child and whatever it has started are gone
    by then.
    """

    def __init__(self, started: Started, grace: float, log: EventLog) -> None:
        self._process = started.process
        self._requests = started.requests
        self._grace = grace
        self._log = log.bind(child=started.process.pid)
        self._loop = asyncio.get_running_loop()
        self._exit: asyncio.Future[Exit] = self._loop.create_future()
        self._alone = asyncio.Event()
        self._answers = asyncio.StreamReader(limit=boundary.MAX_LINE)
        self._outputs: list[_Output] = []
        self._transports: list[asyncio.BaseTransport] = []
        self._lock = threading.Lock()
        self._reaped = False
        self._busy = True
        self._last_sign = self._loop.time()

    @classmethod
    async def attach(cls, started: Started, *, grace: float, log: EventLog) -> "Child":
        """Let the running loop listen to the child; ``grace`` (s) separates SIGTERM and SIGKILL."""
        child = cls(started, grace, log)
        await child._listen(started)
        return child

    @property
    def has_ended(self) -> bool:
        """Whether the process is gone."""
        return self._exit.done()

    async def ready(self, timeout: float) -> Ready:
        """Return what the child says about itself and the device, within ``timeout`` seconds."""
        try:
            async with asyncio.timeout(timeout):
                answer = await self._answer()
        except TimeoutError:
            raise await self._lost(f"did not get ready within {timeout:.0f} s") from None
        if not isinstance(answer, Ready):
            raise await self._lost("spoke out of turn")
        self._busy = False
        return answer

    async def execute(
        self,
        request: Execute | Fail,
        *,
        max_silence: float | None = None,
        on_unit: Callable[[Begun], None] = lambda _: None,
    ) -> Done | Refused:
        """Let the child execute a Task, or fail it, however long it takes.

        ``on_unit`` is told of every unit that begins. A child that says and writes nothing for
        ``max_silence`` seconds is ended.
        """
        if self._requests.closed:
            # It was ended and has not died: `stop` has said so.
            stderr = self._outputs[1].tail.lines(100)
            raise ChildLostError("was ended and does not die", stderr, None)
        self._busy = True
        self._last_sign = self._loop.time()
        for output in self._outputs:
            output.task = request.task
        send(self._requests, request)
        while True:
            answer = await self._heard(self._answer(), max_silence)
            if isinstance(answer, Ready) or answer.task != request.task:
                raise await self._lost("spoke out of turn")
            if not isinstance(answer, Begun):
                self._busy = False
                return answer
            on_unit(answer)

    async def stop(self) -> Exit | None:
        """End the child and all that it has started; return how it ended, or None if nothing helps.

        An idle child is let go, one at work gets SIGTERM; after the grace, SIGKILL. May be called
        again.
        """
        self._requests.close()
        if not self._busy:
            await self._gone(self._grace)
        for number, patience in (
            (signal.SIGTERM, self._grace),
            (signal.SIGKILL, _KILL_PATIENCE),
        ):
            if not self._exit.done():
                self._signal(number)
                await self._gone(patience)
        if self._exit.done():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_KILL_PATIENCE):
                    await self._alone.wait()
        drained = [asyncio.ensure_future(output.closed.wait()) for output in self._outputs]
        _, late = await asyncio.wait(drained, timeout=_DRAIN_PATIENCE)
        for waiting in late:
            waiting.cancel()
        for transport in self._transports:
            transport.close()
        if not self._exit.done():
            self._log.error("child.does_not_die", advice="look for a hanging driver on this node")
            return None
        return self._exit.result()

    async def _listen(self, started: Started) -> None:
        streams = (("stdout", started.process.stdout), ("stderr", started.process.stderr))
        for name, pipe in streams:
            output = _Output(name, self._loop, self._log, self._note_sign)
            self._outputs.append(output)
            transport, _ = await self._loop.connect_read_pipe(output.itself, pipe)
            self._transports.append(transport)
        reader = asyncio.StreamReaderProtocol(self._answers)
        transport, _ = await self._loop.connect_read_pipe(lambda: reader, started.answers)
        self._transports.append(transport)
        # A daemon thread, so that a child that cannot die does not keep this process.
        threading.Thread(target=self._watch, name="child-watch", daemon=True).start()

    def _watch(self) -> None:
        pid = self._process.pid
        # Before the child is reaped nobody else can have its number: only then is its group safe
        # to kill, and what is left of the group must not outlive it.
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        with self._lock:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(pid, signal.SIGKILL)
            _, status, usage = os.wait4(pid, 0)
            self._reaped = True
        code = os.waitstatus_to_exitcode(status)
        self._process.returncode = code
        ended = Exit(code, usage.ru_maxrss * 1024, usage.ru_utime + usage.ru_stime)
        orphans.forget(pid)
        self._let_loop(lambda: self._note_exit(ended))
        killed, left = orphans.end_all(_ORPHAN_PATIENCE)
        self._let_loop(lambda: self._note_orphans(killed, left))

    def _let_loop(self, call: Callable[[], None]) -> None:
        # A loop that is closed has nobody left to tell.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(call)

    def _note_exit(self, ended: Exit) -> None:
        if not self._exit.done():
            self._exit.set_result(ended)
        self._log.info(
            "child.ended",
            code=ended.code,
            peak_memory_mib=ended.peak_memory // 2**20,
            cpu_seconds=ended.cpu_seconds,
        )

    def _note_orphans(self, killed: Sequence[int], left: Sequence[int]) -> None:
        self._alone.set()
        if killed:
            self._log.info("child.orphans_ended", count=len(killed))
        if left:
            self._log.error("child.orphans_do_not_die", processes=" ".join(map(str, left)))

    def _signal(self, number: signal.Signals) -> None:
        with self._lock, contextlib.suppress(ProcessLookupError):
            if not self._reaped:
                os.killpg(self._process.pid, number)

    async def _gone(self, patience: float) -> None:
        await asyncio.wait({self._exit}, timeout=patience)

    async def _answer(self) -> Answer:
        while True:
            try:
                line = await self._line()
                message = boundary.decode(line) if line.endswith(b"\n") else None
            except (BoundaryError, ValueError) as error:
                raise await self._lost(f"broke the protocol of its pipe: {error}") from None
            if not line.endswith(b"\n"):
                raise await self._lost("closed its pipe")
            self._note_sign()
            if isinstance(message, Ready | Begun | Done | Refused):
                return message

    async def _heard(
        self, answering: Coroutine[Any, Any, Answer], max_silence: float | None
    ) -> Answer:
        """Wait for an answer as long as there are other signs of life."""
        waiting = asyncio.ensure_future(answering)
        try:
            while not waiting.done():
                left = None
                if max_silence is not None:
                    left = self._last_sign + max_silence - self._loop.time()
                    if left <= 0:
                        # Python's fault handler then shows on stderr where it hangs.
                        self._signal(signal.SIGABRT)
                        await self._gone(self._grace)
                        raise await self._lost(
                            f"gave no sign of life for {max_silence:g} s and was ended",
                            tells_more=False,
                        )
                await asyncio.wait({waiting}, timeout=left)
            return waiting.result()
        finally:
            waiting.cancel()

    def _note_sign(self) -> None:
        self._last_sign = self._loop.time()

    async def _line(self) -> bytes:
        reading = asyncio.ensure_future(self._answers.readline())
        try:
            signs: set[asyncio.Future[Any]] = {reading, self._exit}
            await asyncio.wait(signs, return_when=asyncio.FIRST_COMPLETED)
            # What the child wrote before it ended is still in the pipe.
            await asyncio.wait({reading}, timeout=_DRAIN_PATIENCE)
            return reading.result() if reading.done() else b""
        finally:
            reading.cancel()

    async def _lost(self, what: str, *, tells_more: bool = True) -> ChildLostError:
        """End what there still is of the child.

        A death of its own tells more than ``what``, unless it was made to die.
        """
        if tells_more:
            await self._gone(_DRAIN_PATIENCE)
            if self._exit.done():
                what = str(self._exit.result())
        ended = await self.stop()
        stderr = self._outputs[1].tail.lines(100)
        return ChildLostError(what, stderr, ended)


class _Output(asyncio.Protocol):
    """Reads one of the child's output streams as fast as it comes; logs a bounded part of it.

    ``task`` is the one that the child was given last.
    """

    def __init__(
        self,
        name: str,
        loop: asyncio.AbstractEventLoop,
        log: EventLog,
        note_sign: Callable[[], None],
    ) -> None:
        self.tail = Tail(_TAIL_BYTES)
        self.closed = asyncio.Event()
        self.task: str | None = None
        self._gate = LineGate(per_second=_LINES_PER_SECOND, width=_LINE_WIDTH)
        self._loop = loop
        self._note_sign = note_sign
        self._log = log.bind(stream=name)
        self._told_dropped = loop.time()

    def itself(self) -> "_Output":
        """Be the factory that connecting a pipe asks for."""
        return self

    def data_received(self, data: bytes) -> None:
        """Take what the child wrote."""
        now = self._loop.time()
        self._note_sign()
        self.tail.feed(data)
        self._show(self._gate.feed(data, now))
        if now - self._told_dropped >= _DROPPED_INTERVAL:
            self._told_dropped = now
            self._tell_dropped()

    def connection_lost(self, exc: Exception | None) -> None:
        """Take the end of the stream."""
        self._show(self._gate.finish())
        self._tell_dropped()
        self.closed.set()

    def _show(self, lines: Sequence[str]) -> None:
        for line in lines:
            self._log.info("child.output", task=self.task, text=line)

    def _tell_dropped(self) -> None:
        dropped = self._gate.take_dropped()
        if dropped:
            self._log.warning("child.output.dropped", task=self.task, lines=dropped)
