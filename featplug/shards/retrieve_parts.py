"""Pairs by retrieval in parts: each shard of images with the whole set, a shard at a time."""

import time
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Self

import numpy as np
import torch

from featplug.base import choose_device
from featplug.io.artifact import Provenance, value_hash
from featplug.io.parts.feature_parts import GlobalDescriptorParts
from featplug.io.parts.pair_parts import SUFFIX, write_pair_part
from featplug.io.parts.part_files import Key
from featplug.shards.image_parts import ImageParts
from featplug.shards.part_stage import PartReport
from featplug.shards.store_names import pairs_name
from featplug.stages.retrieval_pairs import similarities

REVISION = 1


@dataclass(frozen=True)
class RetrieveParts(ImageParts):
    """The most similar images of each image of a store.

    Memory is that of two shards of descriptors, and of their similarities.
    """

    name = "retrieve"
    suffix = SUFFIX

    descriptors: Path
    """Folder of the parts of global descriptors."""
    num_matched: int
    """Largest number of images for each."""
    min_score: float | None = None
    """Least cosine similarity of a pair."""
    device: str | None = None

    @property
    def folder(self) -> Path:
        """Folder of the parts, named after the descriptors and the number of pairs."""
        return self.store / pairs_name(self.descriptors.name, self.num_matched, self.min_score)

    @cached_property
    def _reader(self) -> GlobalDescriptorParts:
        return GlobalDescriptorParts(self.descriptors)

    @property
    def made_by(self) -> Provenance:
        """Number and score of the pairs."""
        conf = {"num_matched": self.num_matched, "min_score": self.min_score}
        return Provenance("pairs", conf, revisions={"retrieve": REVISION})

    @cached_property
    def _all_descriptors(self) -> str:
        """Identity of the descriptors of all shards."""
        shards = range(self.manifest.num_shards)
        return value_hash([self._reader.part_id(shard) for shard in shards])

    def inputs(self, key: Key) -> dict[str, str | None]:
        """Return the identity of all descriptors."""
        return {"descriptors": self._all_descriptors}

    def on_device(self, device: str | None) -> Self:
        """Return the same stage on another device."""
        return replace(self, device=device)

    def write(self, key: Key, path: Path, provenance: Provenance, progress: bool) -> PartReport:
        """Find the most similar images of a shard's.

        Raises:
            ValueError: descriptors are damaged, or not of one length.
        """
        start = time.perf_counter()
        names, queries = self._read(key[0])
        best = np.full((len(names), 0), -np.inf, np.float32)
        partners = np.zeros((len(names), 0), np.int64)
        found: list[str] = []
        ends: list[int] = []
        """Number of images of the shards up to each one."""
        for shard in range(self.manifest.num_shards):
            others, vectors = self._read(shard)
            scores = self._similarities(queries, vectors)
            if shard == key[0]:
                np.fill_diagonal(scores, -np.inf)
            if self.min_score is not None:
                scores[scores < self.min_score] = -np.inf
            # Of equal ones, those of earlier shards are kept.
            best = np.concatenate([best, scores], axis=1)
            columns = len(found) + np.arange(len(others))
            partners = np.concatenate([partners, np.tile(columns, (len(names), 1))], axis=1)
            found += others
            ends.append(len(found))
            order = np.argsort(-best, axis=1, kind="stable")[:, : self.num_matched]
            best = np.take_along_axis(best, order, axis=1)
            partners = np.take_along_axis(partners, order, axis=1)
        rows, ranks = np.nonzero(np.isfinite(best))
        chosen = partners[rows, ranks]
        pairs = [(names[row], found[place]) for row, place in zip(rows, chosen, strict=True)]
        shards = (np.searchsorted(ends, chosen, "right")).tolist()
        report = PartReport(len(pairs), {}, time.perf_counter() - start)
        made = provenance, report.to_json()
        write_pair_part(path, pairs, best[rows, ranks], shards, made)
        return report

    def _read(self, shard: int) -> tuple[list[str], np.ndarray]:
        """Return the names of a shard that have a descriptor, and N×D."""
        names = [name for name in self.manifest.names(shard) if name in self._reader]
        return names, self._reader.read(names) if names else np.zeros((0, 0), np.float32)

    def _similarities(self, queries: np.ndarray, database: np.ndarray) -> np.ndarray:
        """Return the similarities Q×N, the product computed on the device."""
        if not len(queries) or not len(database):
            return np.full((len(queries), len(database)), -np.inf, np.float32)
        if queries.shape[1] != database.shape[1]:
            raise ValueError(f"{self.descriptors} has global descriptors of different lengths.")
        device = choose_device(self.device)
        if device.type == "cpu":
            return similarities(queries, database)
        with torch.inference_mode():
            on_device = (torch.from_numpy(vectors).to(device) for vectors in (queries, database))
            product = (next(on_device) @ next(on_device).T).cpu().numpy()
        return similarities(queries, database, product)
