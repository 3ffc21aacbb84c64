"""Features and models that another method or an earlier run kept, and the cost of the stages.

Features and matches check their own files (:mod:`featplug.io.h5file`).
"""

import hashlib
import shutil
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Annotated, TypedDict

import pycolmap

from featplug.io.artifact import Artifact, Provenance, value_hash
from featplug.io.files import write_whole
from featplug.io.parts.feature_parts import open_features
from featplug.io.parts.match_parts import open_matches
from featplug.io.results import StageCost, read_results, write_results
from featplug.io.typed_json import as_type, read_json
from featplug.methods import feature_conf
from pipelines.run_options import FeatureOptions, plain
from pipelines.run_record import PipelineRecord
from pipelines.sfm import MatchedScene, SfmOptions, map_scene

_COSTS = "costs.json"
_VERSION = 1
"""Version of verification and mapping; raised when their output changes."""


class _Cost(TypedDict):
    made_from: list[str | None]
    cost: Annotated[dict[str, float], StageCost]


def reuse_features(options: SfmOptions, others: Iterable[SfmOptions]) -> None:
    """Copy the features, and their cost, of another method that extracts the same.

    Such are ``sift+NN-mutual`` and ``sift+NN-ratio``. Features that exist already stay.
    """
    own = _extracted(options)
    if own is None or own.exists() or options.extraction.overwrite:
        return
    for other in others:
        file = _extracted(other)
        if file is not None and file.is_file() and _extraction(other) == _extraction(options):
            write_whole(own, partial(shutil.copyfile, file))
            with suppress(OSError):  # without it, the stages have no cost
                shutil.copyfile(other.output_dir / _COSTS, options.output_dir / _COSTS)
            return


def _extracted(options: SfmOptions) -> Path | None:
    """Return the feature file that a run makes; None where it makes none."""
    if options.extraction.features is not None or options.pair_matcher is not None:
        return None
    return options.output_dir / f"{feature_conf(options.extraction.method.feature)['output']}.h5"


def _extraction(options: SfmOptions) -> FeatureOptions:
    return replace(options.extraction, feature=options.extraction.method.feature)


def matching_costs(
    folder: Path, scene: MatchedScene
) -> tuple[dict[str, dict[str, float]], list[str]]:
    """Return seconds and peak memory of the stages up to matching, and those of an earlier run.

    For reused features and matches, ``costs.json`` of the folder has the figures of the run that
    made them. A stage that several runs made together is left out.
    """
    source = _matched_from(scene)
    made_from = {
        "extract": [source["features"], source["images"]],
        "pairs": [source["matches"], source["pairs"]],
        "match": [source["matches"], source["pairs"]],
    }
    retrieval = scene.stages.retrieval
    reused = {**scene.stages.reused, "pairs": retrieval.num_present if retrieval else 0}
    path = folder / _COSTS
    known: dict[str, _Cost] = {}
    with suppress(OSError, ValueError):  # without it, the stages have no cost
        known = as_type(read_json(path), dict[str, _Cost], path)
    costs: dict[str, _Cost] = {}
    for stage, cost in scene.stages.recorder.stages.items():
        if stage in known and known[stage]["made_from"] == made_from[stage]:
            costs[stage] = known[stage]
        elif reused[stage] == 0:
            costs[stage] = {"made_from": made_from[stage], "cost": cost}
    write_results(path, costs)
    earlier = [stage for stage in costs if costs[stage] is known.get(stage)]
    return {stage: entry["cost"] for stage, entry in costs.items()}, earlier


def map_or_reuse(
    scene: MatchedScene, options: SfmOptions, progress: bool = False
) -> tuple[PipelineRecord, bool]:
    """Make a model with :func:`pipelines.sfm.map_scene`, unless its folder has the same one.

    Returns:
        The contents of ``results.json`` of the model's folder, and whether the model was there.
    """
    folder = options.output_dir
    artifact = Artifact(folder / "model", _provenance(scene, options), folder / "made_from.json")
    results = folder / "results.json"
    if artifact.reason_to_make() is None:
        with suppress(OSError, ValueError):  # without its record, the model is made again
            return read_results(results, PipelineRecord), True

    def add_record(working: Path) -> None:
        artifact.write_record(working / "model", {}, working / artifact.record.name)

    map_scene(scene, options, progress, add_record)
    return read_results(results, PipelineRecord), False


def _provenance(scene: MatchedScene, options: SfmOptions) -> Provenance:
    reference = hashlib.sha256()
    for name, pose in sorted(scene.reference.items()):
        reference.update(name.encode() + pose.tobytes())
    clusters = {}
    if options.mapper in ("hierarchical", "partitioned"):
        clusters = {
            "cluster_images": options.cluster_images,
            "cluster_overlap": options.cluster_overlap,
        }
    return Provenance(
        "model",
        conf={
            "camera": plain(asdict(options.camera)),
            "mapper": options.mapper,
            "seed": options.seed,
            "num_threads": options.num_threads,
            "pycolmap": pycolmap.__version__,
            **clusters,
        },
        inputs={**_matched_from(scene), "true_poses": reference.hexdigest()},
        revisions={"map": _VERSION},
    )


def _matched_from(scene: MatchedScene) -> dict[str, str | None]:
    """Return the identities of the photographs, features, pairs and matches."""
    with open_features(scene.features.path) as features, open_matches(scene.matches) as matches:
        return {
            "images": value_hash([scene.features.fingerprint, scene.skipped]),
            "features": features.file_id,
            "pairs": value_hash(scene.pairs),
            "matches": None if matches.provenance is None else matches.provenance.file_id,
        }
