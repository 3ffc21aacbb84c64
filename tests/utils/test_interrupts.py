"""Signals that end a command: with one line, the shell's code, and never in the middle."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

import pytest

from featplug.utils.interrupts import Interrupted, delayed_interrupts, interrupts_raised

_COMMAND = """
import hashlib, os, signal, sys, time
import pycolmap
from featplug.cli.command_line import run_command
from featplug.utils import interrupts

interrupts.GRACE_SECONDS = 0.3

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

def worker():
    "Stop a forked process, as a loader of batches does, and end well."
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
    return subprocess.Popen(
        [sys.executable, "-c", _COMMAND, name],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


@pytest.mark.parametrize("name", ["python", "foreign", "wrapped", "ignored"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_a_command_with_one_line(name: str, number: signal.Signals) -> None:
    with _start(name) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        _, errors = process.communicate(timeout=30)
    assert process.returncode == 128 + number
    assert errors == "tool: stopped; run the same command again to resume.\n"


def test_the_end_of_a_worker_is_not_that_of_the_command() -> None:
    with _start("worker") as process:
        printed, errors = process.communicate(timeout=30)
    assert (printed, errors, process.returncode) == (f"{-signal.SIGTERM}\n", "", 0)


def test_a_block_is_finished_first_unless_a_second_signal_comes() -> None:
    done = []

    def work(num_signals: int) -> None:
        with delayed_interrupts():
            for _ in range(num_signals):
                os.kill(os.getpid(), signal.SIGTERM)
            done.append(num_signals)

    with interrupts_raised(lambda _: None):
        for num_signals in (1, 2):
            with pytest.raises(Interrupted) as ended:
                work(num_signals)
            assert ended.value.number == signal.SIGTERM
    assert done == [1]


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
