"""The extraction engine: images to a feature file.

What is in the file already is not computed again, and a run can be killed and started again at any
time.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from featplug.api import Feature
from featplug.io.artifact import Provenance
from featplug.io.h5file import OtherContentsError
from featplug.io.images import (
    UnreadableImage,
    check_name,
    file_fingerprint,
    list_images,
    prefetch_images,
    read_image_list,
)
from featplug.io.store import FeatureWriter, GlobalDescriptorWriter
from featplug.methods import resolve_conf
from featplug.utils.progress import progress_bar


@dataclass(frozen=True)
class ExtractSummary:
    """What an extraction did."""

    feature_path: Path
    names: list[str]
    """Images asked for whose features are in the file now."""
    num_extracted: int
    num_present: int
    """Images that were in the file before."""
    num_keypoints: int
    """Keypoints extracted by this run."""
    skipped: dict[str, str] = field(default_factory=dict)
    """Images that could not be used, and why."""
    weights: list[dict[str, str]] = field(default_factory=list)
    """Name, origin and sha256 of each weights file."""
    seconds: float = 0.0


def extract_features(
    conf: str | Mapping[str, Any],
    image_dir: Path,
    export_dir: Path | None = None,
    as_half: bool = True,
    image_list: Path | Sequence[str] | None = None,
    feature_path: Path | None = None,
    overwrite: bool = False,
    *,
    half_keypoints: bool = False,
    max_keypoints: int | None = None,
    weights: str | None = None,
    precision: str = "fp32",
    device: str | None = None,
    num_workers: int = 2,
    progress: bool = False,
) -> ExtractSummary:
    """Extract local features of a folder of images; the first arguments are hloc's.

    Args:
        conf: a feature conf or its name.
        image_dir: folder of the images.
        export_dir: where the feature file goes, under the name of the conf's ``output``.
        as_half: store descriptors as float16; everything else is float32.
        image_list: names relative to ``image_dir``, or a text file of them; all images if None.
        feature_path: the feature file, in place of ``export_dir``.
        overwrite: replace the file.
        half_keypoints: store everything as float16, keypoints too, as hloc does by default: they
            move by up to 1 px on large images. For comparisons with hloc's files only.
        max_keypoints: keep that many of each image, the strongest by score.
        weights: ``official``, ``featplug`` or a file; the conf's own choice if None.
        precision: ``fp32``, ``fp16`` or ``bf16``, of the network.
        device: such as ``cuda:1``; the best one here if None.
        num_workers: threads that read images ahead.
        progress: show a progress bar.

    Raises:
        FileNotFoundError: the folder, the list or the weights are not there.
        ValueError: an argument does not fit, a photograph was exchanged since the file was made, or
            no image at all could be used.
    """
    start = time.perf_counter()
    image_dir = Path(image_dir)
    conf = resolve_conf(conf, max_keypoints=max_keypoints, weights=weights)
    feature_path = _feature_path(conf, export_dir, feature_path)
    names = image_names(image_dir, image_list)
    feature = Feature(conf, device=device, precision=precision)
    provenance = Provenance(
        kind="features",
        conf={
            "model": {"name": conf["model"]["name"], **feature.extractor.settings},
            "preprocessing": feature.preprocessing,
            "as_half": as_half,
            "precision": precision,
            **({"half_keypoints": True} if half_keypoints else {}),
        },
        weights=[
            {"name": record.name, "origin": record.origin, "sha256": record.sha256}
            for record in feature.extractor.weights_records
        ],
    )
    skipped: dict[str, str] = {}
    num_keypoints = num_extracted = 0
    with FeatureWriter(feature_path, provenance, overwrite) as writer:
        todo = not_yet_extracted(writer, image_dir, names)
        images = prefetch_images(image_dir, todo, feature.preprocessing, num_workers)
        bar = progress_bar(images, "extract", len(todo), "image", progress)
        for image in bar:
            if isinstance(image, UnreadableImage):
                skipped[image.name] = image.reason
                continue
            try:
                features = feature.extract_preprocessed(image.image, image.original_size)
            except (ValueError, RuntimeError) as error:  # the latter is torch's, as out of memory
                reason = str(error).splitlines()[0]
                skipped[image.name] = f"Cannot extract {image_dir / image.name}: {reason}"
                continue
            stored = {
                key: _for_storage(key, value, as_half, half_keypoints)
                for key, value in features.arrays().items()
            }
            writer.write(
                image.name, stored, image.original_size, features.detection_noise, image.fingerprint
            )
            num_keypoints += len(features)
            num_extracted += 1
    if skipped and len(skipped) == len(names):
        first = next(iter(skipped.values()))
        raise ValueError(f"None of the {len(names)} images could be used; the first: {first}")
    return ExtractSummary(
        feature_path,
        [name for name in names if name not in skipped],
        num_extracted,
        len(names) - len(todo),
        num_keypoints,
        skipped,
        provenance.weights,
        time.perf_counter() - start,
    )


def _feature_path(
    conf: Mapping[str, Any], export_dir: Path | None, feature_path: Path | None
) -> Path:
    if feature_path is not None:
        return Path(feature_path)
    if export_dir is None:
        raise ValueError("Give export_dir, a folder, or feature_path, a file.")
    return Path(export_dir) / f"{conf['output']}.h5"


def image_names(image_dir: Path, image_list: Path | Sequence[str] | None) -> list[str]:
    """List the images asked for: those of a list or a text file of names, or all of a folder.

    Raises:
        FileNotFoundError: the folder or the file is not there.
        ValueError: there is no image, or a name that cannot be used.
    """
    if image_list is None:
        return list_images(image_dir)
    if not image_dir.is_dir():
        raise FileNotFoundError(f"There is no image folder {image_dir}.")
    if isinstance(image_list, str | Path):
        return read_image_list(Path(image_list))
    names = list(dict.fromkeys(image_list))
    for name in names:
        check_name(name)
    return names


def not_yet_extracted(
    writer: FeatureWriter | GlobalDescriptorWriter, image_dir: Path, names: Sequence[str]
) -> list[str]:
    """List the images that are not in the file.

    Raises:
        OtherContentsError: a photograph was exchanged since the file was made.
    """
    todo = []
    for name in names:
        stored = writer.fingerprint(name)
        path = image_dir / name
        if stored is None:
            todo.append(name)
        elif path.is_file() and file_fingerprint(path) != stored:
            raise OtherContentsError(
                f"{path} is another photograph than the one {writer.path} was made from"
            )
    return todo


def _for_storage(key: str, value: np.ndarray, as_half: bool, half_keypoints: bool) -> np.ndarray:
    """Halve descriptors only: float16 would round keypoints to 1 or 2 px on large images."""
    is_halved = half_keypoints or (as_half and key.endswith("descriptors"))
    return value.astype(np.float16) if is_halved and value.dtype == np.float32 else value
