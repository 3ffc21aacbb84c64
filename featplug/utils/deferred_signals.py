"""A stretch of work that Ctrl-C and SIGTERM do not interrupt."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def deferred_signals() -> Iterator[None]:
    """Let the handlers of Ctrl-C and SIGTERM wait for the end of the block.

    HDF5 calls back into Python while it writes. An exception that a handler raises there would
    arrive as a failed write. A signal without a handler in Python ends the process as ever.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread handles signals
        return
    received: list[tuple[int, FrameType | None]] = []
    handlers = {number: signal.getsignal(number) for number in _SIGNALS}
    deferred = {number: handler for number, handler in handlers.items() if callable(handler)}
    for number in deferred:
        signal.signal(number, lambda *arguments: received.append(arguments))
    try:
        yield
    finally:
        for number, handler in deferred.items():
            signal.signal(number, handler)
        for arguments in received[:1]:
            deferred[signal.Signals(arguments[0])](*arguments)
