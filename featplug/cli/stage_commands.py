"""The commands ``featplug rename``, ``extract``, ``match`` and ``retrieve``."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from featplug.cli.command_line import Unprefixed, print_reasons
from featplug.cli.pair_commands import DatabaseSelection
from featplug.cli.shard_commands import print_parts, required_store
from featplug.io.image_folder import rename_images
from featplug.io.parts.feature_parts import open_features
from featplug.methods import is_pair_matcher
from featplug.shards.describe_parts import describe_parts
from featplug.shards.executor_options import ShardOptions, first_device
from featplug.shards.extract_parts import ExtractParts
from featplug.shards.match_blocks import match_blocks
from featplug.shards.run_parts import run_parts
from featplug.stages.extract import ExtractOptions, extract_features
from featplug.stages.gather import GatherOptions
from featplug.stages.match import MatchOptions, match_features
from featplug.stages.match_images import match_images
from featplug.stages.retrieve import RetrieveOptions, global_descriptors


def rename(images: Path, masks: Path | None = None, dry_run: bool = False) -> None:
    """Rename photographs, and their folders, whose names files cannot carry, such as with spaces.

    White space and other characters that pair lists, COLMAP's text files and HDF5 cannot carry
    become "_". Nothing is renamed if two files would have one name.

    Args:
        images: folder of the photographs, at any depth; masks in it are renamed alike.
        masks: another folder, of their masks, which are renamed alike.
        dry_run: show what would be renamed, and rename nothing.
    """
    folders = [images] if masks is None else [images, masks]
    for folder in folders:
        rename_images(folder, dry_run=True)  # raises before anything is renamed
    renamed = [pair for folder in folders for pair in rename_images(folder, dry_run)]
    for old, new in renamed:
        print(f"{old} -> {new.name}")
    print(f"{len(renamed)} files and folders {'would be' if dry_run else 'were'} renamed.")


def extract(
    options: Unprefixed[ExtractOptions],
    sharding: Unprefixed[ShardOptions],
    image_dir: Path | None = None,
    export_dir: Path | None = None,
    conf: str = "sift",
    image_list: Path | None = None,
    feature_path: Path | None = None,
) -> None:
    """Extract the local features of a folder of images into an HDF5 file that hloc reads.

    Args:
        image_dir: folder of the images, at any depth; a store has its own.
        export_dir: folder of the feature file, or of the store; needed unless --feature-path is
            used.
        conf: name of the feature; `featplug list` shows them.
        image_list: text file of image names; all images by default.
        feature_path: the feature file, instead of --export-dir.
        options: how features are extracted and stored.
        sharding: which parts of a store are made.
    """
    if (share := sharding.share()) is not None:
        executor, options = sharding.chosen_executor(options.device), first_device(options)
        stage = ExtractParts(required_store(export_dir), options.conf(conf), options)
        print_parts(run_parts(stage, share, executor, options.overwrite, progress=True), "images")
        return
    if image_dir is None:
        raise ValueError("Name the folder of the images by --image-dir.")
    done = extract_features(
        conf,
        image_dir,
        export_dir,
        image_list=image_list,
        feature_path=feature_path,
        options=options,
        progress=True,
    )
    _report(
        f"{done.feature_path}: {done.num_extracted} images extracted "
        f"({done.num_keypoints} keypoints) in {done.seconds:.1f} s, {done.num_present}",
        done.skipped,
    )


def match(
    pairs: Path,
    options: Unprefixed[MatchOptions],
    gathering: Unprefixed[GatherOptions],
    sharding: Unprefixed[ShardOptions],
    features: str | None = None,
    export_dir: Path | None = None,
    conf: str = "NN-mutual",
    matches: Path | None = None,
    block: int = 1,
) -> None:
    """Match the pairs of a list into an HDF5 file that hloc reads.

    A method without keypoints, such as loftr, matches the images of --image-dir, and writes the
    feature file, too.

    Args:
        pairs: text file, two image names a line; with --shard also a folder of parts, or exhaustive
            for all pairs.
        features: a feature file, or its name without .h5 in --export-dir; the one to write for a
            method without keypoints; the folder of the parts with --shard.
        export_dir: folder of the match file, that of the features by default, or of the store.
        conf: name of the matcher; `featplug list` shows them.
        matches: the match file, instead of --export-dir.
        options: how pairs are matched.
        gathering: how the points of a method without keypoints are gathered.
        sharding: which parts of a store are made.
        block: number of shards that are matched with as many others in one part of a store.
    """
    if (share := sharding.share()) is not None:
        executor, options = sharding.chosen_executor(options.device), first_device(options)
        store = required_store(export_dir)
        stage = match_blocks(store, features, pairs, options.matcher_conf(conf), options, block)
        print_parts(run_parts(stage, share, executor, options.overwrite, progress=True), "pairs")
        return
    if is_pair_matcher(conf):
        files = {"features": features and Path(features), "matches": matches}
        _match_images(conf, pairs, export_dir, options, {**vars(gathering), **files})
        return
    if features is None:
        raise ValueError(f"{conf} matches features; give their file by --features.")
    done = match_features(
        conf, pairs, features, export_dir, matches=matches, options=options, progress=True
    )
    _report(
        f"{done.match_path}: {done.num_matched} pairs matched "
        f"({done.num_matches} matches) in {done.seconds:.1f} s, {done.num_present}",
        done.skipped,
    )


def _match_images(
    conf: str,
    pairs: Path,
    export_dir: Path | None,
    options: MatchOptions,
    others: Mapping[str, Any],
) -> None:
    if options.image_dir is None or export_dir is None:
        raise ValueError(
            f"{conf} matches images without features; give their folder by --image-dir, and one "
            "for its features and matches by --export-dir."
        )
    done = match_images(
        conf,
        pairs,
        options.image_dir,
        export_dir,
        progress=True,
        methods=options.methods,
        device=options.device,
        overwrite=options.overwrite,
        option=options.matcher_option,
        memory_gib=options.memory_gib,
        **others,
    )
    _report(
        f"{done.feature_path} and {done.match_path}: {done.num_matched} pairs matched "
        f"({done.num_matches} matches of {done.num_keypoints} keypoints) in {done.seconds:.1f} s, "
        f"{done.num_present}",
        done.skipped,
    )


def retrieve(
    options: Unprefixed[RetrieveOptions],
    database: Unprefixed[DatabaseSelection],
    sharding: Unprefixed[ShardOptions],
    conf: str = "vlad",
    image_dir: Path | None = None,
    export_dir: Path | None = None,
    image_list: Path | None = None,
    descriptor_path: Path | None = None,
) -> None:
    """Describe each image as a whole, for retrieval, into an HDF5 file that hloc reads.

    Args:
        conf: name of a retrieval method; `featplug list` shows them. Those with a network, such as
            netvlad, describe the images of --image-dir; vlad and vlad-whitened sum up the local
            features of --features, without weights.
        image_dir: folder of the images, for methods with a network.
        export_dir: folder of the file, or of the store; needed unless --descriptor-path is used.
        image_list: text file of image names; all images by default.
        descriptor_path: the file, instead of --export-dir.
        database: images that vlad learns its vocabulary from.
        options: how images are described.
        sharding: which parts of a store are made; vlad-whitened has few enough dimensions for
            large ones.
    """
    if (share := sharding.share()) is not None:
        executor, options = sharding.chosen_executor(options.device), first_device(options)
        stage = describe_parts(required_store(export_dir), conf, options)
        print_parts(run_parts(stage, share, executor, options.overwrite, progress=True), "images")
        return
    names = None
    if options.features is not None and database != DatabaseSelection():
        with open_features(options.features) as reader:
            names = database.select(reader.names())
    done = global_descriptors(
        conf,
        image_dir,
        export_dir,
        image_list,
        descriptor_path,
        options=options,
        progress=True,
        database=names,
    )
    _report(
        f"{done.descriptor_path}: {done.num_described} images described in {done.seconds:.1f} s, "
        f"{done.num_present}",
        done.skipped,
    )


def _report(done: str, skipped: Mapping[str, str]) -> None:
    print(f"{done} present before, {f'{len(skipped)} skipped:' if skipped else 'nothing skipped.'}")
    print_reasons(skipped)
