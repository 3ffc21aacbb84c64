"""Scripts for Slurm: an array of tasks for each stage of a store, each after the one before it."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from featplug.io.files import write_whole_text
from featplug.io.parts.manifest import Manifest
from featplug.methods import (
    matcher_conf,
    matcher_conf_for,
    matcher_of,
    resolve_conf,
    retrieval_conf,
)
from featplug.shards.store_names import (
    EXHAUSTIVE,
    descriptors_name,
    matches_name,
    pairs_name,
    verified_name,
)

_SHARD = '"$SLURM_ARRAY_TASK_ID/$SLURM_ARRAY_TASK_COUNT"'
SUBMIT = "submit.sh"


@dataclass(frozen=True, kw_only=True)
class SlurmOptions:
    """Stages to write scripts for, and what Slurm is asked for."""

    feature: str = "sift"
    """Name of the feature; `featplug list` shows them."""
    matcher: str | None = None
    """Name of the matcher, by default the feature's own."""
    retrieval: str = "vlad-whitened"
    """Name of the retrieval method; exhaustive pairs all images."""
    num_matched: int = 50
    """Number of similar images that each image is matched with."""
    tasks: int = 16
    """Number of tasks of each array; any number works."""
    block: int = 1
    """Number of shards that are matched with as many others in one part."""
    max_keypoints: int | None = None
    """Number of keypoints to keep of each image."""
    sbatch: tuple[str, ...] = ()
    """Options of all jobs, without their dashes, such as partition=cpu time=24:00:00 mem=8G."""
    gpu_sbatch: tuple[str, ...] = ()
    """Further options of the stages with a network, such as gres=gpu:1."""
    featplug: str = "featplug"
    """Command that runs featplug on a node, such as apptainer exec featplug.sif featplug."""


@dataclass(frozen=True)
class _Job:
    """A script."""

    name: str
    words: list[str]
    """Command line after ``featplug``, without the share."""
    num_tasks: int
    has_network: bool = False
    share: str | None = _SHARD
    """The share of a task; None where a job has none."""
    further: list[str] = field(default_factory=list)


def slurm_scripts(store: Path, options: SlurmOptions) -> dict[str, str]:
    """Return the scripts of all stages by their names, and one that submits them.

    Args:
        store: folder of the store, with its manifest.
        options: stages, and options of Slurm.

    Raises:
        FileNotFoundError: the store has no manifest.
        ValueError: a method does not exist, or a number does not fit.
    """
    for name in ("tasks", "num_matched", "block"):
        if getattr(options, name) < 1:
            option = name.replace("_", "-")
            raise ValueError(f"--{option} must be 1 or more, not {getattr(options, name)}.")
    manifest = Manifest(store)
    jobs = _jobs(store, options, manifest)
    scripts = {
        f"{number}-{job.name}.sh": _script(job, options) for number, job in enumerate(jobs, 1)
    }
    return {**scripts, SUBMIT: _submit(list(scripts))}


def write_slurm_scripts(store: Path, options: SlurmOptions, folder: Path) -> list[Path]:
    """Write the scripts into a folder; see :func:`slurm_scripts`."""
    paths = []
    for name, text in slurm_scripts(store, options).items():
        write_whole_text(folder / name, text)
        (folder / name).chmod(0o755)
        paths.append(folder / name)
    return paths


def _jobs(store: Path, options: SlurmOptions, manifest: Manifest) -> list[_Job]:
    feature = resolve_conf(options.feature, max_keypoints=options.max_keypoints)
    matcher_name = options.matcher or matcher_of(feature)
    matcher = matcher_conf_for(feature, matcher_conf(matcher_name))
    features = str(feature["output"])
    place = ["--export-dir", str(store.absolute())]
    tasks = min(options.tasks, manifest.num_shards)
    limit = [] if options.max_keypoints is None else ["--max-keypoints", str(options.max_keypoints)]
    jobs = [_Job("extract", ["extract", *place, "--conf", options.feature, *limit], tasks, True)]
    pairs = EXHAUSTIVE
    if options.retrieval != EXHAUSTIVE:
        described, pairs = _retrieval(store, options, features)
        (describe, *retrieve) = [
            _Job(name, [*words, *place], tasks, has_network)
            for name, words, has_network in described
        ]
        if not describe.has_network:  # the vocabulary is learned by one task
            share = f"0/{manifest.num_shards}"
            jobs.append(_Job("vocabulary", describe.words, 1, False, share))
        jobs += [describe, *retrieve]
    found = matches_name(features, matcher["output"], pairs)
    of_features = ["--features", str(store.absolute() / features)]
    listed = pairs if pairs == EXHAUSTIVE else str(store.absolute() / pairs)
    block = [] if options.block == 1 else ["--block", str(options.block)]
    words = ["match", "--pairs", listed, *of_features, *place, "--conf", matcher_name, *block]
    jobs.append(_Job("match", words, options.tasks, True))
    of_matches = ["--matches", str(store.absolute() / found)]
    jobs.append(_Job("verify", ["verify", *of_features, *of_matches, *place], options.tasks))
    outputs = ["--outputs", str(store.absolute() / "model")]
    verified = ["--verified", str(store.absolute() / verified_name(found))]
    images = ["--images", str(manifest.image_dir)]
    words = ["sfm", *images, *of_features, *verified, *outputs]
    jobs.append(_Job("map", words, 1, False, None))
    return jobs


def _retrieval(
    store: Path, options: SlurmOptions, features: str
) -> tuple[list[tuple[str, list[str], bool]], str]:
    """Return name, words and "has a network" of the jobs of retrieval, and the pairs' name."""
    conf = retrieval_conf(options.retrieval)
    is_vlad = conf["model"]["name"] == "vlad"
    words = ["retrieve", "--conf", options.retrieval]
    if is_vlad:
        words += ["--features", str(store.absolute() / features)]
    descriptors = descriptors_name(features if is_vlad else None, conf["output"])
    num = ["--num-matched", str(options.num_matched)]
    place = str(store.absolute() / descriptors)
    of_pairs = ["pairs", "retrieval", "--descriptors", place, *num]
    jobs = [("describe", words, not is_vlad), ("retrieve", of_pairs, False)]
    return jobs, pairs_name(descriptors, options.num_matched)


def _script(job: _Job, options: SlurmOptions) -> str:
    asked = [*options.sbatch, *(options.gpu_sbatch if job.has_network else ())]
    lines = ["#!/bin/bash", f"#SBATCH --job-name=featplug-{job.name}"]
    if job.num_tasks > 1 or job.share == _SHARD:
        lines.append(f"#SBATCH --array=0-{job.num_tasks - 1}")
    lines += [f"#SBATCH --{option.lstrip('-')}" for option in asked]
    share = [] if job.share is None else ["--shard", job.share]
    command = " ".join([options.featplug, shlex.join(job.words), *share])
    return "\n".join([*lines, "set -euo pipefail", command, ""])


def _submit(names: Sequence[str]) -> str:
    lines = [
        "#!/bin/bash",
        "# Submits all stages, each to begin when the one before it has succeeded. Submit them",
        "# again after a failure: what is made is kept.",
        "set -euo pipefail",
        'cd "$(dirname "$0")"',
    ]
    after = ""
    for name in names:
        lines.append(f"job=$(sbatch --parsable{after} {shlex.quote(name)})")
        after = ' --dependency="afterok:$job"'
    return "\n".join([*lines, 'echo "submitted; the last job is $job"', ""])
