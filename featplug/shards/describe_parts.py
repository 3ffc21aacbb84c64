"""Global descriptors in parts: by a network from the images of a store, or VLAD from features."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from featplug.extractors.vlad import VLADOptions, Vocabulary, own_vocabulary
from featplug.io.artifact import Provenance
from featplug.io.parts.feature_parts import FeatureParts, GlobalDescriptorPartWriter
from featplug.io.parts.part_files import Key
from featplug.methods import retrieval, retrieval_conf
from featplug.methods.method_options import resized, with_options
from featplug.shards.image_parts import ImageParts
from featplug.shards.part_stage import PartReport
from featplug.shards.store_names import descriptors_name
from featplug.stages.extract import raise_if_all_skipped
from featplug.stages.retrieve import (
    GlobalNetwork,
    RetrieveOptions,
    describe_into,
    load_network,
    sum_up_into,
    vlad_provenance,
)

VOCABULARY = "vocabulary.safetensors"


@dataclass(frozen=True)
class DescribeParts(ImageParts):
    """Global descriptors of the images of a store, by a network."""

    name = "describe"

    conf: Mapping[str, Any]
    """Retrieval conf, with its options."""
    options: RetrieveOptions

    @property
    def folder(self) -> Path:
        """Folder of the parts, named after the conf."""
        return self.store / str(self.conf["output"])

    @cached_property
    def _network(self) -> GlobalNetwork:
        return load_network(self.conf, self.options)

    @cached_property
    def made_by(self) -> Provenance:
        """Options, weights and code of the network."""
        made_by = self._network.provenance(self.conf["model"]["name"])
        return replace(made_by, conf={**made_by.conf, "orientation": self.options.orientation})

    def inputs(self, key: Key) -> dict[str, str | None]:
        """Return the identity of a shard's images."""
        return {"images": self.manifest.identity(key[0])}

    def on_device(self, device: str | None) -> Self:
        """Return the same stage on another device."""
        return replace(self, options=replace(self.options, device=device))

    def write(self, key: Key, path: Path, provenance: Provenance, progress: bool) -> PartReport:
        """Describe the images of a shard.

        Raises:
            ValueError: none of them can be used.
        """
        start = time.perf_counter()
        names = self.manifest.names(key[0])
        with GlobalDescriptorPartWriter(path, provenance) as writer:
            skipped = describe_into(
                writer, self._network, self.manifest.image_dir, names, self.options, progress
            )
            report = PartReport(len(names) - len(skipped), skipped, time.perf_counter() - start)
            writer.write_report(report.to_json())
        return report


@dataclass(frozen=True)
class VladParts(DescribeParts):
    """VLAD of the features of a store.

    The vocabulary is learned once, when the parts of all features are there, and is the same
    whichever share of the work learns it.
    """

    name = "vlad"

    features: Path
    """Folder of the feature parts."""

    @property
    def folder(self) -> Path:
        """Folder of the parts, named after the features and the conf."""
        return self.store / descriptors_name(self.features.name, self.conf["output"])

    @cached_property
    def _reader(self) -> FeatureParts:
        return FeatureParts(self.features)

    @property
    def _vocabulary_path(self) -> Path:
        return Path(self.options.vocabulary or self.folder / VOCABULARY)

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """The vocabulary, given or learned."""
        if self.options.vocabulary is not None:
            return Vocabulary.load(self._vocabulary_path)[0]
        options = VLADOptions(**{k: v for k, v in self.conf["model"].items() if k != "name"})
        for shard in range(self.manifest.num_shards):
            self._reader.part_id(shard)  # raises an error for one that is missing
        return own_vocabulary(
            self._vocabulary_path,
            self._reader,
            self.manifest.all_names(),
            options,
            overwrite=self.options.overwrite,
            database_may_change=True,
        )

    @cached_property
    def made_by(self) -> Provenance:
        """Options and vocabulary."""
        return vlad_provenance(self.vocabulary, self._vocabulary_path)

    def inputs(self, key: Key) -> dict[str, str | None]:
        """Return the identity of the features of a shard."""
        return {"features": self._reader.part_id(key[0])}

    def on_device(self, device: str | None) -> Self:
        """Return the stage itself, which needs no device."""
        return self

    def write(self, key: Key, path: Path, provenance: Provenance, progress: bool) -> PartReport:
        """Sum up the features of a shard.

        Raises:
            ValueError: none of them can be used.
        """
        start = time.perf_counter()
        names = self.manifest.names(key[0])
        skipped = {name: "it has no features" for name in names if name not in self._reader}
        present = [name for name in names if name not in skipped]
        with GlobalDescriptorPartWriter(path, provenance) as writer:
            skipped |= sum_up_into(writer, self._reader, self.vocabulary, present, progress)
            raise_if_all_skipped(names, skipped)
            report = PartReport(len(names) - len(skipped), skipped, time.perf_counter() - start)
            writer.write_report(report.to_json())
        return report


def describe_parts(store: Path, name: str, options: RetrieveOptions) -> DescribeParts:
    """Return the stage of a retrieval method, by its name.

    Raises:
        ValueError: no such method or option exists, or vlad has no features.
    """
    conf = with_options(retrieval, retrieval_conf(name), options.option, "option")
    if conf["model"]["name"] != "vlad":
        return DescribeParts(store, resized(conf, options.resize_max), options)
    if options.features is None:
        raise ValueError(
            "vlad sums up local features; give the folder of their parts by --features."
        )
    if options.resize_max is not None:
        raise ValueError("vlad reads no images; set --resize-max where features are extracted.")
    return VladParts(store, conf, options, Path(options.features))
