"""Parts made by the workers of a Ray cluster (``pip install 'featplug[ray]'``).

Each worker is an actor, which keeps its network. A part whose worker or node is gone is given to
another one, and so is, at the end, a part that takes far longer than others: whichever is whole
first is kept, as all are the same.
"""

import logging
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from featplug import __version__
from featplug.io.parts.part_files import Key
from featplug.shards.part_stage import PartStage
from featplug.shards.run_parts import PartResult, make_part
from featplug.utils.extras import require

_EXTRA = "ray"
_MAX_TRIES = 4
"""Number of workers that may die of a part."""
_SLOW = 2.0
"""A part is slow that takes so many times the median of those that are done."""
_POLL_SECONDS = 0.5
_STARTING_SECONDS = 120.0
"""Time without any worker after which the cluster is taken to have no room for one."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RayCluster:
    """Makes parts on a Ray cluster."""

    address: str | None = None
    """Address of a running cluster, such as auto or ray://HOST:10001; None starts one here."""
    num_workers: int | None = None
    """Number of workers; as many as the cluster has room for by default."""
    cpus: float = 1.0
    """CPU cores of a worker."""
    gpus: float = 0.0
    """GPUs of a worker, which may share one: 0.5."""

    def make(self, stage: PartStage, keys: Sequence[Key]) -> Iterator[PartResult]:
        """Make parts; yield each when it is done, in any order.

        Raises:
            ValueError: Ray is not installed, the cluster does not exist or has no room for a
                worker, or a worker has another version of featplug.
        """
        ray = require("ray", _EXTRA)
        is_started_here = not ray.is_initialized()
        if is_started_here:
            _connect(ray, self.address)
        try:
            yield from _Pool(ray, self, stage, keys).results()
        finally:
            if is_started_here:
                ray.shutdown()

    def room(self, ray: Any) -> int:
        """Return the number of workers to start.

        Raises:
            ValueError: the cluster is too small for one.
        """
        total = ray.cluster_resources()
        wanted = {"CPU": self.cpus, "GPU": self.gpus}
        fitting = [int(total.get(name, 0) / amount) for name, amount in wanted.items() if amount]
        room = min(fitting, default=1)
        if room < 1:
            have = ", ".join(f"{total.get(name, 0):g} {name}" for name in wanted)
            raise ValueError(
                f"The Ray cluster has {have}, which is too little for a worker of {self.cpus:g} "
                f"CPU and {self.gpus:g} GPU; add nodes, or ask for less by --worker-cpus and "
                "--worker-gpus."
            )
        return min(room, self.num_workers or room)


def _connect(ray: Any, address: str | None) -> None:
    try:
        ray.init(
            address=address or "local",
            include_dashboard=False if address is None else None,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    except (ConnectionError, OSError, RuntimeError, ValueError) as error:
        raise ValueError(
            f"There is no Ray cluster at {address or 'this machine'} ({error}); start one by `ray "
            "start --head`, or leave --address out for one on this machine."
        ) from error


class _Worker:
    """What an actor of Ray's does."""

    def __init__(self, stage: PartStage) -> None:
        self._stage = stage

    def version(self) -> str:
        return __version__

    def make(self, key: Key) -> PartResult:
        return make_part(self._stage, key)


@dataclass
class _Task:
    """A part on its way, by one worker."""

    key: Key
    worker: int
    start: float = field(default_factory=time.monotonic)


class _Pool:
    """Workers and the parts that they make."""

    def __init__(
        self, ray: Any, cluster: RayCluster, stage: PartStage, keys: Sequence[Key]
    ) -> None:
        self._ray, self._keys = ray, keys
        actor = ray.remote(num_cpus=cluster.cpus, num_gpus=cluster.gpus)(_Worker)
        self._start_worker = lambda: actor.remote(stage)
        self._num_workers = min(cluster.room(ray), max(1, len(keys)))
        self._workers: dict[int, Any] = {}
        self._starting: dict[Any, int] = {}
        """Answer of each worker that is being started, to its number."""
        self._idle: set[int] = set()
        self._tasks: dict[Any, _Task] = {}
        self._tries: dict[Key, int] = {}
        self._seconds: list[float] = []
        self._last_alive = time.monotonic()

    def results(self) -> Iterator[PartResult]:
        """Yield the result of each part."""
        waiting, left = deque(self._keys), set(self._keys)
        try:
            for number in range(self._num_workers):
                self._start(number)
            while left:
                self._give(waiting, left)
                for result in self._next(waiting):
                    if result.key in left:
                        left.remove(result.key)
                        yield result
        finally:
            for worker in self._workers.values():
                self._ray.kill(worker)

    def _start(self, number: int) -> None:
        self._workers[number] = worker = self._start_worker()
        self._starting[worker.version.remote()] = number

    def _give(self, waiting: deque[Key], left: set[Key]) -> None:
        """Give parts to idle workers; at the end, slow parts of others."""
        while self._idle and (key := self._pick(waiting, left)) is not None:
            number = self._idle.pop()
            self._tasks[self._workers[number].make.remote(key)] = _Task(key, number)

    def _pick(self, waiting: deque[Key], left: set[Key]) -> Key | None:
        while waiting:
            if (key := waiting.popleft()) in left:
                return key
        running = [task.key for task in self._tasks.values()]
        slow = [
            task
            for task in self._tasks.values()
            if task.key in left
            and running.count(task.key) == 1
            and len(self._seconds) > 1
            and time.monotonic() - task.start > _SLOW * median(self._seconds)
        ]
        return min(slow, key=lambda task: task.start).key if slow else None

    def _next(self, waiting: deque[Key]) -> Iterator[PartResult]:
        """Yield the results of the parts that are done within a while."""
        references = [*self._starting, *self._tasks]
        done, _ = self._ray.wait(references, num_returns=1, timeout=_POLL_SECONDS)
        for reference in done:
            if reference in self._starting:
                self._greet(reference)
            else:
                yield from self._take(reference, waiting)
        if self._idle or self._tasks:
            self._last_alive = time.monotonic()
        elif time.monotonic() - self._last_alive > _STARTING_SECONDS:
            raise ValueError(
                f"The Ray cluster started no worker within {_STARTING_SECONDS:g} s; see `ray "
                "status`, and run the command again: what was made is kept."
            )

    def _greet(self, reference: Any) -> None:
        """Take up a worker that has started, or start another one in its place."""
        number = self._starting.pop(reference)
        try:
            version = self._ray.get(reference)
        except self._ray.exceptions.RayError as error:
            logger.warning("A worker could not be started, and is started again: %s", _line(error))
            self._start(number)
            return
        if version != __version__:
            raise ValueError(
                f"A worker of the Ray cluster has featplug {version}, this program {__version__}; "
                "install one version on all nodes."
            )
        self._idle.add(number)

    def _take(self, reference: Any, waiting: deque[Key]) -> Iterator[PartResult]:
        """Yield the result of a part, or give it to another worker where its own is gone."""
        task = self._tasks.pop(reference)
        try:
            result = self._ray.get(reference)
        except self._ray.exceptions.RayError as error:
            tries = self._tries[task.key] = self._tries.get(task.key, 0) + 1
            self._start(task.worker)
            if tries < _MAX_TRIES:
                logger.warning("A worker is gone; its part is made by another: %s", _line(error))
                waiting.appendleft(task.key)
            else:
                yield PartResult(
                    task.key, None, f"{tries} workers died of it, the last one: {_line(error)}."
                )
            return
        self._seconds.append(time.monotonic() - task.start)
        self._idle.add(task.worker)
        yield result


def _line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
