"""Models that an earlier run kept, and the cost of the stages before them.

Features and matches check their own files (:mod:`featplug.io.h5file`).
"""

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pycolmap

from featplug.io.artifact import Artifact, Provenance, value_hash
from featplug.io.results import write_results
from featplug.io.store import FeatureReader, MatchReader
from pipelines.run import plain
from pipelines.sfm import MatchedScene, SfmOptions, map_scene

_VERSION = 1
"""Version of verification and mapping; raised when their output changes."""


def matching_costs(folder: Path, scene: MatchedScene) -> dict[str, dict[str, float]]:
    """Return seconds and peak memory of the stages up to matching.

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
    known = json.loads(path.read_text("utf-8")) if path.exists() else {}
    costs = {}
    for stage, cost in scene.stages.recorder.stages.items():
        if known.get(stage, {}).get("made_from") == made_from[stage]:
            costs[stage] = known[stage]
        elif reused[stage] == 0:
            costs[stage] = {"made_from": made_from[stage], "cost": cost}
    write_results(path, costs)
    return {stage: entry["cost"] for stage, entry in costs.items()}


def map_or_reuse(
    scene: MatchedScene, options: SfmOptions, progress: bool = False
) -> dict[str, Any]:
    """Make a model with :func:`pipelines.sfm.map_scene`, unless its folder has the same one.

    Returns:
        The contents of ``results.json`` of the model's folder.
    """
    folder = options.output_dir
    artifact = Artifact(folder / "model", _provenance(scene, options), folder / "made_from.json")
    results = folder / "results.json"
    if artifact.reason_to_make() is None and results.exists():
        return json.loads(results.read_text("utf-8"))

    def write(part: Path) -> None:
        map_scene(scene, options, progress)
        (folder / "model").rename(part)

    artifact.make(write)
    return json.loads(results.read_text("utf-8"))


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
