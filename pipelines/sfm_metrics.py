"""The figures of a reconstruction."""

from typing import Any

import numpy as np
import pycolmap

from featplug.colmap.geometric_verification import VerificationSummary
from featplug.io.metric_table import with_units
from featplug.io.parts.feature_parts import open_features
from featplug.metrics.poses import aligned_pose_errors, model_poses, reconstruction_statistics
from pipelines.given_files import Features


def model_metrics(
    model: pycolmap.Reconstruction,
    features: Features,
    verified: VerificationSummary,
    num_used_pairs: int,
) -> dict[str, Any]:
    """Return the size and accuracy of a model, and the numbers of keypoints, pairs and matches."""
    with open_features(features.path) as reader:
        num_keypoints = [reader.shapes(name)["keypoints"][0] for name in features.names]
    statistics = reconstruction_statistics(model)
    return with_units(
        {
            "images": len(features.names) + len(features.skipped),
            "registered_images": statistics.num_registered,
            "sparse_points": statistics.num_points,
            "observations": statistics.num_observations,
            "mean_track_length": statistics.mean_track_length,
            "mean_observations_per_image": statistics.mean_observations_per_image,
            "mean_reprojection_error": statistics.mean_reprojection_error,
            "mean_keypoints": float(np.mean(num_keypoints)),
            "selected_pairs": verified.num_pairs,
            "matched_pairs": verified.num_matched_pairs,
            "verified_pairs": verified.num_verified_pairs,
            "model_pairs": num_used_pairs,
            "inlier_matches": verified.num_inlier_matches,
        }
    )


def pose_metrics(
    model: pycolmap.Reconstruction, reference: dict[str, np.ndarray], unit_of_length: str
) -> dict[str, Any]:
    """Return the errors of a model's poses after its alignment with the true ones.

    Raises:
        ValueError: too few images have a true pose.
    """
    errors = aligned_pose_errors(model_poses(model), reference)
    metrics: dict[str, float] = {"reference_images": len(errors.names)}
    for name, values in (("position", errors.position), ("rotation", errors.rotation)):
        metrics[f"median_{name}_error"] = float(np.median(values))
        metrics[f"mean_{name}_error"] = float(np.mean(values))
        metrics[f"max_{name}_error"] = float(np.max(values))
    return with_units(metrics, unit_of_length)
