"""Ctrl-C, SIGTERM and SIGHUP: how they end a command, and blocks of code that they wait for."""

import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

GRACE_SECONDS = 5.0
"""Time in which the main thread must notice a signal; COLMAP's C++ does not look for minutes."""

SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)
"""Signals that ask a program to end."""

_Handler = Callable[[int, FrameType | None], object]
_PAUSE_SECONDS = 0.02
_noticed = threading.Event()
_received: list[int] = []
"""Signals that were raised."""


class Interrupted(KeyboardInterrupt):
    """A signal that ends a command as Ctrl-C does."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


@contextmanager
def interrupts_raised(end: Callable[[int], object]) -> Iterator[None]:
    """Raise :class:`Interrupted` for the signals while the block runs, in the main thread.

    Where the main thread does not notice a signal, as it runs a library's code, ``end`` is called
    with its number in another thread, and the process ends as the shell expects it of the signal.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}
    raised = [number for number, handler in before.items() if handler is not signal.SIG_IGN]
    _noticed.clear()
    _received.clear()
    receiver, sender = socket.socketpair()
    sender.setblocking(False)
    watch = threading.Thread(target=_watch, args=(receiver, end), daemon=True)
    _install(dict.fromkeys(raised, _raise))
    wakeup = signal.set_wakeup_fd(sender.fileno(), warn_on_full_buffer=False)
    hook, sys.unraisablehook = sys.unraisablehook, _send_again
    watch.start()
    try:
        yield
    except Exception as error:
        if _received:  # a library has made another error of it
            raise Interrupted(_received[0]) from error
        raise
    finally:
        sys.unraisablehook = hook
        signal.set_wakeup_fd(wakeup)
        for number in raised:
            signal.signal(number, before[number] or signal.SIG_DFL)
        sender.close()
        watch.join()
        receiver.close()


@contextmanager
def own_handlers_kept() -> Iterator[None]:
    """Keep our handlers, or the system's, while the block imports pycolmap.

    Its own handler prints a C++ stack. Signals that come in between wait.
    """
    before = None
    if hasattr(signal, "pthread_sigmask"):
        before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        reinstall()
        if before is not None:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


def reinstall() -> None:
    """Install our handlers or the system's again after an import of pycolmap."""
    if threading.current_thread() is threading.main_thread():
        for number in SIGNALS:
            handler = signal.getsignal(number)
            if handler in (_raise, signal.SIG_DFL):
                signal.signal(number, handler)


@contextmanager
def delayed_interrupts(also_second: bool = False) -> Iterator[None]:
    """Delay Ctrl-C and the like until the block ends; a second one only if ``also_second``.

    A signal without a handler in Python ends the process as ever.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}
    handlers = {number: handler for number, handler in before.items() if callable(handler)}
    received: list[int] = []

    def hold(number: int, _: FrameType | None) -> None:
        _noticed.set()
        received.append(number)
        if not also_second:
            _install(handlers)

    _install(dict.fromkeys(handlers, hold))
    try:
        yield
    finally:
        _install(handlers)
    if received:
        handlers[received[0]](received[0], None)


def _raise(number: int, _: FrameType | None) -> NoReturn:
    _noticed.set()
    _received.append(number)
    raise Interrupted(number)


def _send_again(unraisable: "sys.UnraisableHookArgs") -> None:
    """Send a signal again that came in code whose exceptions Python ignores, as ``__del__``."""
    error = unraisable.exc_value
    if not isinstance(error, Interrupted):
        sys.__unraisablehook__(unraisable)
        return

    def send() -> None:
        if signal.getsignal(error.number) is signal.SIG_DFL:
            return
        if hasattr(signal, "pthread_kill"):  # wakes the main thread
            signal.pthread_kill(threading.main_thread().ident or 0, error.number)
        else:  # Windows, where os.kill ends the process at once
            signal.raise_signal(error.number)

    threading.Timer(_PAUSE_SECONDS, send).start()


def _watch(receiver: socket.socket, end: Callable[[int], object]) -> None:
    while number := receiver.recv(1):
        if number[0] in SIGNALS and not _noticed.wait(GRACE_SECONDS):
            end(number[0])
            os._exit(128 + number[0])


def _install(handlers: Mapping[int, _Handler]) -> None:
    for number, handler in handlers.items():
        signal.signal(number, handler)


def _restore_in_child() -> None:
    """Let a forked process end without a word, and its signals not be taken for the parent's."""
    if signal.getsignal(signal.SIGTERM) is _raise:
        signal.set_wakeup_fd(-1)
        for number in SIGNALS:
            if number != signal.SIGINT:  # which workers expect as an exception
                signal.signal(number, signal.SIG_DFL)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_restore_in_child)
