"""The extraction engine: images to a feature file.

What is in the file already is not computed again, and a run can be killed and started again at any
time.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from featplug.base import Extractor, choose_device
from featplug.io.artifact import Provenance
from featplug.io.h5file import OtherContentsError
from featplug.io.images import (
    DEFAULT_PREPROCESSING,
    LoadedImage,
    UnreadableImage,
    check_name,
    file_fingerprint,
    list_images,
    prefetch_images,
    read_image_list,
)
from featplug.io.store import FeatureWriter, GlobalDescriptorWriter
from featplug.methods import build_extractor, feature_conf
from featplug.utils.progress import progress_bar

PRECISIONS = {"fp32": None, "fp16": torch.float16, "bf16": torch.bfloat16}
"""Floating-point type of the network's products; detection is in float32 always."""


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


def resolve_feature_conf(conf: str | Mapping[str, Any], **model_options: Any) -> dict[str, Any]:
    """Give a feature conf by name or as it is, with options of its model replaced.

    Args:
        conf: a name of :data:`featplug.methods.features`, or a conf dict.
        model_options: entries of ``model`` to set, such as ``max_keypoints``; None leaves an entry
            as it is.
    """
    resolved = feature_conf(conf) if isinstance(conf, str) else dict(conf)
    given = {key: value for key, value in model_options.items() if value is not None}
    resolved["model"] = {**resolved["model"], **given}
    if given.get("weights") in ("official", "featplug"):
        _choose_weights(resolved["model"], given["weights"])
    return resolved


def _choose_weights(model: dict[str, Any], origin: str) -> None:
    """Ask for weights of one origin for all networks of a conf; a file is of the first only."""
    for key in [key for key in model if key.endswith("checkpoint")]:
        model[key.replace("checkpoint", "weights")] = origin
    if "detector" in model:
        model["detector"] = dict(model["detector"])
        _choose_weights(model["detector"], origin)


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
    conf = resolve_feature_conf(conf, max_keypoints=max_keypoints, weights=weights)
    preprocessing = {**DEFAULT_PREPROCESSING, **conf.get("preprocessing", {})}
    if max_keypoints is not None and max_keypoints < 1 and max_keypoints != -1:
        raise ValueError(f"max_keypoints must be 1 or more, or -1 for all, not {max_keypoints}.")
    if precision not in PRECISIONS:
        raise ValueError(f"The precision must be one of {', '.join(PRECISIONS)}, not {precision}.")
    feature_path = _feature_path(conf, export_dir, feature_path)
    names = image_names(image_dir, image_list)
    torch_device = choose_device(device)
    extractor = build_extractor(conf["model"]).to(torch_device)
    provenance = Provenance(
        kind="features",
        conf={
            "model": {"name": conf["model"]["name"], **extractor.settings},
            "preprocessing": preprocessing,
            "as_half": as_half,
            "precision": precision,
            **({"half_keypoints": True} if half_keypoints else {}),
        },
        weights=[
            {"name": record.name, "origin": record.origin, "sha256": record.sha256}
            for record in extractor.weights_records
        ],
    )
    skipped: dict[str, str] = {}
    num_keypoints = num_extracted = 0
    with FeatureWriter(feature_path, provenance, overwrite) as writer:
        todo = not_yet_extracted(writer, image_dir, names)
        images = prefetch_images(image_dir, todo, preprocessing, num_workers)
        bar = progress_bar(images, "extract", len(todo), "image", progress)
        for image in bar:
            if isinstance(image, UnreadableImage):
                skipped[image.name] = image.reason
                continue
            try:
                features, uncertainty = _extract_one(extractor, image, torch_device, precision)
            except (ValueError, RuntimeError) as error:  # the latter is torch's, as out of memory
                reason = str(error).splitlines()[0]
                skipped[image.name] = f"Cannot extract {image_dir / image.name}: {reason}"
                continue
            stored = {
                key: _for_storage(key, value, as_half, half_keypoints)
                for key, value in features.items()
            }
            writer.write(image.name, stored, image.original_size, uncertainty, image.fingerprint)
            num_keypoints += len(features["keypoints"])
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


def _extract_one(
    extractor: Extractor, image: LoadedImage, device: torch.device, precision: str
) -> tuple[dict[str, np.ndarray], float]:
    """Extract one image and bring its coordinates to the original pixels.

    Returns:
        The features, and the keypoints' standard deviation in original pixels.
    """
    dtype = PRECISIONS[precision]
    autocast = nullcontext() if dtype is None else torch.autocast(device.type, dtype)
    # TF32, torch's default on GPUs, would round products to 10 bits.
    with autocast, torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        predicted = extractor({"image": torch.from_numpy(image.image)[None].to(device)})
    features = {key: value[0].cpu().numpy() for key, value in predicted.items()}
    size = np.array(image.image.shape[:0:-1])
    scale = (np.array(image.original_size) / size).astype(np.float32)
    # Integer = pixel centre: the shift keeps the image's corner, not its first pixel, in place.
    features["keypoints"] = (features["keypoints"] + np.float32(0.5)) * scale - np.float32(0.5)
    if "scales" in features:
        features["scales"] = features["scales"] * scale.mean()
    return features, float(extractor.detection_noise * scale.mean())


def _for_storage(key: str, value: np.ndarray, as_half: bool, half_keypoints: bool) -> np.ndarray:
    """Halve descriptors only: float16 would round keypoints to 1 or 2 px on large images."""
    is_halved = half_keypoints or (as_half and key.endswith("descriptors"))
    return value.astype(np.float16) if is_halved and value.dtype == np.float32 else value
