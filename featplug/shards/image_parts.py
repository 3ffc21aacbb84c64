"""Stages with a part for each shard of a store's images."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from featplug.io.parts.manifest import Manifest
from featplug.io.parts.part_files import Key
from featplug.shards.part_stage import PartStage


@dataclass(frozen=True)
class ImageParts(PartStage):
    """A stage that makes a part of each shard."""

    store: Path
    """Folder of the store."""

    @cached_property
    def manifest(self) -> Manifest:
        """Images of the store."""
        return Manifest(self.store)

    def keys(self) -> list[Key]:
        """List the keys of all parts, one for each shard."""
        return [(shard,) for shard in range(self.manifest.num_shards)]
