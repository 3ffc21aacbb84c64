"""Export of the weights of a run to a file for others."""

import json
from pathlib import Path

import torch

from featplug.io.files import write_whole
from featplug.io.results import read_results
from featplug.training.trainer import BEST, RESULTS, TrainingRecord
from featplug.weights.checkpoints import read_safetensors, save_readable, state_sha256


def export_weights(run: Path, path: Path, licence: str, half: bool = True) -> int:
    """Write the best weights of a run, without the paths of the machine that it ran on.

    The file keeps the licence. Weights rounded to float16 (half) are computed with in float32.

    Returns:
        The step of the weights.

    Raises:
        FileNotFoundError: the run does not exist, or has not been validated yet.
        ValueError: the weights or results.json are damaged.
    """
    if not run.is_dir():
        raise FileNotFoundError(f"{run}: no such folder; give the --outputs of a run.")
    best, results = run / BEST, run / RESULTS
    for file in (best, results):
        if not file.is_file():
            raise FileNotFoundError(f"{file}: no such file; train until the first validation.")
    state, made = read_safetensors(best)
    if half:
        state = {
            key: value.to(torch.float16) if value.is_floating_point() else value
            for key, value in state.items()
        }
    config = read_results(results, TrainingRecord)["config"]
    metadata = {
        "format": "pt",
        "featplug": made["featplug"],
        "licence": licence,
        "system": config["system"],
        "seed": str(config["seed"]),
        "step": made["step"],
        "steps": str(config["steps"]),
        "tensors_sha256": state_sha256(state),
    }
    if "network" in config:
        metadata["network"] = json.dumps(config["network"])
    write_whole(path, lambda part: save_readable(state, part, metadata))
    return int(made["step"])
