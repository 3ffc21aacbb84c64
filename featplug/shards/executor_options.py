"""Where a stage makes its parts: a share of them, and by which executor."""

from dataclasses import dataclass

from featplug.shards.run_parts import Executor, ThisProcess
from featplug.shards.share import Share


@dataclass(frozen=True, kw_only=True)
class ShardOptions:
    """Which parts of a store are made, and where."""

    shard: str | None = None
    """Make a share I/N of the parts of a store (`featplug shard make`), the --export_dir, such as
    0/4; 0/1 makes all."""

    def share(self) -> Share | None:
        """Return the share, or None where no store is meant.

        Raises:
            ValueError: it is none.
        """
        return None if self.shard is None else Share.parse(self.shard)

    def executor(self) -> Executor:
        """Return what makes the parts."""
        return ThisProcess()
