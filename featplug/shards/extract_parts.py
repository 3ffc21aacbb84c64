"""Local features in parts: a part for each shard of a store's images."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from featplug.api import Feature
from featplug.io.artifact import Provenance, file_hash, value_hash
from featplug.io.masks import Masks, mask_of
from featplug.io.parts.feature_parts import FeaturePartWriter
from featplug.io.parts.part_files import Key
from featplug.shards.image_parts import ImageParts
from featplug.shards.part_stage import PartReport
from featplug.stages.extract import ExtractOptions, extract_into, features_provenance


@dataclass(frozen=True)
class ExtractParts(ImageParts):
    """Extraction of the images of a store."""

    name = "extract"

    conf: Mapping[str, Any]
    """Conf of the feature, with its options."""
    options: ExtractOptions

    @property
    def folder(self) -> Path:
        """Folder of the parts, named after the conf."""
        return self.store / str(self.conf["output"])

    @cached_property
    def _feature(self) -> Feature:
        options = self.options
        return Feature(
            self.conf,
            device=options.device,
            precision=options.precision,
            orientation=options.orientation,
        )

    @cached_property
    def made_by(self) -> Provenance:
        """Options, weights and code of the feature."""
        made_by = features_provenance(self._feature, self.options)
        conf = {**made_by.conf, "orientation": self.options.orientation}
        return replace(made_by, conf=conf)

    def inputs(self, key: Key) -> dict[str, str | None]:
        """Return the identity of a shard's images, and of their masks."""
        inputs: dict[str, str | None] = {"images": self.manifest.identity(key[0])}
        if self.options.masks is not None:
            names = self.manifest.names(key[0])
            masks = Masks(self.options.masks, names)
            found = (mask_of(masks, name) for name in names)
            hashes = [None if mask is None else file_hash(mask) for mask in found]
            inputs["masks"] = value_hash(hashes)
        return inputs

    def on_device(self, device: str | None) -> Self:
        """Return the same stage on another device."""
        return replace(self, options=replace(self.options, device=device))

    def write(self, key: Key, path: Path, provenance: Provenance, progress: bool) -> PartReport:
        """Extract the features of a shard's images.

        Raises:
            FileNotFoundError: the folder of the images does not exist.
            ValueError: an image is another than when the manifest was made, or none can be used.
        """
        start = time.perf_counter()
        images = self.manifest.images(key[0])
        image_dir = self.manifest.image_dir
        if not image_dir.is_dir():
            raise FileNotFoundError(
                f"There is no image folder {image_dir}, of which {self.manifest.path} is."
            )
        names = [image.name for image in images]
        masks = Masks(self.options.masks, names) if self.options.masks is not None else None
        with FeaturePartWriter(path, provenance) as writer:
            done = extract_into(
                writer, self._feature, image_dir, names, masks, self.options, progress
            )
            for image in images:
                found = writer.fingerprint(image.name)
                if found is not None and found.partition(" ")[0] != image.sha256:
                    raise ValueError(
                        f"{image_dir / image.name} has changed since {self.manifest.path} was "
                        "made; run `featplug shard make` again."
                    )
            report = PartReport(done.num_extracted, done.skipped, time.perf_counter() - start)
            writer.write_report(report.to_json())
        return report
