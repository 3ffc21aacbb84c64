"""Models that an earlier run kept, and the cost of the stages before them.

Features and matches check their own files (:mod:`featplug.io.h5file`).
"""

import hashlib
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, TypedDict

import pycolmap

from featplug.io.artifact import Artifact, Provenance, value_hash
from featplug.io.match_store import MatchReader
from featplug.io.results import StageCost, read_results, write_results
from featplug.io.store import FeatureReader
from featplug.io.typed_json import as_type, read_json
from pipelines.run_options import plain
from pipelines.run_record import PipelineRecord
from pipelines.sfm import MatchedScene, SfmOptions, map_scene

_VERSION = 1
"""Version of verification and mapping; raised when their output changes."""


class _Cost(TypedDict):
    made_from: list[str | None]
    cost: Annotated[dict[str, float], StageCost]


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
    path = folder / "costs.json"
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
    return Provenance(
        "model",
        conf={
            "camera": plain(asdict(options.camera)),
            "mapper": options.mapper,
            "seed": options.seed,
            "pycolmap": pycolmap.__version__,
        },
        inputs={**_matched_from(scene), "true_poses": reference.hexdigest()},
        revisions={"map": _VERSION},
    )


def _matched_from(scene: MatchedScene) -> dict[str, str | None]:
    """Return the identities of the photographs, features, pairs and matches."""
    with FeatureReader(scene.features.path) as features, MatchReader(scene.matches) as matches:
        return {
            "images": value_hash([scene.features.fingerprint, scene.skipped]),
            "features": features.file_id,
            "pairs": value_hash(scene.pairs),
            "matches": None if matches.provenance is None else matches.provenance.file_id,
        }
