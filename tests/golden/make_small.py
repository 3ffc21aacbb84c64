"""Make the small golden set from the whole one: ``python -m tests.golden.make_small GOLDEN``.

Only outputs of rule-made weights are taken, so no trained weight can be recovered from them.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import numpy as np

from tests.golden.golden_set import SMALL

LIMIT = 3_000_000
"""Largest number of bytes of the small set."""

TABLES = ("*/state_dict.csv", "contextdesc/variables.csv", "doap/params.csv", "set.json", "rule.py")

# File to its arrays: all of them, or each with its stride along the first axis. A plain number
# takes every k-th row of every array, for files whose rows (patches, frames) are independent.
FILES: dict[str, dict[str, int] | int] = {
    "contextdesc/local": 4,
    "contextdesc/sampler": 4,
    "contextdesc/augmented": {
        "kpt_xy": 1,
        "local_feat": 1,
        "matchability": 1,
        "geometric_context": 8,
        "random_augmented": 8,
        "random_augmented_uint8": 8,
        "random_visual_context": 8,
        "random_regional_512": 8,
    },
    "contextdesc/regional": {"image_even": 1, "res5c_even": 4},
    "d2net/dense_rule_relu": {
        "image": 1,
        "dense_features": 8,
        "dense_scale": 1,
        "detections_cij": 1,
        "displacements": 1,
        "dense_features_float64_s4": 8,
    },
    "d2net/rule_relu_img1": {
        "image": 1,
        **{f"{level}_keypoints_{axes}": 1 for level in ("ss", "ms") for axes in ("ijs", "xy")},
        **{f"{level}_scores": 1 for level in ("ss", "ms")},
        **{f"{level}_descriptors": 16 for level in ("ss", "ms")},
    },
    "doap/l2net": 4,
    "doap/ap_loss": 1,
    "lisrd/dense_odd": {
        "image": 1,
        "keypoints_rc": 1,
        "descriptors": 8,
        "meta_descriptors": 8,
        "raw_rot_var_illum_invar": 8,
        **{
            f"{kind}_rot_{rotation}_illum_{light}{precision}": 8
            for rotation in ("var", "invar")
            for light in ("var", "invar")
            for kind, precision in (
                ("meta", ""),
                ("raw", "_float64_s4"),
                ("meta", "_float64_s16"),
            )
        },
    },
    "lisrd/pair": {
        **{f"image{index}": 1 for index in "01"},
        **{f"keypoints{index}_rc": 1 for index in "01"},
        **{f"descriptors{index}": 8 for index in "01"},
        **{f"nn_gap{index}": 1 for index in "01"},
        "distance": 1,
        "matches": 1,
        "weights_rot_var_illum_var": 8,
    },
    "losses/contextdesc": 1,
    "losses/d2net": 1,
    "losses/lisrd": 1,
    "losses/mtldesc": 1,
    "mtldesc/img0": {
        "image": 1,
        "network_input_u8": 1,
        "heatmap_logit": 16,
        "attention": 4,
        "descriptor_map": 16,
        "descriptor_map_float64_s6": 8,
        "heatmap_logit_float64_s8": 1,
        "attention_float64_s3": 1,
        "keypoints_xy": 1,
        "scores": 1,
        "descriptors": 8,
        "descriptors_align_corners_false": 8,
    },
}


ROWS = (32, 40, 64)
"""Lengths of the first axis of arrays whose rows are patches or frames."""


def take(path: Path, selection: dict[str, int] | int) -> dict[str, np.ndarray]:
    """Return the arrays of a file that the small set keeps, by the names it stores them under."""
    kept = {}
    with np.load(path) as file:
        if isinstance(selection, int):
            for name in file.files:
                has_rows = file[name].ndim and len(file[name]) in ROWS
                kept[name] = file[name][::selection] if has_rows else file[name]
        else:
            for name, stride in selection.items():
                array = file[name]
                if stride > 1:
                    name, array = f"{name}@{stride}of{len(array)}", array[::stride]
                kept[name] = array
    return kept


def main(golden: Path) -> None:
    """Write the small set next to this file."""
    shutil.rmtree(SMALL, ignore_errors=True)
    for pattern in TABLES:
        for path in sorted(golden.glob(pattern)):
            target = SMALL / path.relative_to(golden)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    for name, selection in FILES.items():
        target = SMALL / f"{name}.npz"
        target.parent.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(target, **take(golden / f"{name}.npz", selection))
    size = sum(path.stat().st_size for path in SMALL.rglob("*") if path.is_file())
    if size > LIMIT:
        sys.exit(f"{SMALL} has {size} bytes; keep fewer arrays or rows, at most {LIMIT} bytes.")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
