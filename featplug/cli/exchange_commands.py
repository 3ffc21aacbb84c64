"""The commands ``featplug export`` and ``featplug import``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from featplug.cli.command_line import Unprefixed

if TYPE_CHECKING:
    from featplug.io.exchange.transfer import Transfer
    from featplug.io.pair_lists import Pair


@dataclass(frozen=True)
class FeatureSource:
    """Features to export."""

    features: Path
    """Feature file, ours or hloc's."""
    image_list: Path | None = None
    """Text file of image names; all images in the feature file by default."""

    def names(self) -> list[str] | None:
        """Return the listed image names; None stands for all."""
        from featplug.io.images import read_image_list

        return None if self.image_list is None else read_image_list(self.image_list)


@dataclass(frozen=True)
class MatchSource(FeatureSource):
    """Features and matches to export."""

    matches: Path | None = None
    """Match file, ours or hloc's; no matches by default."""
    pairs: Path | None = None
    """Pair list; all pairs in the match file by default."""

    def pair_list(self) -> list[Pair] | None:
        """Return the listed pairs; None stands for all."""
        from featplug.io.pair_lists import read_pairs, unique_pairs

        return None if self.pairs is None else unique_pairs(read_pairs(self.pairs))


@dataclass(frozen=True)
class ImportTarget:
    """Files to write, which hloc reads."""

    features: Path
    """Feature file to write."""
    matches: Path | None = None
    """Match file to write; none by default."""
    overwrite: bool = False
    """Replace the files."""


@dataclass(frozen=True)
class DatabaseOptions:
    """What a COLMAP database gets besides keypoints and matches."""

    camera_mode: Literal["auto", "single", "per-folder", "per-image"] = "auto"
    """Which images share a camera."""
    camera_model: str = "SIMPLE_RADIAL"
    """COLMAP camera model."""
    camera_params: str | None = None
    """Known intrinsics, comma-separated in the order of COLMAP's model."""
    descriptors: Literal["none", "sift", "float"] = "none"
    """sift: as COLMAP's own SIFT, which COLMAP can match; float: of any feature, for reading
    back only."""
    verify: bool = True
    """Verify the matches geometrically; COLMAP's mapper uses only verified matches."""
    max_error: float = 4.0
    """Largest error of an inlier in verification, in pixels."""
    seed: int = 0
    """Seed of verification."""


def export_colmap(
    source: Unprefixed[MatchSource],
    image_dir: Path,
    database: Path,
    options: Unprefixed[DatabaseOptions] = DatabaseOptions(),
    overwrite: bool = False,
) -> None:
    """Make a COLMAP database, for its mapper, its graphical interface or other tools.

    Args:
        source: features and matches.
        image_dir: folder of the images.
        database: database to write.
        options: cameras, descriptors and verification.
        overwrite: replace a COLMAP database.
    """
    from featplug.colmap.cameras import CameraOptions
    from featplug.io.exchange.colmap import export_database

    camera = CameraOptions(options.camera_mode, options.camera_model, options.camera_params)
    _report(
        export_database(
            database,
            source.features,
            image_dir,
            source.matches,
            names=source.names(),
            pairs=source.pair_list(),
            camera=camera,
            descriptors=options.descriptors,
            verify=options.verify,
            seed=options.seed,
            max_error=options.max_error,
            overwrite=overwrite,
        )
    )


def export_kapture(
    source: Unprefixed[MatchSource],
    output: Path,
    image_dir: Path | None = None,
    feature_type: str = "featplug",
    descriptors: bool = True,
    overwrite: bool = False,
) -> None:
    """Write keypoints, descriptors and matches into a kapture folder, new or with images already.

    Args:
        source: features and matches.
        output: the kapture folder.
        image_dir: folder of the images, linked into a new kapture folder.
        feature_type: kapture's name for these features.
        descriptors: write descriptors, too.
        overwrite: replace the features of that name.
    """
    from featplug.io.exchange import kapture

    _report(
        kapture.export_kapture(
            output,
            source.features,
            source.matches,
            feature_type=feature_type,
            image_dir=image_dir,
            names=source.names(),
            pairs=source.pair_list(),
            descriptors=descriptors,
            overwrite=overwrite,
        )
    )


def export_schoenberger(
    source: Unprefixed[MatchSource],
    output: Path,
    descriptors: bool = True,
    overwrite: bool = False,
) -> None:
    """Write the .bin files of the local feature evaluation benchmark (Schönberger et al. 2017).

    Args:
        source: features and matches.
        output: folder of the data set; gets keypoints, descriptors and matches.
        descriptors: write descriptors, too.
        overwrite: replace all .bin files in the folder.
    """
    from featplug.io.exchange.schoenberger import export_dataset

    names, pairs = source.names(), source.pair_list()
    _report(
        export_dataset(
            output,
            source.features,
            source.matches,
            names=names,
            pairs=pairs,
            descriptors=descriptors,
            overwrite=overwrite,
        )
    )


def export_d2net(
    source: Unprefixed[FeatureSource],
    output: Path,
    suffix: str = ".d2-net",
    overwrite: bool = False,
) -> None:
    """Write D2-Net's feature files, IMAGE.d2-net.

    Args:
        source: features.
        output: folder of the files, usually that of the images.
        suffix: end of a file's name, after the image's.
        overwrite: replace all files of that suffix in the folder.
    """
    from featplug.io.exchange.d2net import export_archives

    names = source.names()
    _report(
        export_archives(output, source.features, suffix=suffix, names=names, overwrite=overwrite)
    )


def import_colmap(
    database: Path,
    target: Unprefixed[ImportTarget],
    inliers: bool = False,
    descriptors: bool = True,
) -> None:
    """Read a COLMAP database into files that hloc reads.

    Args:
        database: the database.
        target: files to write.
        inliers: read only the matches that COLMAP has verified.
        descriptors: read descriptors, too, where the database has them.
    """
    from featplug.io.exchange.colmap import import_database

    _report(
        import_database(
            database,
            target.features,
            target.matches,
            inliers=inliers,
            descriptors=descriptors,
            overwrite=target.overwrite,
        )
    )


def import_kapture(
    kapture: Path, target: Unprefixed[ImportTarget], feature_type: str | None = None
) -> None:
    """Read a kapture folder into files that hloc reads.

    Args:
        kapture: the folder.
        target: files to write.
        feature_type: kapture's name for the features, where the folder has several.
    """
    from featplug.io.exchange import kapture as format_

    _report(
        format_.import_kapture(
            kapture,
            target.features,
            target.matches,
            feature_type=feature_type,
            overwrite=target.overwrite,
        )
    )


def import_schoenberger(dataset: Path, target: Unprefixed[ImportTarget]) -> None:
    """Read the .bin files of the local feature evaluation benchmark into files that hloc reads.

    Args:
        dataset: folder of the data set, with images, keypoints and the others.
        target: files to write.
    """
    from featplug.io.exchange.schoenberger import import_dataset

    _report(import_dataset(dataset, target.features, target.matches, overwrite=target.overwrite))


def import_d2net(
    image_dir: Path,
    features: Path,
    archives: Path | None = None,
    suffix: str = ".d2-net",
    overwrite: bool = False,
) -> None:
    """Read D2-Net's feature files, IMAGE.d2-net, into a file that hloc reads.

    Args:
        image_dir: folder of the images.
        features: feature file to write.
        archives: folder of D2-Net's files; that of the images by default.
        suffix: end of a file's name, after the image's.
        overwrite: replace the file.
    """
    from featplug.io.exchange.d2net import import_archives

    folder = archives or image_dir
    _report(import_archives(folder, image_dir, features, suffix=suffix, overwrite=overwrite))


EXPORTS = {
    "colmap": export_colmap,
    "kapture": export_kapture,
    "schoenberger": export_schoenberger,
    "d2net": export_d2net,
}
"""The commands of ``featplug export``."""
IMPORTS = {
    "colmap": import_colmap,
    "kapture": import_kapture,
    "schoenberger": import_schoenberger,
    "d2net": import_d2net,
}
"""The commands of ``featplug import``."""


def _report(transfer: Transfer) -> None:
    counts = f"{transfer.num_images} images ({transfer.num_keypoints} keypoints)"
    if transfer.num_pairs:
        counts += f", {transfer.num_pairs} pairs ({transfer.num_matches} matches)"
    if (verified := transfer.verification) is not None:
        counts += (
            f", {verified.num_verified_pairs} pairs verified "
            f"({verified.num_inlier_matches} inlier matches)"
        )
    print(f"{transfer.path}: {counts}")
    reasons = list(transfer.skipped.values())
    for reason in reasons[:10]:
        print(f"  left out: {reason}")
    if len(reasons) > 10:
        print(f"  and {len(reasons) - 10} more")
