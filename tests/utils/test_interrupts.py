"""Signals that end a command: with one line, the shell's code, and never in the middle."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from featplug.utils.interrupts import Interrupted, delayed_interrupts, interrupts_raised

_COMMAND = """
import hashlib, os, signal, sys, time
import pycolmap
from featplug.cli.command_line import run_command
from featplug.utils import interrupts

interrupts.GRACE_SECONDS = 0.3
signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell may have ignored
signal.signal(signal.SIGHUP, signal.SIG_DFL)

def python():
    "Wait."
    print("ready", flush=True)
    time.sleep(60)

def foreign():
    "Wait in code that never looks for signals, as COLMAP's does not."
    print("ready", flush=True)
    hashlib.pbkdf2_hmac("sha256", b"", b"", 2**31 - 1)

def wrapped():
    "Be in a library that makes another error of every exception."
    try:
        python()
    except BaseException:
        raise OSError(5, "cannot write")

class Deleted:
    def __del__(self):
        python()

def ignored():
    "Be in code whose exceptions Python ignores."
    Deleted()
    time.sleep(60)

def stored():
    "Be in a block that no signal interrupts, for longer than the main thread is waited for."
    with interrupts.delayed_interrupts(also_second=True):
        print("ready", flush=True)
        time.sleep(1)
        print("finished", flush=True)

def late():
    "Import pycolmap only now, which takes over the signals."
    import featplug.colmap.model_files
    python()

def worker():
    "Stop a forked process, as a loader of batches does, and end well."
    print("ready", flush=True)
    child = os.fork()
    if child == 0:
        time.sleep(60)
    time.sleep(0.1)
    os.kill(child, signal.SIGTERM)
    _, status = os.waitpid(child, 0)
    time.sleep(0.6)
    print(os.waitstatus_to_exitcode(status), flush=True)

run_command(globals()[sys.argv[1]], "tool", [])
"""


def _start(name: str) -> subprocess.Popen[str]:
    command = _COMMAND.replace("import pycolmap\n", "") if name == "late" else _COMMAND
    return subprocess.Popen(
        [sys.executable, "-c", command, name],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


@pytest.mark.parametrize("name", ["python", "foreign", "late", "wrapped", "ignored", "stored"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_a_command_with_one_line(name: str, number: signal.Signals) -> None:
    with _start(name) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        try:
            printed, errors = process.communicate(timeout=30)
        finally:
            process.kill()
    assert process.returncode == 128 + number
    assert printed == ("finished\n" if name == "stored" else "")
    assert errors == "tool: stopped; run the same command again to resume.\n"


def test_the_end_of_a_worker_is_not_that_of_the_command() -> None:
    with _start("worker") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        printed, errors = process.communicate(timeout=30)
    assert (printed, errors, process.returncode) == (f"{-signal.SIGTERM}\n", "", 0)


@pytest.mark.parametrize("also_second", [False, True])
def test_a_block_is_finished_first_unless_a_second_signal_comes(also_second: bool) -> None:
    done = []

    def work(num_signals: int) -> None:
        with delayed_interrupts(also_second):
            for _ in range(num_signals):
                signal.raise_signal(signal.SIGTERM)
            done.append(num_signals)

    with interrupts_raised(lambda _: None):
        for num_signals in (1, 2):
            with pytest.raises(Interrupted) as ended:
                work(num_signals)
            assert ended.value.number == signal.SIGTERM
    assert done == ([1, 2] if also_second else [1])


def test_a_signal_waits_only_for_handlers_in_python() -> None:
    class Stopped(BaseException):
        pass

    def stop(*_: object) -> None:
        raise Stopped

    def stop_within_a_block(reached: list[str]) -> None:
        with delayed_interrupts():
            signal.raise_signal(signal.SIGTERM)
            reached.append("the end")

    reached: list[str] = []
    before = signal.signal(signal.SIGTERM, stop)
    try:
        with pytest.raises(Stopped):
            stop_within_a_block(reached)
        assert reached == ["the end"]
        assert signal.getsignal(signal.SIGTERM) is stop
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        with delayed_interrupts():
            assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_signal_is_sent_again_where_there_are_no_posix_signals(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """On Windows os.kill ends the process at once, whatever the handler."""
    monkeypatch.delattr(signal, "pthread_kill")
    monkeypatch.delattr(os, "kill")

    class Deleted:
        def __del__(self) -> None:
            signal.raise_signal(signal.SIGTERM)

    def work() -> None:
        Deleted()
        for _ in range(1000):
            time.sleep(0.02)

    with interrupts_raised(lambda _: None), pytest.raises(Interrupted):
        work()


def test_handlers_are_restored_and_other_threads_work() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    done = []

    def work() -> None:
        with interrupts_raised(lambda _: None), delayed_interrupts():
            done.append(True)

    with interrupts_raised(lambda _: None):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert done == [True]
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
