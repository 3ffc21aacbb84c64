"""Weights of a finished run as a file to give away."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from featplug.io.files import write_whole
from featplug.training.trainer import BEST, RESULTS
from featplug.weights.checkpoints import read_safetensors, save_readable, state_sha256


def export_weights(run: Path, path: Path, licence: str, half: bool = True) -> int:
    """Write the best weights of a run, without the paths of the machine that it ran on.

    Args:
        run: its folder.
        path: the safetensors file to write.
        licence: of the weights, which is kept in the file.
        half: round to float16. Inference computes in float32 all the same.

    Returns:
        The step of the run that they are of.

    Raises:
        FileNotFoundError: there is no run, or it has not been validated yet.
        ValueError: its weights are damaged.
    """
    if not run.is_dir():
        raise FileNotFoundError(f"There is no folder {run}; give that of a run (its --outputs).")
    best, results = run / BEST, run / RESULTS
    for file in (best, results):
        if not file.is_file():
            raise FileNotFoundError(f"There is no {file}; train until the first validation.")
    state, made = read_safetensors(best)
    if half:
        state = {
            key: value.to(torch.float16) if value.is_floating_point() else value
            for key, value in state.items()
        }
    record = json.loads(results.read_text("utf-8"))
    metadata = {
        "format": "pt",
        "featplug": made["featplug"],
        "licence": licence,
        "system": record["config"]["system"],
        "seed": str(record["config"]["seed"]),
        "step": made["step"],
        "steps": str(record["config"]["steps"]),
        "tensors_sha256": state_sha256(state),
    }
    if "network" in record["config"]:
        metadata["network"] = json.dumps(record["config"]["network"])
    write_whole(path, lambda part: save_readable(state, part, metadata))
    return int(made["step"])
