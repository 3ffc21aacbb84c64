"""The commands ``featplug pairs``, with hloc's argument names."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from featplug.cli.command_line import Unprefixed, print_reasons
from featplug.io.parts.feature_parts import open_features
from featplug.shards.executor_options import ShardOptions
from featplug.shards.share import Share

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class ImageNames:
    """Images to pair; one of the two files is needed."""

    image_list: Path | None = None
    """Text file of image names, for sequences in the order of capture."""
    features: Path | None = None
    """Feature file whose images are paired; each of its folders is a sequence, in the order of
    names, frame2 before frame10."""

    def read(self) -> list[str]:
        """Return the names; raise ValueError if neither file is given."""
        from featplug.io.pair_lists import read_image_list

        if self.image_list is not None:
            return read_image_list(self.image_list)
        if self.features is None:
            raise ValueError("No images are named; use --image_list FILE or --features FILE.")
        with open_features(self.features) as reader:
            return reader.names()


def exhaustive(
    images: Unprefixed[ImageNames],
    output: Path,
    ref_list: Path | None = None,
    ref_features: Path | None = None,
) -> None:
    """Pair every image with every other, or with every image of a second list.

    Args:
        images: images to pair.
        output: pair list to write.
        ref_list: text file of the images to pair them with.
        ref_features: feature file of the images to pair them with.
    """
    from featplug.stages import pairs

    references = ImageNames(ref_list, ref_features)
    others = None if references == ImageNames() else references.read()
    _write_pairs(output, pairs.exhaustive(images.read(), others))


@dataclass(frozen=True)
class LoopOptions:
    """Pairs that close loops."""

    loop_closure: int = 0
    """Number of similar images elsewhere that every tenth image is paired with, which needs
    --descriptors."""
    descriptors: Path | None = None
    """File of global descriptors, made by `featplug retrieve` or hloc."""


def sequential(
    images: Unprefixed[ImageNames],
    output: Path,
    loops: Unprefixed[LoopOptions],
    overlap: int = 10,
    quadratic: bool = True,
) -> None:
    """Pair every image with those that follow it, and with similar ones elsewhere.

    Args:
        images: images to pair.
        output: pair list to write.
        loops: pairs that close loops.
        overlap: number of following images that each image is paired with.
        quadratic: pair each image with the 1st, 2nd, 4th, 8th, … following one, too.
    """
    from featplug.stages import pairs
    from featplug.stages.retrieval_pairs import pairs_from_retrieval

    names = images.read()
    # A list is in the order of capture, the names of a feature file in that of HDF5.
    sequences = [names] if images.image_list is not None else pairs.sequences(names)
    selected = [pair for each in sequences for pair in pairs.sequential(each, overlap, quadratic)]
    if loops.loop_closure:
        if loops.descriptors is None:
            raise ValueError("--loop_closure needs the global descriptors, --descriptors FILE.")
        num = loops.loop_closure + pairs.most_partners(selected)
        queries = pairs.loop_queries(sequences)
        retrieved = pairs_from_retrieval(loops.descriptors, num, queries, names)
        selected += pairs.loop_closures(retrieved, selected, loops.loop_closure)
    _write_pairs(output, selected)


@dataclass(frozen=True)
class ImagePlaces:
    """Where images were taken; one of the two is needed."""

    image_dir: Path | None = None
    """Folder of photographs with GPS in their EXIF data."""
    positions: Path | None = None
    """File with a line for each image: name, latitude, longitude (and altitude), or x, y, z."""
    position_form: Literal["auto", "gps", "metres"] = "auto"
    """What the numbers of that file are, where its first line does not name the columns."""

    def read(self) -> "dict[str, np.ndarray]":
        """Return positions in metres; raise ValueError if none are given."""
        from featplug.colmap.georeference import positions_for_distances
        from featplug.io.image_folder import list_images
        from featplug.io.positions import exif_positions, read_positions

        if self.positions is not None:
            return positions_for_distances(read_positions(self.positions, self.position_form))
        if self.image_dir is None:
            raise ValueError("No positions are given; use --positions FILE or --image_dir DIR.")
        return positions_for_distances(exif_positions(self.image_dir, list_images(self.image_dir)))


def near(
    places: Unprefixed[ImagePlaces], output: Path, num_matched: int, max_distance: float = 100.0
) -> None:
    """Pair every image with those that were taken nearest to it.

    Args:
        places: where the images were taken.
        output: pair list to write.
        num_matched: number of images that each image is paired with.
        max_distance: largest distance of two images that are paired, in metres.
    """
    from featplug.stages import pairs

    _write_pairs(output, pairs.near(places.read(), num_matched, max_distance))


@dataclass(frozen=True)
class ModelPairOptions:
    """A model, and the number of pairs of its images."""

    model: Path
    """Folder of a COLMAP model."""
    output: Path
    """Pair list to write."""
    num_matched: int
    """Number of images that each image is paired with."""


def covisibility(options: Unprefixed[ModelPairOptions]) -> None:
    """Pair every image of a COLMAP model with those that share most 3-D points with it."""
    from featplug.colmap.model_files import read_model
    from featplug.stages.pairs import covisible

    _write_pairs(options.output, covisible(read_model(options.model), options.num_matched))


def poses(options: Unprefixed[ModelPairOptions], rotation_threshold: float = 30.0) -> None:
    """Pair every image of a COLMAP model with the nearest ones that look the same way.

    Args:
        options: the model, and the number of pairs.
        rotation_threshold: largest angle between the optical axes, in degrees.
    """
    from featplug.stages.pairs import from_poses

    known = _model_poses(options.model)
    _write_pairs(options.output, from_poses(known, options.num_matched, rotation_threshold))


@dataclass(frozen=True)
class DatabaseSelection:
    """Images of the database."""

    db_prefix: tuple[str, ...] = ()
    """Prefixes of the names of the database's images; all images by default."""
    db_list: Path | None = None
    """Text file of the database's images."""

    def select(self, names: Sequence[str]) -> list[str]:
        """Return the names that are in the database."""
        from featplug.stages.retrieve import select_images

        return select_images(names, self.db_prefix, self.db_list)


@dataclass(frozen=True)
class RetrievalPairOptions:
    """Queries, database, and the number of pairs of a query."""

    descriptors: Path
    """File of the queries' global descriptors, made by `featplug retrieve` or hloc, or folder of
    their parts."""
    num_matched: int
    """Number of database images that each query is paired with."""
    output: Path | None = None
    """Pair list to write; needed unless --shard is used."""
    export_dir: Path | None = None
    """Folder of the store, for --shard."""
    device: str | None = None
    """Device that computes similarities, for --shard."""
    query_prefix: tuple[str, ...] = ()
    """Prefixes of the queries' names; all images by default."""
    query_list: Path | None = None
    """Text file of the queries."""
    database: Unprefixed[DatabaseSelection] = DatabaseSelection()
    db_model: Path | None = None
    """COLMAP model whose images are the database."""
    db_descriptors: tuple[Path, ...] = ()
    """Files of the database's global descriptors; --descriptors by default."""
    min_score: float | None = None
    """Smallest similarity of a pair; hloc uses 0."""


def retrieval(
    options: Unprefixed[RetrievalPairOptions], sharding: Unprefixed[ShardOptions]
) -> None:
    """Pair every query with the images of a database that look most like it.

    Args:
        options: queries and database.
        sharding: which parts of a store are made; all images of a store are paired with all.
    """
    if (share := sharding.share()) is not None:
        _retrieve_parts(options, sharding, share)
        return
    if options.output is None:
        raise ValueError("Name the pair list to write by --output.")
    from featplug.stages.retrieval_pairs import described_images, pairs_from_retrieval
    from featplug.stages.retrieve import select_images

    described = described_images(options.descriptors)
    queries = select_images(described, options.query_prefix, options.query_list)
    files = options.db_descriptors or (options.descriptors,)
    if options.db_model is not None:
        database = sorted(_model_poses(options.db_model))
    else:
        database = options.database.select(described_images(*files))
    retrieved = pairs_from_retrieval(
        options.descriptors, options.num_matched, queries, database, files, options.min_score
    )
    _write_pairs(options.output, retrieved)


def _retrieve_parts(options: RetrievalPairOptions, sharding: ShardOptions, share: Share) -> None:
    from featplug.cli.shard_commands import print_parts, required_store
    from featplug.shards.retrieve_parts import RetrieveParts
    from featplug.shards.run_parts import run_parts

    device = options.device and options.device.partition(",")[0]
    stage = RetrieveParts(
        required_store(options.export_dir),
        options.descriptors,
        options.num_matched,
        options.min_score,
        device,
    )
    executor = sharding.chosen_executor(options.device)
    print_parts(run_parts(stage, share, executor, progress=True), "pairs")


COMMANDS = {
    command.__name__: command
    for command in (exhaustive, sequential, near, covisibility, poses, retrieval)
}
"""The commands of ``featplug pairs``."""


def _model_poses(model: Path) -> "dict[str, np.ndarray]":
    from featplug.colmap.model_files import read_model
    from featplug.metrics.poses import model_poses

    return model_poses(read_model(model))


def _write_pairs(output: Path, pairs: Sequence[tuple[str, str]]) -> None:
    from featplug.io.names import checked_name
    from featplug.io.pair_lists import write_pairs

    skipped = {}
    for name in dict.fromkeys(chain.from_iterable(pairs)):
        try:
            checked_name(name)
        except ValueError as error:
            skipped[name] = str(error)
    pairs = [pair for pair in pairs if skipped.keys().isdisjoint(pair)]
    if not pairs:
        problem = "no two images fit the options; change them."
        reason = next(iter(skipped.values()), problem)
        raise ValueError(f"{output} is not written: {reason}")
    write_pairs(output, pairs)
    print(f"{output}: {len(pairs)} pairs of {len(set().union(*pairs))} images")
    print_reasons(skipped, "left out: ")
