"""Mean matching accuracy on sequences of images of one plane (Mikolajczyk and Schmid 2005).

``python -m benchmarks.matching --dataset DIR --feature NAME [NAME …]``: Oxford's layout, a folder a
sequence with ``img1`` to ``img6`` and ``H1to2p`` to ``H1to6p``; image 1 is matched with the others.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from featplug.cli import run_command
from featplug.confs import feature_conf, matcher_conf
from featplug.extract import extract_features
from featplug.images import list_images
from featplug.match import match_features
from featplug.metrics import homography_errors, mean_matching_accuracy
from featplug.pairs import write_pairs
from featplug.results import data_fingerprint, environment, metric, write_results
from featplug.store import FeatureReader, MatchReader

THRESHOLDS = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10)
"""Pixels."""


def read_sequences(dataset: Path) -> dict[tuple[str, str], np.ndarray]:
    """Read the pairs of every sequence and their homographies.

    Returns:
        (image 1, image k) to the 3×3 that maps the first to the second.

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: there is no sequence, or a homography is damaged.
    """
    names = {str(Path(name).with_suffix("")): name for name in list_images(dataset)}
    pairs = {}
    for file in sorted(dataset.glob("*/H1to*p")):
        sequence, number = file.parent.name, file.name.removeprefix("H1to").removesuffix("p")
        images = [names.get(f"{sequence}/img{k}") for k in ("1", number)]
        try:
            homography = np.array(file.read_text("utf-8").split(), dtype=np.float64).reshape(3, 3)
        except ValueError as error:
            raise ValueError(f"{file} is not a 3×3 homography: {error}.") from error
        if images[0] is None or images[1] is None:
            raise ValueError(f"{file} has no images img1 and img{number} beside it.")
        pairs[images[0], images[1]] = homography
    if not pairs:
        raise ValueError(f"{dataset} has no sequences: folders with img1 … and H1to2p ….")
    return pairs


def measure(
    dataset: Path,
    feature: str,
    outputs: Path,
    matcher: str | None = None,
    max_keypoints: int = 2048,
    progress: bool = False,
    weights: str | None = None,
) -> dict[str, Any]:
    """Measure one feature.

    Args:
        dataset: folder of the sequences.
        feature: name of the feature.
        outputs: gets features, matches and ``FEATURE.json``.
        matcher: name of the matcher; see :func:`main`.
        max_keypoints: of each image, the strongest by score.
        progress: show bars.
        weights: ``official``, ``featplug`` or a file; the conf's own choice if None.

    Returns:
        What ``FEATURE.json`` in the output folder holds.

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: the data or the conf does not fit.
    """
    homographies = read_sequences(dataset)
    names = list(dict.fromkeys(name for pair in homographies for name in pair))
    stem = f"{feature_conf(feature)['output']}-n{max_keypoints}"
    extracted = extract_features(
        feature,
        dataset,
        feature_path=outputs / f"{stem}.h5",
        image_list=names,
        max_keypoints=max_keypoints,
        weights=weights,
        progress=progress,
    )
    pairs_path = outputs / "pairs.txt"
    write_pairs(pairs_path, homographies)
    matcher = matcher or _matcher_without_ratio_test(feature)
    matched = match_features(matcher, pairs_path, extracted.feature_path, progress=progress)
    errors: dict[str, list[np.ndarray]] = {}
    with FeatureReader(extracted.feature_path) as features, MatchReader(matched.match_path) as m:
        num_keypoints = [len(features.keypoints(name)) for name in extracted.names]
        for (name0, name1), homography in homographies.items():
            index, _ = m.read(name0, name1)
            points0 = features.keypoints(name0)[index[:, 0]]
            points1 = features.keypoints(name1)[index[:, 1]]
            sequence = errors.setdefault(Path(name0).parts[0], [])
            sequence.append(homography_errors(points0, points1, homography))
    pairs = [pair for sequence in errors.values() for pair in sequence]
    accuracy = mean_matching_accuracy(pairs, THRESHOLDS)
    results = {
        "benchmark": "matching",
        "feature": feature,
        "matcher": matcher,
        "max_keypoints": max_keypoints,
        "weights": extracted.weights,
        "data": {
            "dataset": str(dataset.resolve()),
            "fingerprint": data_fingerprint(dataset, names),
        },
        "environment": environment(),
        "metrics": {
            **{
                f"mma_{t}": metric(float(a), f"matches within {t} px, mean over pairs")
                for t, a in zip(THRESHOLDS, accuracy, strict=True)
            },
            "mean_keypoints": metric(float(np.mean(num_keypoints)), "keypoints per image"),
            "mean_matches": metric(float(np.mean([len(p) for p in pairs])), "matches per pair"),
        },
        "mma_3_of_sequences": {
            name: float(mean_matching_accuracy(sequence, [3])[0])
            for name, sequence in errors.items()
        },
    }
    write_results(outputs / f"{feature}.json", results)
    return results


def _matcher_without_ratio_test(feature: str) -> str:
    own = feature_conf(feature)["matcher"]
    has_ratio = matcher_conf(own)["model"].get("ratio_threshold") is not None
    return "NN-mutual" if has_ratio else own


def main(
    dataset: Path,
    feature: tuple[str, ...] = ("sift",),
    outputs: Path = Path("outputs/matching"),
    matcher: str | None = None,
    max_keypoints: int = 2048,
    weights: tuple[tuple[str, str], ...] = (),
) -> None:
    """Measure the mean matching accuracy of features on Oxford's sequences.

    Args:
        dataset: folder of the sequences.
        feature: names of features.
        outputs: gets features, matches and FEATURE.json.
        matcher: name of the matcher; by default each conf's own, but mutual nearest neighbours
            without a ratio test, which the protocol has not.
        max_keypoints: of each image, the strongest by score.
        weights: names of features and the weights of each, ``official``, ``featplug`` or a file,
            such as ``--weights doap own.safetensors``.
    """
    unused = [name for name, _ in weights if name not in feature]
    if unused:
        raise ValueError(f"There are weights for {unused[0]}, which is not among the features.")
    chosen = dict(weights)
    rows = []
    for name in feature:
        results = measure(dataset, name, outputs, matcher, max_keypoints, True, chosen.get(name))
        metrics = {key: entry["value"] for key, entry in results["metrics"].items()}
        shown = "".join(f"{metrics[f'mma_{t}']:7.3f}" for t in (1, 3, 5, 10))
        counts = f"{metrics['mean_keypoints']:11.0f}{metrics['mean_matches']:9.0f}"
        rows.append(f"{name:<16}{shown}{counts}  {results['matcher']}")
    heads = "".join(f"{t:>4} px" for t in (1, 3, 5, 10))
    print(f"{'MMA at':<16}{heads}  keypoints  matches  matcher")
    print("\n".join(rows))
    print(f"all figures are in {outputs}")


if __name__ == "__main__":
    run_command(main, prog="python -m benchmarks.matching")
