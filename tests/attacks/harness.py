"""How the attacks run a trial, and count what became of all of them.

A trial is a function that is run in a forked process, so that a trial costs no import, and a crash,
a hang or a memory bomb ends the trial alone.
"""

import os
import random
import signal
import struct
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

TIMEOUT_SECONDS = 60.0
MAX_MIB = 2048.0


@dataclass(frozen=True)
class Outcome:
    """What became of one trial."""

    exit_code: int
    """Exit code; negative for a signal."""
    seconds: float
    peak_mib: float
    output: str
    """Standard output and error output."""
    sent: int | None = None
    """Signal that the attack sent."""

    @property
    def fault(self) -> str | None:
        """Kind of fault that no input excuses, or None."""
        if self.seconds >= TIMEOUT_SECONDS:
            return "hang"
        if self.exit_code < 0 and -self.exit_code != self.sent:
            return f"killed by {signal.Signals(-self.exit_code).name}"
        if "Traceback (most recent call last)" in self.output:
            return "traceback"
        return "memory" if self.peak_mib > MAX_MIB else None

    @property
    def message(self) -> str:
        """Last line of the output."""
        return (self.output.strip().splitlines() or [""])[-1]


def attempt(trial: Callable[[], object], timeout: float = TIMEOUT_SECONDS) -> Outcome:
    """Run a trial in a forked process, in which nothing may have started threads before."""
    return Running(trial).wait(timeout)


class Running:
    """A trial in a forked process, in which nothing may have started threads before."""

    def __init__(self, trial: Callable[[], object]) -> None:
        self._output = tempfile.TemporaryFile()  # noqa: SIM115 (closed by wait)
        sys.stdout.flush()
        sys.stderr.flush()
        self._start = time.monotonic()
        self._sent: int | None = None
        self._outcome: Outcome | None = None
        self._pid = os.fork()
        if self._pid == 0:
            os._exit(_in_child(trial, self._output.fileno()))

    def send(self, number: int) -> None:
        """Send a signal to the process, unless it has ended."""
        if not self.has_ended():
            self._sent = number
            os.kill(self._pid, number)

    def has_ended(self) -> bool:
        """Return whether the process has ended."""
        if self._outcome is None:
            done, status, usage = os.wait4(self._pid, os.WNOHANG)
            if not done:
                return False
            seconds = time.monotonic() - self._start
            with self._output as output:
                output.seek(0)
                text = output.read().decode("utf-8", "replace")
            code, peak = os.waitstatus_to_exitcode(status), usage.ru_maxrss / 1024
            self._outcome = Outcome(code, seconds, peak, text, self._sent)
        return True

    def wait(self, timeout: float = TIMEOUT_SECONDS) -> Outcome:
        """Return the outcome; a process that takes longer is killed."""
        while not self.has_ended():
            if time.monotonic() - self._start > timeout:
                with suppress(ProcessLookupError):
                    os.kill(self._pid, signal.SIGKILL)
            time.sleep(0.002)
        assert self._outcome is not None
        return self._outcome


def _in_child(trial: Callable[[], object], output: int) -> int:
    os.dup2(output, 1)
    os.dup2(output, 2)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell may have ignored
    code = 0
    try:
        trial()
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException:  # the traceback is what is looked for
        traceback.print_exc()
        code = 1
    with suppress(OSError, ValueError):
        sys.stdout.flush()
        sys.stderr.flush()
    return code


@dataclass
class Tally:
    """Counts of the trials of one attack."""

    attack: str
    """Name of the attack in the table."""
    seed: int
    trials: int = 0
    exit_codes: Counter[int] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    """Trial, kind of fault and last line of each one."""
    slowest: float = 0.0
    peak_mib: float = 0.0

    def add(self, trial: str, outcome: Outcome, fault: str | None = None) -> None:
        """Count a trial; ``fault`` is one that only the attack itself can see."""
        self.trials += 1
        self.exit_codes[outcome.exit_code] += 1
        self.slowest = max(self.slowest, outcome.seconds)
        self.peak_mib = max(self.peak_mib, outcome.peak_mib)
        kind = outcome.fault or fault
        if kind is not None:
            self.faults.append(f"{trial}: {kind}: {outcome.message}")
            print(f"FAULT {self.faults[-1]}\n{outcome.output}", file=sys.stderr)

    def finish(self) -> None:
        """Print the line of the table, and exit with 1 if there was a fault."""
        codes = ", ".join(f"{count}× {code}" for code, count in sorted(self.exit_codes.items()))
        print(
            f"| {self.attack} | {self.seed} | {self.trials} | {len(self.faults)} | {codes} | "
            f"{self.slowest:.1f} | {self.peak_mib:.0f} |"
        )
        for fault in self.faults:
            print(f"  {fault}")
        sys.exit(bool(self.faults))


def flip_bit(path: Path, bit: int) -> None:
    """Flip one bit of a file."""
    with path.open("r+b") as file:
        file.seek(bit // 8)
        byte = file.read(1)[0]
        file.seek(bit // 8)
        file.write(bytes([byte ^ 1 << bit % 8]))


def damage(path: Path, rng: random.Random) -> str:
    """Damage a file in one of the ways of disks, networks and editors; return which."""
    content = bytearray(path.read_bytes())
    size = len(content)
    at, length = rng.randrange(max(1, size)), rng.choice((1, 4, 8, 64, 512))
    kind = rng.choice(("flip", "flips", "cut", "zero", "insert", "remove", "repeat", "number"))
    if kind in ("flip", "flips"):
        for _ in range(1 if kind == "flip" else 8):
            content[rng.randrange(size)] ^= 1 << rng.randrange(8)
    elif kind == "cut":
        del content[at:]
    elif kind == "zero":
        content[at : at + length] = bytes(len(content[at : at + length]))
    elif kind == "insert":
        content[at:at] = rng.randbytes(length)
    elif kind == "remove":
        del content[at : at + length]
    elif kind == "repeat":
        content[at:at] = content[at : at + length]
    else:
        extreme = struct.pack(*rng.choice(_EXTREMES))
        at = rng.randrange(0, max(1, size - 8), 4)
        content[at : at + len(extreme)] = extreme
    path.write_bytes(content)
    return f"{kind} at {at} of {path.name}"


_EXTREMES: list[tuple[str, float]] = [
    ("<i", -1),
    ("<I", 2**31),
    ("<I", 2_000_000_000),
    ("<Q", 2**63 - 1),
    ("<Q", 2**64 - 1),
    ("<Q", 2**28),
    ("<d", float("nan")),
    ("<d", float("inf")),
    ("<d", 1e300),
    ("<d", -1e-300),
]


def command(*words: str | Path) -> Callable[[], None]:
    """Return a trial that runs ``featplug`` with these words."""
    from featplug.__main__ import main

    def run() -> None:
        sys.argv = ["featplug", *map(str, words)]
        main()

    return run
