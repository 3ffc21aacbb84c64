"""The commands ``featplug shard``: stores of parts."""

from datetime import timedelta
from pathlib import Path
from typing import Annotated

import tyro
from tabulate import tabulate

from featplug.cli.command_line import Unprefixed, print_reasons
from featplug.colmap.cameras import CameraOptions
from featplug.io.files import discard
from featplug.io.parts.consolidate import consolidate
from featplug.io.parts.manifest import make_manifest
from featplug.shards.executor_options import ShardOptions
from featplug.shards.run_parts import PartsSummary, run_parts
from featplug.shards.share import Share
from featplug.shards.slurm import SlurmOptions, write_slurm_scripts
from featplug.shards.status import store_status
from featplug.shards.verify_parts import VerifyParts


def make(images: Path, outputs: Path, size: int = 512, image_list: Path | None = None) -> None:
    """Make a store for an image set that outgrows one file or one machine: cut it into shards.

    Run again after images came or went: the others keep their shards, and only parts of shards that
    changed are made again.

    Args:
        images: folder of the images, at any depth.
        outputs: folder of the store.
        size: number of images of a shard.
        image_list: text file of image names; all images by default.
    """
    manifest = make_manifest(images, outputs, size, image_list, progress=True)
    print(
        f"{manifest.path}: {manifest.num_images} images in {manifest.num_shards} shards of "
        f"{manifest.size}"
    )


def status(
    store: Annotated[Path, tyro.conf.Positional], check: bool = False, remove_damaged: bool = False
) -> None:
    """Show what is done of the stages of a store, what is missing or damaged, and the time left.

    Ends with exit status 1 if a part is missing or damaged: run its stage again.

    Args:
        store: folder of the store.
        check: read every array and compare it with its checksum. Stages that run again look only
            whether a part opens, and what it was made from.
        remove_damaged: remove the damaged parts, for their stages to make them again.
    """
    stages = store_status(store, check)
    cells = [["stage", "folder", "parts", "missing", "damaged", "items", "skipped", "time left"]]
    for stage in stages:
        left = stage.seconds_left
        numbers = (len(stage.missing), len(stage.damaged), stage.num_items, len(stage.skipped))
        cells.append(
            [
                stage.stage,
                stage.folder.name,
                f"{stage.num_done:,} of {stage.num_parts:,}",
                *(f"{number:,}" for number in numbers),
                "unknown" if left is None else str(timedelta(seconds=round(left))),
            ]
        )
    print(tabulate(cells, headers="firstrow", disable_numparse=True))
    for stage in stages:
        print_reasons({path.name: reason for path, reason in stage.damaged.items()})
    damaged = [path for stage in stages for path in stage.damaged]
    if remove_damaged:
        for path in damaged:
            discard(path)
        print(f"{len(damaged)} damaged parts were removed")
    if damaged or any(stage.missing for stage in stages):
        raise SystemExit(1)


def verify(
    export_dir: Path,
    features: Path,
    matches: Path,
    sharding: Unprefixed[ShardOptions],
    camera: CameraOptions = CameraOptions(),  # noqa: B008  # frozen
    max_error: float = 4.0,
    seed: int = 0,
    overwrite: bool = False,
) -> None:
    """Verify the matches of a store by epipolar geometry; only the inliers are written.

    Without a store, `featplug sfm` verifies.

    Args:
        export_dir: folder of the store.
        features: folder of the feature parts.
        matches: folder of the match parts.
        camera: how cameras are made.
        max_error: largest error of an inlier, in pixels.
        seed: seed of RANSAC.
        overwrite: replace parts that were made with other options.
        sharding: which parts are made, and where; all by default.
    """
    stage = VerifyParts(export_dir, features, matches, camera, max_error, seed)
    share = sharding.share() or Share()
    executor = sharding.chosen_executor(None)
    print_parts(run_parts(stage, share, executor, overwrite, progress=True), "verified pairs")


def required_store(export_dir: Path | None) -> Path:
    """Return the folder of the store that --shard is of.

    Raises:
        ValueError: it is not named.
    """
    if export_dir is None:
        raise ValueError("Name the store that --shard is of by --export-dir.")
    return export_dir


def print_parts(done: PartsSummary, items: str) -> None:
    """Print what a run made of a stage's parts."""
    skipped = f"{len(done.skipped)} skipped:" if done.skipped else "nothing skipped."
    print(
        f"{done.folder}: {done.num_made} of {done.num_parts} parts made ({done.num_items} {items}) "
        f"in {done.seconds:.1f} s, {done.num_parts - done.num_made} present before, {skipped}"
    )
    print_reasons(done.skipped)


def consolidate_parts(
    parts: Annotated[Path, tyro.conf.Positional],
    output: Annotated[Path, tyro.conf.Positional],
    links: bool = False,
) -> None:
    """Write one file in hloc's layout of the parts of features, global descriptors or matches.

    Args:
        parts: folder of the parts.
        output: the file, which is replaced if it exists.
        links: link to the parts instead of copying them, for hloc's matching, triangulation and
            localization; its list_h5_names needs a copy.
    """
    number = consolidate(parts, output, links, progress=True)
    print(f"{output}: {number:,} images or pairs {'linked' if links else 'copied'} from {parts}")


def write_slurm(
    store: Path,
    output: Path,
    options: Unprefixed[SlurmOptions],
) -> None:
    """Write scripts for Slurm: an array of tasks for each stage of a store, and one to submit all.

    Args:
        store: folder of the store.
        output: folder of the scripts.
        options: stages, and options of Slurm.
    """
    paths = write_slurm_scripts(store, options, output)
    for path in paths:
        print(path)
    print(f"submit all by {paths[-1]}; `featplug status {store}` shows what is done")


COMMANDS = {"make": make}
SLURM = {"write": write_slurm}
