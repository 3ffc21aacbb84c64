"""A pair list as parts: the pairs of each shard's images."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Self

import numpy as np

from featplug.io.artifact import Provenance, file_hash
from featplug.io.names import enumerated
from featplug.io.pair_lists import Pair, read_pairs, unique_pairs
from featplug.io.parts.pair_parts import SUFFIX, write_pair_part
from featplug.io.parts.part_files import Key
from featplug.shards.image_parts import ImageParts
from featplug.shards.part_stage import PartReport


@dataclass(frozen=True)
class PairListParts(ImageParts):
    """The pairs of a text file."""

    name = "pairs"
    suffix = SUFFIX

    file: Path
    """Text file, two image names a line."""

    @property
    def folder(self) -> Path:
        """Folder of the parts, named after the file."""
        return self.store / self.file.stem

    @property
    def made_by(self) -> Provenance:
        """Nothing but the file decides over the pairs."""
        return Provenance("pairs", {})

    @cached_property
    def _pairs(self) -> dict[int, list[Pair]]:
        """Shard to the pairs of its images."""
        shard_of = self.manifest.shard_of
        listed = unique_pairs(read_pairs(self.file))
        unknown = {name: None for pair in listed for name in pair if name not in shard_of}
        if unknown:
            raise ValueError(
                f"{self.file} has images that {self.manifest.path} lacks: "
                f"{enumerated(list(unknown))}; make the manifest again, or correct the list."
            )
        found: dict[int, list[Pair]] = {}
        for pair in listed:
            found.setdefault(shard_of[pair[0]], []).append(pair)
        return found

    def inputs(self, key: Key) -> dict[str, str | None]:
        """Return the identities of the file and of the shard's images."""
        return {"pairs": file_hash(self.file), "images": self.manifest.identity(key[0])}

    def on_device(self, device: str | None) -> Self:
        """Return the stage itself, which needs no device."""
        return self

    def write(self, key: Key, path: Path, provenance: Provenance, progress: bool) -> PartReport:
        """Write the pairs of a shard's images.

        Raises:
            FileNotFoundError: the file does not exist.
            ValueError: it is damaged, or has images that the manifest lacks.
        """
        pairs = self._pairs.get(key[0], [])
        shards = [self.manifest.shard_of[name] for _, name in pairs]
        report = PartReport(len(pairs))
        made = provenance, report.to_json()
        write_pair_part(path, pairs, np.ones(len(pairs)), shards, made)
        return report
