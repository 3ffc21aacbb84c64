"""A program that answers requests in a process of its own, which ends with this one.

Requests go to its standard input, answers come from its standard output, each as 8 bytes with the
length of the .npz file that follows; the first answer reports that it has started.
"""

import io
import queue
import struct
import subprocess
import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import IO, cast

import numpy as np

_LENGTH = struct.Struct(">Q")
_MAX_BYTES = 2**31

Arrays = dict[str, np.ndarray]


class WorkerError(RuntimeError):
    """A process ended, took too long, or answered with something else; it is gone."""


class WorkerProcess:
    """A process that answers requests.

    Args:
        name: its name in messages.
        command: what to run.
        timeout: seconds that an answer may take.

    Raises:
        OSError: the program cannot be started.
        WorkerError: see :class:`WorkerError`.
    """

    def __init__(self, name: str, command: Sequence[str], timeout: float) -> None:
        self._name, self._timeout = name, timeout
        self._process = subprocess.Popen(  # noqa: S603 - the user names the interpreter
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        weakref.finalize(self, _end, self._process)
        self._requests = cast(IO[bytes], self._process.stdin)
        self._answers = cast(IO[bytes], self._process.stdout)
        started = self._wait(self._read)
        if "error" in started:
            _end(self._process)
            raise WorkerError(f"{name} cannot be loaded: {started['error']}")

    def ask(self, request: Mapping[str, np.ndarray]) -> Arrays:
        """Return the answer to a request.

        Raises:
            WorkerError: see :class:`WorkerError`.
        """
        content = io.BytesIO()
        np.savez(content, **request)  # type: ignore[arg-type]

        def ask() -> Arrays:
            self._requests.write(_LENGTH.pack(content.tell()) + content.getbuffer())
            self._requests.flush()
            return self._read()

        return self._wait(ask)

    def _read(self) -> Arrays:
        (length,) = _LENGTH.unpack(self._answers.read(_LENGTH.size))
        if length > _MAX_BYTES:
            raise ValueError("the answer is too long")
        content = io.BytesIO(self._answers.read(length))
        with np.load(content, allow_pickle=False) as arrays:
            return dict(arrays)

    def _wait(self, talk: Callable[[], Arrays]) -> Arrays:
        """Return the result of a function that waits for the process."""
        results: queue.Queue[Arrays | Exception] = queue.Queue()

        def run() -> None:
            try:
                results.put(talk())
            except Exception as error:
                results.put(error)

        # Ctrl-C and the end of the program need not wait for a thread of this kind.
        threading.Thread(target=run, daemon=True).start()
        try:
            result = results.get(timeout=self._timeout)
        except queue.Empty:
            _end(self._process)
            raise WorkerError(
                f"{self._name} took more than {self._timeout:g} s and was ended; set its option "
                "timeout to more, or --resize-max to less."
            ) from None
        except BaseException:  # Ctrl-C
            _end(self._process)
            raise
        if isinstance(result, dict):
            return result
        with suppress(subprocess.TimeoutExpired):  # it may be about to end
            self._process.wait(1)
        status = self._process.poll()
        _end(self._process)
        if status is None:
            raise WorkerError(f"{self._name} answered with something else than arrays.")
        raise WorkerError(
            f"The process of {self._name} ended with status {status}; see what it printed."
        )


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
