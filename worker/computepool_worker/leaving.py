"""The end of the process, whatever threads still hang.

A name lookup that nobody answers, or a write to a disk that has gone, is abandoned by whoever
waited for it, but its thread can't be ended. Python waits for such threads: asyncio when its loop
ends (Python 3.11 without a limit, 3.12 five minutes), and the interpreter at its own end.
"""

import functools
import logging
import os
import sys
import threading
from collections.abc import Callable, Coroutine
from typing import Any, NoReturn, TypeVar

_T = TypeVar("_T")

# What is written to a disk that works needs no longer.
_THREADS_PATIENCE = 2.0
_FLUSH_PATIENCE = 1.0


def run(coroutine: Coroutine[Any, Any, _T]) -> _T:
    """Run ``coroutine`` as ``asyncio.run`` does, but don't wait for threads that hang."""
    import asyncio
    from concurrent.futures import ThreadPoolExecutor

    class Threads(ThreadPoolExecutor):
        def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
            end = functools.partial(super().shutdown, wait, cancel_futures=cancel_futures)
            _within(_THREADS_PATIENCE, end)

    with asyncio.Runner() as runner:
        runner.get_loop().set_default_executor(Threads(thread_name_prefix="asyncio"))
        return runner.run(coroutine)


def leave(main: Callable[[], int]) -> NoReturn:
    """Run ``main`` and end the process with the code that it returns.

    What is still to be written to the log, stdout and stderr is, as far as somebody reads it.
    """
    code = 1
    try:
        code = main()
    except SystemExit as ended:
        # As argparse ends: it has said why.
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:  # noqa: BLE001  # shown as the interpreter would
        _within(_FLUSH_PATIENCE, functools.partial(sys.excepthook, *sys.exc_info()))
    _within(_FLUSH_PATIENCE, _flush)
    os._exit(code)


def _flush() -> None:
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        # None where the process was started without it, and closed when its reader has gone.
        if stream is not None:
            try:
                stream.flush()
            except (OSError, ValueError):
                continue


def _within(seconds: float, act: Callable[[], object]) -> None:
    """Do it in a thread of its own, and go on when it is done or the time is over."""
    acting = threading.Thread(target=act, name="ending", daemon=True)
    acting.start()
    acting.join(seconds)
