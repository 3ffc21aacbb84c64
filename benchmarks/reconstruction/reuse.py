"""What an earlier run in the same folder has made, where nothing that decides over it has changed.

Features and matches look after themselves (:mod:`featplug.io.h5file`); here it is models, and what
the stages before them cost.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pycolmap

from featplug import __version__
from featplug.io.results import write_results
from featplug.io.store import FeatureReader, MatchReader
from pipelines.sfm import MatchedScene, SfmOptions, map_scene

_COSTS = "costs.json"
_SOURCE = "made_from.json"


def matching_costs(folder: Path, scene: MatchedScene) -> dict[str, dict[str, float]]:
    """Give seconds and peak memory of the stages up to matching.

    Of features and matches that were there, it is what they cost the run that made them. A stage
    that no single run did whole is left out.

    Args:
        folder: of the features; keeps the costs for later runs.
        scene: what was extracted and matched.
    """
    source = _matched_from(scene)
    made_from = {
        "extract": [source["features"], source["images"]],
        "pairs": [source["matches"], source["pairs"]],
        "match": [source["matches"], source["pairs"]],
    }
    reused = {**scene.reused, "pairs": scene.retrieval.num_present if scene.retrieval else 0}
    path = folder / _COSTS
    known = json.loads(path.read_text("utf-8")) if path.exists() else {}
    costs = {}
    for stage, cost in scene.stages.items():
        if known.get(stage, {}).get("made_from") == made_from[stage]:
            costs[stage] = known[stage]
        elif reused[stage] == 0:
            costs[stage] = {"made_from": made_from[stage], "cost": cost}
    write_results(path, costs)
    return {stage: entry["cost"] for stage, entry in costs.items()}


def map_or_reuse(
    scene: MatchedScene, options: SfmOptions, progress: bool = False
) -> dict[str, Any]:
    """Make a model as :func:`pipelines.sfm.map_scene` does, unless the folder has the same one."""
    folder = options.output_dir
    source = _made_from(scene, options)
    source_path, results_path = folder / _SOURCE, folder / "results.json"
    there = (folder / "model").is_dir() and results_path.exists() and source_path.exists()
    if there and json.loads(source_path.read_text("utf-8")) == source:
        return json.loads(results_path.read_text("utf-8"))
    source_path.unlink(missing_ok=True)  # a run that is killed leaves no model of another source
    results = map_scene(scene, options, progress)
    write_results(source_path, source)
    return results


def _made_from(scene: MatchedScene, options: SfmOptions) -> dict[str, Any]:
    """Name all that decides over a model and its figures."""
    reference = hashlib.sha256()
    for name, pose in sorted(scene.reference.items()):
        reference.update(name.encode() + pose.tobytes())
    return {
        **_matched_from(scene),
        "reference": reference.hexdigest(),
        "camera": asdict(options.camera),
        "mapper": options.mapper,
        "seed": options.seed,
        "featplug": __version__,
        "pycolmap": pycolmap.__version__,
    }


def _matched_from(scene: MatchedScene) -> dict[str, Any]:
    """Name the photographs, features, pairs and matches."""
    with FeatureReader(scene.features.path) as features, MatchReader(scene.matches) as matches:
        pairs = "\n".join(map(" ".join, scene.pairs)).encode()
        return {
            "images": scene.fingerprint,
            "skipped": scene.skipped,
            "features": features.file_id,
            "pairs": hashlib.sha256(pairs).hexdigest(),
            "matches": None if matches.provenance is None else matches.provenance.file_id,
        }
