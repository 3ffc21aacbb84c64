"""Parts made by several processes of this machine, one for each device."""

import multiprocessing
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Any

from featplug.io.parts.part_files import Key
from featplug.shards.part_stage import PartStage
from featplug.shards.run_parts import PartResult, make_part

_STAGE: list[PartStage] = []
"""The stage of this process, on its device."""


@dataclass(frozen=True)
class Processes:
    """Makes parts in a process for each device, each with a network of its own."""

    devices: Sequence[str]

    def make(self, stage: PartStage, keys: Sequence[Key]) -> Iterator[PartResult]:
        """Make parts; yield each when it is done.

        The parts that a process dies of, or that wait for it, have that as their reason.
        """
        context = multiprocessing.get_context("spawn")  # CUDA does not survive a fork
        devices: Any = context.Queue()
        for device in self.devices:
            devices.put(device)
        with ProcessPoolExecutor(
            len(self.devices), context, initializer=_begin, initargs=(stage, devices)
        ) as pool:
            running: dict[Future[PartResult], Key] = {}
            waiting = iter(keys)
            while True:
                # No more than one part waits for each process, so that little is lost.
                while len(running) < 2 * len(self.devices):
                    key = next(waiting, None)
                    if key is None:
                        break
                    try:
                        running[pool.submit(_make, key)] = key
                    except BrokenProcessPool as error:
                        yield PartResult(key, None, _died(error))
                if not running:
                    return
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    key = running.pop(future)
                    try:
                        yield future.result()
                    except BrokenProcessPool as error:
                        yield PartResult(key, None, _died(error))


def _begin(stage: PartStage, devices: Any) -> None:
    _STAGE[:] = [stage.on_device(devices.get())]


def _make(key: Key) -> PartResult:
    return make_part(_STAGE[0], key)


def _died(error: BrokenProcessPool) -> str:
    return f"its process ended, as for lack of memory ({error})."
