"""The commands ``featplug extract``, ``match`` and ``retrieve``."""

from __future__ import annotations

from pathlib import Path
from typing import Literal


def extract(
    image_dir: Path,
    export_dir: Path | None = None,
    conf: str = "sift",
    as_half: bool = True,
    image_list: Path | None = None,
    feature_path: Path | None = None,
    overwrite: bool = False,
    half_keypoints: bool = False,
    max_keypoints: int | None = None,
    weights: str | None = None,
    precision: Literal["fp32", "fp16", "bf16"] = "fp32",
    device: str | None = None,
    num_workers: int = 2,
) -> None:
    """Extract the local features of a folder of images into an HDF5 file that hloc reads.

    Args:
        image_dir: folder of the images, at any depth.
        export_dir: folder of the feature file; give this or --feature-path.
        conf: name of the feature.
        as_half: store descriptors as float16 (keypoints are float32).
        image_list: text file of image names, in place of all images.
        feature_path: the feature file, in place of --export-dir.
        overwrite: replace the feature file.
        half_keypoints: store keypoints, too, as float16, as hloc does by default; it moves them by
            up to 1 px on large images.
        max_keypoints: keep that many of each image, the strongest by score.
        weights: official, featplug, or a file of the feature's own network; by default the
            authors' where they are found.
        precision: of the network.
        device: such as cpu or cuda:1; the best one by default.
        num_workers: threads that read images ahead.
    """
    from featplug.stages.extract import extract_features

    summary = extract_features(
        conf,
        image_dir,
        export_dir,
        image_list=image_list,
        feature_path=feature_path,
        overwrite=overwrite,
        as_half=as_half,
        half_keypoints=half_keypoints,
        max_keypoints=max_keypoints,
        weights=weights,
        precision=precision,
        device=device,
        num_workers=num_workers,
        progress=True,
    )
    print(
        f"{summary.feature_path}: {summary.num_extracted} images extracted "
        f"({summary.num_keypoints} keypoints) in {summary.seconds:.1f} s, "
        f"{summary.num_present} were there, {_skipped(summary.skipped)}"
    )


def match(
    pairs: Path,
    features: str,
    export_dir: Path | None = None,
    conf: str = "NN-mutual",
    matches: Path | None = None,
    features_ref: Path | None = None,
    overwrite: bool = False,
    device: str | None = None,
    memory_gib: float = 1.0,
) -> None:
    """Match the pairs of a list into an HDF5 file that hloc reads.

    Args:
        pairs: text file, two image names a line.
        features: a feature file, or its name without .h5 in --export-dir.
        export_dir: folder of the match file; beside the features by default.
        conf: name of the matcher.
        matches: the match file, in place of --export-dir.
        features_ref: feature file of each pair's second image, where it is another.
        overwrite: replace the match file.
        device: such as cpu or cuda:1; the best one by default.
        memory_gib: memory for features and matching together.
    """
    from featplug.stages.match import match_features

    summary = match_features(
        conf,
        pairs,
        features,
        export_dir,
        matches=matches,
        features_ref=features_ref,
        overwrite=overwrite,
        device=device,
        memory_gib=memory_gib,
        progress=True,
    )
    print(
        f"{summary.match_path}: {summary.num_matched} pairs matched "
        f"({summary.num_matches} matches) in {summary.seconds:.1f} s, "
        f"{summary.num_present} were there, {_skipped(summary.skipped)}"
    )


def retrieve(
    conf: str = "vlad",
    image_dir: Path | None = None,
    export_dir: Path | None = None,
    features: Path | None = None,
    image_list: Path | None = None,
    descriptor_path: Path | None = None,
    db_prefix: tuple[str, ...] = (),
    db_list: Path | None = None,
    vocabulary: Path | None = None,
    overwrite: bool = False,
    weights: str | None = None,
    device: str | None = None,
    num_workers: int = 2,
) -> None:
    """Describe each image as a whole, for retrieval, into an HDF5 file that hloc reads.

    Args:
        conf: netvlad, a network, or vlad, which sums up local features and needs no weights;
            vlad-whitened for databases of thousands of different places.
        image_dir: folder of the images, for netvlad.
        export_dir: folder of the file; give this or --descriptor-path.
        features: feature file, for vlad.
        image_list: text file of image names, in place of all images.
        descriptor_path: the file, in place of --export-dir.
        db_prefix: vlad learns from the images whose names start so, in place of all.
        db_list: text file of the images that vlad learns from.
        vocabulary: learnt by an earlier run of vlad, in place of learning one.
        overwrite: replace the file.
        weights: official, or a file, for netvlad.
        device: such as cpu or cuda:1; the best one by default.
        num_workers: threads that read images ahead.
    """
    from featplug.io.store import FeatureReader
    from featplug.stages.retrieve import global_descriptors, select_images

    database = None
    if features is not None and (db_prefix or db_list is not None):
        with FeatureReader(features) as reader:
            database = select_images(reader.names(), db_prefix, db_list)
    summary = global_descriptors(
        conf,
        image_dir,
        export_dir,
        image_list,
        descriptor_path,
        overwrite=overwrite,
        features=features,
        database=database,
        vocabulary=vocabulary,
        weights=weights,
        device=device,
        num_workers=num_workers,
        progress=True,
    )
    print(
        f"{summary.descriptor_path}: {summary.num_described} images described in "
        f"{summary.seconds:.1f} s, {summary.num_present} were there, {_skipped(summary.skipped)}"
    )


def _skipped(skipped: dict[str, str]) -> str:
    if not skipped:
        return "nothing skipped."
    reasons = list(skipped.values())
    shown = reasons if len(reasons) <= 10 else [*reasons[:10], f"and {len(reasons) - 10} more"]
    return "\n  ".join([f"{len(reasons)} skipped:", *shown])
