"""Photographs to a COLMAP model: extract, pair, match, verify, map and measure.

``python -m pipelines.sfm --images DIR --feature NAME``
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from featplug.cli.command_line import Unprefixed, leave_config, run_command
from featplug.colmap.cameras import check_camera_of_images
from featplug.colmap.database_priors import write_position_priors
from featplug.colmap.geometric_verification import verified_pairs
from featplug.colmap.mapping import MapOptions
from featplug.colmap.model_support import model_support
from featplug.colmap.pair_usage import pair_usage, reasons_not_registered
from featplug.colmap.rigs import Rigs
from featplug.io.folder_lock import locked_folder
from featplug.io.metric_table import with_units
from featplug.io.names import similar_name_hints
from featplug.io.pair_lists import Pair, read_pairs, unique_pairs, write_pairs
from featplug.io.positions import Positions
from featplug.io.results import StageRecorder, write_results
from featplug.io.run_folder import replace_results, run_folder
from featplug.stages.map import SPARSE, map_images
from featplug.stages.verify import VerifyOptions, import_verified_pairs, verify_pairs
from pipelines.datasets.true_poses import read_reference_poses, reference_unit
from pipelines.exports import EXPORTS, ExportOptions, announce_lost_exports, write_exports
from pipelines.given_files import Features
from pipelines.mapping_options import MappingOptions
from pipelines.output_folder import (
    SceneImages,
    announce_replacement,
    output_folder,
    reject_other_command,
)
from pipelines.pair_selection import PairOptions, check_near, select_pairs
from pipelines.photographs import PhotographOptions
from pipelines.positions import ModelPlacer, PositionOptions
from pipelines.rigs import RigOptions, rig_record
from pipelines.run import Stages
from pipelines.run_options import plain
from pipelines.run_record import run_record
from pipelines.run_report import PAGE, files_line, write_report
from pipelines.sfm_metrics import model_metrics, pose_metrics
from pipelines.sfm_summary import summary, with_skipped
from pipelines.verification import VerifiedPairOptions
from pipelines.workspace import (
    link_images,
    reject_extended_model,
    reject_workspace_of_others,
)

_TOO_FEW = "A reconstruction needs two images or more, not {}."
_RESULTS = (
    *("sparse", "model", "points.ply", "colmap_models", "database.db", "colmap.log"),
    *("results.json", "config.toml", "made_from.json", "dense.ply", PAGE),
    *EXPORTS,
)
"""Files of a model, which all belong to one run."""


@dataclass(frozen=True)
class SfmOptions(
    ExportOptions,
    PositionOptions,
    RigOptions,
    PairOptions,
    MappingOptions,
    VerifiedPairOptions,
    PhotographOptions,
):
    """Options of a reconstruction."""

    pipeline: ClassVar[str] = "sfm"

    reference: Path | None = None
    """True poses: a COLMAP model, or a folder of Strecha's .camera files."""

    @property
    def data_name(self) -> str:
        """Name of the scene."""
        return self.scene_name

    @property
    def image_dir(self) -> Path:
        """Folder of the photographs."""
        return self.photograph_folder(self.output_dir)

    @property
    def is_sequence(self) -> bool:
        """Whether the photographs are the frames of a video."""
        return self.video is not None


@dataclass(frozen=True)
class MatchedScene:
    """Features and matches of a folder of photographs; models are made from them with any seed."""

    stages: Stages
    """Stages that have run, with their cost."""
    features: Features
    pairs: list[Pair]
    matches: Path
    skipped: dict[str, str]
    """Images that could not be used, and why."""
    positions: Positions | None = None
    """Where the photographs were taken, if they are paired or put into metres by it."""
    rigs: Rigs | None = None
    """Rigs of the photographs' cameras."""
    reference: dict[str, np.ndarray] = field(default_factory=dict)
    """Image name to the true ``cam_from_world``, 3×4; empty where none are known."""


def reconstruct(options: SfmOptions, progress: bool = False) -> dict[str, Any]:
    """Reconstruct a folder of photographs.

    Features and matches that the output folder already has are reused; the model is made again.

    Returns:
        The contents of ``results.json``.

    Raises:
        FileNotFoundError: a given file does not exist.
        ValueError: something given does not fit, or nothing could be reconstructed.
    """
    with locked_folder(options.output_dir):
        results = map_scene(match_scene(options, progress), options, progress)
        write_report(options.output_dir)
        write_exports(options, options.image_dir, options.output_dir, progress)
    return results


def match_scene(options: SfmOptions, progress: bool = False) -> MatchedScene:
    """Extract and match what the output folder does not have yet; nothing depends on the seed.

    Raises:
        FileNotFoundError: a given file does not exist.
        ValueError: something given does not fit, or fewer than two images have features.
    """
    # The whole request is checked before the long work.
    options.check_photographs()
    stages = Stages(options, progress)
    reference = {} if options.reference is None else read_reference_poses(options.reference)
    options.check_mapping()
    options.check_exports(options.camera)
    options.check_pairs(stages)
    options.check_positions(options.mapper)
    rigs = options.read_rigs()
    given = None if options.pair_list is None else unique_pairs(read_pairs(options.pair_list))

    outputs, masks = options.output_dir, options.extraction.masks
    reject_other_command(outputs, options.pipeline)
    reject_workspace_of_others(outputs)
    if not options.extraction.overwrite:
        reject_extended_model(outputs)
    names = options.photographs(outputs, masks, progress)
    rig_cameras = None if rigs is None else rigs.cameras_of(names)
    check_camera_of_images(options.camera, options.image_dir, names, rig_cameras)
    if len(names) < 2:
        raise ValueError(_TOO_FEW.format(len(names)))
    positions = None
    if options.georeference or options.selection == "near":
        positions = options.read_positions(options.image_dir, names)
    if positions is not None and options.selection == "near":
        check_near(positions, names)
    if positions is not None and options.georeference:
        ModelPlacer(positions)  # raises where they do not say how a model stands
    images = SceneImages(options.image_dir, options.image_dir, names)
    with output_folder(options.output_dir, options.pipeline, images):
        scene = _match_images(options, stages, names, given, positions, rigs)
    return replace(scene, reference=reference)


def _match_images(
    options: SfmOptions,
    stages: Stages,
    names: Sequence[str],
    given: Sequence[Pair] | None,
    positions: Positions | None,
    rigs: Rigs | None,
) -> MatchedScene:
    """Extract and match; see :func:`match_scene`."""
    with stages.recorder.stage("extract"):
        features = stages.extract(options.image_dir, names)
    known = set(features.names)
    skipped = dict(features.skipped)
    if len(known) < 2:
        raise ValueError(with_skipped(_TOO_FEW.format(len(known)), skipped))
    pairs_path = options.pair_list or options.output_dir / f"pairs-{options.selection}.txt"
    if given is None:
        with stages.recorder.stage("pairs"):
            selected = select_pairs(options, stages, features, options.num_matched, positions, rigs)
        skipped.update(stages.retrieval.skipped if stages.retrieval else {})
        if options.selection == "near" and positions is not None:
            reason = f"paired with no other image: {positions.source} has no position of it"
            unplaced = known.difference(positions.names)
            skipped.update(dict.fromkeys(sorted(unplaced), reason))
        write_pairs(pairs_path, selected)
    else:
        without = dict.fromkeys(name for pair in given for name in pair if name not in known)
        hints = similar_name_hints(without, known)
        for name in without:
            reason = f"the pair list names {name!r}, which has no features{hints.get(name, '')}"
            skipped.setdefault(name, reason)
        selected = [pair for pair in given if known.issuperset(pair)]
    matches = stages.match("match", features, pairs_path)
    return MatchedScene(stages, features, selected, matches, skipped, positions, rigs)


def map_scene(
    scene: MatchedScene,
    options: SfmOptions,
    progress: bool = False,
    add: Callable[[Path], object] = lambda _: None,
) -> dict[str, Any]:
    """Verify the matches of a scene and make a model, which replaces an earlier one in the folder.

    Args:
        scene: what :func:`match_scene` returned.
        options: the same options, with any seed, output folder and options of mapping.
        progress: show bars.
        add: adds files to the folder of the results, which is its argument.

    Returns:
        The contents of ``results.json``.

    Raises:
        ValueError: nothing could be reconstructed. The earlier model is still there.
    """
    outputs = options.output_dir
    with run_folder(outputs) as working:
        announce_replacement(outputs, plain(asdict(options)))
        leave_config(options, working)
        results = _make_model(scene, options, working, progress)
        link_images(
            working,
            outputs,
            options.image_dir,
            scene.features.names,
            is_selection=options.image_list is not None,
        )
        write_results(working / "results.json", results)
        add(working)
        announce_lost_exports(outputs, options.export)
        replace_results(outputs, _RESULTS)
    return results


def _make_model(
    scene: MatchedScene, options: SfmOptions, working: Path, progress: bool
) -> dict[str, Any]:
    """Make the database and the models in a folder, and return the contents of the record."""
    features, recorder = scene.features, StageRecorder()
    database = working / "database.db"
    placer = None
    if scene.positions is not None and options.georeference:
        placer = ModelPlacer(scene.positions, options.seed)
    try:
        with recorder.stage("verify"):
            images = database, options.image_dir, features.names, features.path
            verification = VerifyOptions(camera=options.camera, rigs=scene.rigs, seed=options.seed)
            if options.verified is None:
                verified = verify_pairs(*images, scene.matches, scene.pairs, verification, progress)
            else:
                of_store = options.verified
                verified = import_verified_pairs(*images, of_store, verification, scene.pairs)
        if placer is not None:
            write_position_priors(database, placer.positions, options.position_noise)
        mapping = MapOptions(
            mapper=options.mapper,
            cluster_images=options.cluster_images,
            cluster_overlap=options.cluster_overlap,
            clusters=options.output_dir / "clusters",
            num_threads=options.num_threads,
            refine_intrinsics=options.camera.params is None,
            known_cameras=verified.cameras.known,
            rigs=scene.rigs,
            refine_rigs=not options.fix_rig,
            use_positions=options.position_noise is not None,
            seed=options.seed,
            max_megapixels=options.extraction.max_megapixels,
        )
        with recorder.stage("map"):
            mapped = map_images(database, options.image_dir, working, mapping, progress, placer)
    except ValueError as error:
        reason, log = str(error), working / "colmap.log"
        if log.is_file() and log.stat().st_size:
            reason = f"{reason.rstrip('.')}; {log} says more."
        raise ValueError(with_skipped(reason, scene.skipped)) from error

    if placer is not None:
        folders = [working / made.path for made in mapped.models]
        placer.write(folders, [working / SPARSE, working / "model"])
    model = mapped.model
    usage = pair_usage(database, model)
    support = model_support(model, verified_pairs(database))
    metrics = model_metrics(model, features, verified.summary, usage.num_used)
    metrics |= with_units(
        {
            "two_view_points": support.two_view_fraction,
            "contradicted_matches": usage.contradicted_matches,
        }
    )
    missing = mapped.not_registered(features.names)
    skipped = dict(scene.skipped)
    if options.reference is not None:
        try:
            unit = reference_unit(options.reference)
            metrics |= pose_metrics(model, scene.reference, unit)
        except ValueError as error:  # the model is good without them
            skipped["reference"] = f"no pose errors: {error}"
    return {
        **run_record(scene.stages, options, features),
        "data": {
            "images": str(options.image_dir.resolve()),
            "fingerprint": features.fingerprint,
            "skipped": skipped,
            "not_registered": missing,
            "reasons_not_registered": reasons_not_registered(database, missing),
        },
        "models": [
            {"path": made.path, "points": made.num_points, "images": made.images}
            for made in mapped.models
        ],
        **({"clusters": [asdict(each) for each in mapped.clusters]} if mapped.clusters else {}),
        **({} if placer is None else {"georeference": placer.record()}),
        **(
            {}
            if scene.rigs is None
            else {"rigs": rig_record(scene.rigs, features.names, mapped.without_rigs)}
        ),
        "cameras": verified.cameras.lines,
        "verified_pairs_by_inliers": verified.summary.histogram,
        "weak_links": [
            {
                "images": link.images,
                "points": link.num_points,
                "confirmed": link.num_confirmed,
                "pairs": link.num_pairs,
                "most_inliers": link.most_inliers,
            }
            for link in support.weak_links
        ],
        "pairs_within_model": usage.num_within,
        "pairs_leaving_model": usage.num_leaving,
        "contradicted_pairs": [
            {"images": pair, "inliers": num} for pair, num in usage.contradicted.items()
        ],
        "reused": scene.stages.reused,
        "stages": scene.stages.recorder.stages | recorder.stages,
        "metrics": metrics,
    }


def main(options: Unprefixed[SfmOptions]) -> None:
    """Reconstruct a folder of photographs with any feature.

    Features and matches that the output folder already has are reused; the model is made again. The
    output folder gets the COLMAP model, points.ply, results.json, report.html and colmap.log.
    """
    results = reconstruct(options, progress=True)
    print(summary(results))
    files = "sparse/0", "images", "points.ply", *options.export, "colmap.log", "results.json"
    print(files_line(files, options.output_dir))


if __name__ == "__main__":
    run_command(main, prog="python -m pipelines.sfm")
