"""The commands of ``featplug``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Literal

import tyro

from featplug.cli.exchange_commands import export_app, import_app
from featplug.cli.pair_commands import pairs_app

app = tyro.extras.SubcommandApp()
"""The commands of ``featplug``."""
weights_app = tyro.extras.SubcommandApp()
app.command(weights_app, name="weights", help="List, fetch, verify and import weights files.")
app.command(pairs_app, name="pairs", help="Choose which images are matched with which.")
app.command(export_app, name="export", help="Write features and matches as files of other tools.")
app.command(import_app, name="import", help="Read features and matches of other tools.")


@app.command
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


@app.command
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


@app.command
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


@app.command(name="list")
def list_features() -> None:
    """List the features: paper, descriptor, matcher, weights and their licence."""
    from featplug.weights.catalogue import list_confs

    confs = list_confs()
    for conf in confs:
        mark = "ready" if conf.is_ready else "-"
        print(f"{mark:<7}{conf.name:<21}{conf.dimensions:<26}{conf.paper}")
        print(f"{'':7}matcher {conf.matcher}")
        for checkpoint, status in conf.weights.items():
            if status is None:
                text = f"none known for {checkpoint}; give a file with --weights"
            elif status.path is None:
                get = f"`featplug weights fetch {status.entry}`, or import {status.file}"
                text = f"{get}; licence {status.licence}"
            else:
                text = f"{status.entry}, {status.how}, licence {status.licence}"
            print(f"{'':7}weights {text}")
    describers = ", ".join(conf.name for conf in confs if conf.describes)
    print(f"NAME+OTHER describes the keypoints of OTHER by NAME, one of {describers}.")


def _skipped(skipped: dict[str, str]) -> str:
    if not skipped:
        return "nothing skipped."
    reasons = list(skipped.values())
    shown = reasons if len(reasons) <= 10 else [*reasons[:10], f"and {len(reasons) - 10} more"]
    return "\n  ".join([f"{len(reasons)} skipped:", *shown])


@weights_app.command(name="list")
def weights_list() -> None:
    """List the known weights, and which of them are there."""
    from featplug.weights.loading import list_weights

    for status in list_weights():
        print(f"{status.entry:<24}{status.feature:<16} {status.how:<16}{status.licence}")
        print(f"    {status.path or status.url or ''}\n    {status.citation}")


@weights_app.command(name="fetch")
def weights_fetch(name: tyro.conf.Positional[str]) -> None:
    """Download weights from their authors, check them and keep them for later.

    Args:
        name: as `featplug weights list` shows it.
    """
    from featplug.weights.importing import fetch_weights

    print(fetch_weights(name, progress=True))


@weights_app.command(name="verify")
def weights_verify(names: tyro.conf.Positional[tuple[str, ...]] = ()) -> None:
    """Check the weights that are there: hashes, keys and shapes.

    Args:
        names: as `featplug weights list` shows them; all that are there by default.
    """
    from featplug.weights.loading import verify_weights

    checks = verify_weights(names or None)
    for check in checks:
        print(f"{check.entry:<24}{'ok' if check.ok else 'BAD'}  {check.message}")
    if not checks:
        print("There are no weights here; `featplug weights list` says where they come from.")
    if not all(check.ok for check in checks):
        sys.exit(2)


@weights_app.command(name="import")
def weights_import(file: tyro.conf.Positional[Path], name: str | None = None) -> None:
    """Check an authors' weights file and keep it as safetensors for later.

    Args:
        file: the authors' file.
        name: which weights they are, where the file does not tell.
    """
    from featplug.weights.importing import import_weights

    record = import_weights(file, name)
    print(f"{record.path} ({record.name}, sha256 {record.sha256})")


@app.command(name="hloc")
def hloc_program(arguments: tyro.conf.Positional[tuple[str, ...]] = ()) -> None:
    """Run a module of hloc, or a script that uses it, with the features and matchers in place.

    Args:
        arguments: the module or script, and its own command line.
    """
    from featplug.cli.hloc_command import run_hloc

    run_hloc(arguments, prog="featplug hloc")


@app.command
def doctor() -> None:
    """Say what is installed here, what works, and what is known not to."""
    from featplug.utils.doctor import diagnose

    for finding in diagnose().findings:
        mark = "ok  " if finding.level == "ok" else "WARN"
        print(f"{mark} {finding.topic:<12} {finding.text}")
