"""Matches in packed parts: a block of shards with another, each image's features read once."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain, combinations, combinations_with_replacement, product
from pathlib import Path
from typing import Any, Self

from featplug.api import FeatureMatcher
from featplug.io.artifact import Provenance, value_hash
from featplug.io.pair_lists import Pair, unique_pairs
from featplug.io.parts.feature_parts import FeatureParts
from featplug.io.parts.manifest import Manifest
from featplug.io.parts.match_parts import MatchPartWriter
from featplug.io.parts.pair_parts import SUFFIX, read_pair_part, read_partner_shards
from featplug.io.parts.part_files import Key, part_keys, read_part_record, shards_of_blocks
from featplug.methods import conf_of_features, matcher_conf_for
from featplug.shards.pair_list import PairListParts
from featplug.shards.part_stage import PartReport, PartStage
from featplug.shards.run_parts import run_parts
from featplug.shards.store_names import EXHAUSTIVE, matches_name
from featplug.stages.extract import made_by
from featplug.stages.match import REVISION, FeatureCache, MatchOptions, match_into
from featplug.stages.matcher_inputs import MatcherInputs


@dataclass(frozen=True)
class MatchBlocks(PartStage):
    """Matches of a store's pairs.

    A part has the pairs of two blocks, each in one of its orders, whichever image retrieved the
    other one.
    """

    name = "match"

    store: Path
    """Folder of the store."""
    features: Path
    """Folder of the feature parts."""
    pairs: Path | None
    """Folder of the parts of pairs; None pairs every image with every other one."""
    conf: Mapping[str, Any]
    """Conf of the matcher, with its options."""
    options: MatchOptions
    block: int = 1
    """Number of shards of a block."""

    @property
    def folder(self) -> Path:
        """Folder of the parts, named after features, matcher and pairs."""
        pairs = EXHAUSTIVE if self.pairs is None else self.pairs.name
        return self.store / matches_name(self.features.name, self._conf["output"], pairs)

    @cached_property
    def manifest(self) -> Manifest:
        """Images of the store."""
        return Manifest(self.store)

    @cached_property
    def _reader(self) -> FeatureParts:
        return FeatureParts(self.features)

    @cached_property
    def _conf(self) -> dict[str, Any]:
        return matcher_conf_for(conf_of_features(self._reader.model), self.conf)

    @cached_property
    def _matcher(self) -> FeatureMatcher:
        options = self.options
        loaded = FeatureMatcher(self._conf, device=options.device, strongest=options.strongest)
        loaded.matcher.memory_budget = self._memory // 2
        return loaded

    @property
    def _memory(self) -> int:
        return int(self.options.memory_gib * 2**30)

    @cached_property
    def made_by(self) -> Provenance:
        """Options, weights and code of the matcher."""
        name = self._conf["model"]["name"]
        made = made_by("matches", name, self._matcher.matcher, {"match": REVISION})
        return replace(made, conf={**made.conf, "block": self.block})

    @cached_property
    def _pair_paths(self) -> dict[Key, Path]:
        """Path of the pairs of each shard."""
        if self.pairs is None:
            return {}
        paths = part_keys(self.pairs, SUFFIX)
        if not paths:
            raise FileNotFoundError(f"{self.pairs} has no part-*{SUFFIX}; make the pairs first.")
        return paths

    def keys(self) -> list[Key]:
        """List the two blocks of each part, of those that have pairs."""
        num_blocks = -(-self.manifest.num_shards // self.block)
        if self.pairs is None:
            return list(combinations_with_replacement(range(num_blocks), 2))
        found = set()
        for (shard,), path in self._pair_paths.items():
            for other in read_partner_shards(path):
                a, b = sorted((shard // self.block, other // self.block))
                found.add((a, b))
        return sorted(found)

    def _shards(self, block: int) -> list[int]:
        """Return the shards of a block."""
        return shards_of_blocks((block,), self.block, self.manifest.num_shards)

    def inputs(self, key: Key) -> dict[str, str | None]:
        """Return the identities of the features and pairs of both blocks."""
        features = self._reader.blocks_id(key, self.block)
        pairs = EXHAUSTIVE
        if self.pairs is not None:
            shards = shards_of_blocks(key, self.block, self.manifest.num_shards)
            paths = (self._pair_paths.get((shard,)) for shard in shards)
            made = [read_part_record(path)[0].file_id for path in paths if path is not None]
            pairs = value_hash(made)
        return {"features": features, "pairs": pairs}

    def pairs_of(self, key: Key) -> list[Pair]:
        """Return the pairs of two blocks, each once.

        Raises:
            UnusableDataError: a part of pairs is damaged.
        """
        first, second = (
            [name for shard in self._shards(block) for name in self.manifest.names(shard)]
            for block in key
        )
        if self.pairs is None:
            both = combinations(first, 2) if key[0] == key[1] else product(first, second)
            return list(both)
        sides = set(first), set(second)
        found: list[Pair] = []
        for block, partners in ((key[0], sides[1]), (key[1], sides[0])):
            for shard in self._shards(block):
                if path := self._pair_paths.get((shard,)):
                    found += [pair for pair in read_pair_part(path)[0] if pair[1] in partners]
        return unique_pairs(found)

    def on_device(self, device: str | None) -> Self:
        """Return the same stage on another device."""
        return replace(self, options=replace(self.options, device=device))

    def write(self, key: Key, path: Path, provenance: Provenance, progress: bool) -> PartReport:
        """Match the pairs of two blocks.

        Raises:
            ValueError: the features do not fit the matcher, or no pair could be matched.
        """
        start = time.perf_counter()
        pairs = self.pairs_of(key)
        skipped = {
            name: f"{self.features} has no features of it"
            for name in dict.fromkeys(chain.from_iterable(pairs))
            if name not in self._reader
        }
        present = [pair for pair in pairs if skipped.keys().isdisjoint(pair)]
        matcher, device = self._matcher.matcher, self._matcher.device
        inputs = MatcherInputs(self._reader, matcher, device, self.options.image_dir)
        cache = FeatureCache(inputs, self._memory // 2)
        with MatchPartWriter(path, provenance) as writer:
            done = match_into(writer, matcher, (cache, cache), present, progress)
            if done.failed and not done.num_matched:
                first = next(iter(done.failed.values()))
                raise ValueError(f"None of the {len(present)} pairs could be matched: {first}")
            seconds = time.perf_counter() - start
            report = PartReport(done.num_matched, {**skipped, **done.failed}, seconds)
            writer.write_report(report.to_json())
        return report


def match_blocks(
    store: Path,
    features: str | None,
    pairs: Path,
    conf: Mapping[str, Any],
    options: MatchOptions,
    block: int = 1,
) -> MatchBlocks:
    """Return the stage that matches the pairs of a list, of a folder of parts, or all.

    The parts of a list are made first.

    Args:
        store: folder of the store.
        features: folder of the feature parts, or its name in the store.
        pairs: text file, folder of parts, or ``exhaustive``.
        conf: conf of the matcher, with its options.
        options: how pairs are matched.
        block: number of shards of a block.

    Raises:
        FileNotFoundError: a file or folder does not exist.
        ValueError: an argument does not fit.
    """
    if features is None:
        raise ValueError("Give the folder of the feature parts by --features.")
    if block < 1:
        raise ValueError(f"--block must be 1 or more, not {block}.")
    folder = Path(features) if Path(features).is_dir() else store / features
    if not folder.is_dir():
        raise FileNotFoundError(f"There is no folder of feature parts {folder}; extract them.")
    if pairs == Path(EXHAUSTIVE) and not pairs.exists():
        return MatchBlocks(store, folder, None, conf, options, block)
    if pairs.is_file():
        pairs = run_parts(PairListParts(store, pairs)).folder
    return MatchBlocks(store, folder, pairs, conf, options, block)
