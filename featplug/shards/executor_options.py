"""Where a stage makes its parts: a share of them, and by which executor."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, TypeVar

from featplug.shards.processes import Processes
from featplug.shards.ray_cluster import RayCluster
from featplug.shards.run_parts import Executor, ThisProcess
from featplug.shards.share import Share

if TYPE_CHECKING:
    from featplug.stages.shared_options import DeviceOptions

Options = TypeVar("Options", bound="DeviceOptions")


@dataclass(frozen=True, kw_only=True)
class ShardOptions:
    """Which parts of a store are made, and where."""

    shard: str | None = None
    """Make a share I/N of the parts of a store (`featplug shard make`), the --export_dir, such as
    0/4; 0/1 makes all."""
    executor: Literal["process", "ray"] = "process"
    """Make the parts of a store in this process, or in one for each --device (cuda:0,cuda:1), or on
    a Ray cluster."""
    address: str | None = None
    """Address of the Ray cluster, such as auto; by default one is started on this machine."""
    workers: int | None = None
    """Number of workers on the Ray cluster, by default as many as it has room for."""
    worker_cpus: float = 1.0
    """CPU cores of a worker."""
    worker_gpus: float = 0.0
    """GPUs of a worker; several may share one, such as 0.5."""

    def share(self) -> Share | None:
        """Return the share, or None where no store is meant.

        Raises:
            ValueError: it is none.
        """
        if self.shard is None:
            return Share() if self.executor == "ray" else None
        return Share.parse(self.shard)

    def chosen_executor(self, device: str | None) -> Executor:
        """Return what makes the parts.

        Args:
            device: device, or several with commas between them.

        Raises:
            ValueError: a number is none.
        """
        if self.workers is not None and self.workers < 1:
            raise ValueError(f"--workers must be 1 or more, not {self.workers}.")
        if self.worker_cpus < 0 or self.worker_gpus < 0:
            raise ValueError("--worker-cpus and --worker-gpus must not be negative.")
        if self.executor == "ray":
            return RayCluster(self.address, self.workers, self.worker_cpus, self.worker_gpus)
        devices = (device or "").split(",")
        return Processes(devices) if len(devices) > 1 else ThisProcess()


def first_device(options: Options) -> Options:
    """Return options with the first of their devices, where they have several."""
    return replace(options, device=options.device and options.device.partition(",")[0])
