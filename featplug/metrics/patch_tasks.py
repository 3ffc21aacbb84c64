"""Metrics of patch benchmarks: FPR95, and the average precisions of HPatches' three tasks.

FPR95 is that of Brown, Hua and Winder, "Discriminative Learning of Local Image Descriptors", PAMI
2011; verification, matching and retrieval are Balntas et al., "HPatches", CVPR 2017, section 5.

Average precision is that of HPatches' MATLAB toolbox, the mean of the precisions at the relevant
candidates. Its Python toolbox takes the area under straight lines from candidate to candidate,
which is a little less. Candidates at one distance are retrieved together, so that no figure depends
on their order: binary descriptors have many.
"""

import numpy as np

_CHUNK = 1 << 16
"""Pairs whose descriptors are gathered at a time."""


def false_positive_rate(distances: np.ndarray, matching: np.ndarray, recall: float = 0.95) -> float:
    """Measure how many pairs that do not match pass where nearly all that match do.

    Args:
        distances: N, of the pairs.
        matching: N bool, whether a pair matches.
        recall: least fraction of the matching pairs that has to pass.

    Returns:
        The fraction of the other pairs within the threshold that lets at least ``recall`` of the
        matching ones pass, in [0, 1].

    Raises:
        ValueError: there are no pairs of one of the kinds.
    """
    matching = np.asarray(matching, bool)
    matches, others = np.sort(np.asarray(distances)[matching]), np.asarray(distances)[~matching]
    if len(matches) == 0 or len(others) == 0:
        raise ValueError("A false positive rate needs pairs that match and pairs that do not.")
    # The tolerance is for recalls such as 0.95 × 20, which is a little more than 19 in floats.
    threshold = matches[int(np.ceil(recall * len(matches) - 1e-9)) - 1]
    return float(np.mean(others <= threshold))


def average_precision(
    distances: np.ndarray, relevant: np.ndarray, num_relevant: int | None = None
) -> float:
    """Compute the average precision of a ranking by distance.

    Args:
        distances: N, of the candidates.
        relevant: N bool, which of them are relevant.
        num_relevant: how many there are in all, where some cannot be retrieved.

    Returns:
        The mean over relevant candidates of the precision at their distance, in [0, 1]; those that
        are not among the candidates count 0.

    Raises:
        ValueError: nothing is relevant.
    """
    relevant = np.asarray(relevant, bool)
    total = int(relevant.sum()) if num_relevant is None else num_relevant
    if total == 0:
        raise ValueError("There is no average precision where nothing is relevant.")
    order = np.argsort(distances, kind="stable")
    ranked, hits = np.asarray(distances)[order], np.cumsum(relevant[order])
    # Of candidates at one distance, the last one's place is that of all.
    last = np.append(ranked[1:] != ranked[:-1], True) if len(ranked) else np.zeros(0, bool)
    new_hits = np.diff(hits[last], prepend=0)
    precision = hits[last] / (np.flatnonzero(last) + 1)
    return float(np.sum(new_hits * precision) / total)


def squared_distances(descriptors0: np.ndarray, descriptors1: np.ndarray) -> np.ndarray:
    """Return all squared Euclidean distances of descriptors N0×D and N1×D, N0×N1 float32."""
    products = descriptors0 @ descriptors1.T
    squares0, squares1 = (np.einsum("nd,nd->n", d, d) for d in (descriptors0, descriptors1))
    return np.maximum(squares0[:, None] + squares1 - 2 * products, 0)


def pair_distances(descriptors: np.ndarray, index0: np.ndarray, index1: np.ndarray) -> np.ndarray:
    """Return the squared Euclidean distances of P pairs of rows of N×D descriptors, float32."""
    distances = np.empty(len(index0), np.float32)
    for start in range(0, len(index0), _CHUNK):
        rows = slice(start, start + _CHUNK)
        difference = descriptors[index0[rows]] - descriptors[index1[rows]]
        distances[rows] = np.einsum("pd,pd->p", difference, difference)
    return distances


def verification_average_precision(
    matching: np.ndarray, others: np.ndarray, ratio: float | None = 0.2
) -> float:
    """Measure how well distances separate matching pairs from others (HPatches' verification).

    Args:
        matching: distances of matching pairs.
        others: distances of pairs that do not match.
        ratio: matching pairs to take for each other pair, the first of the list; None takes all.

    Returns:
        The average precision of the matching pairs.
    """
    if ratio is not None:
        matching = matching[: int(ratio * len(others))]
    return average_precision(
        np.concatenate([matching, others]),
        np.arange(len(matching) + len(others)) < len(matching),
    )


def matching_average_precision(descriptors0: np.ndarray, descriptors1: np.ndarray) -> float:
    """Measure how well nearest neighbours match two images' descriptors N×D of the same patches.

    Returns:
        The average precision of the nearest neighbours of the first image's patches, ranked by
        distance; a patch whose neighbour is wrong counts as not retrieved.
    """
    distances = squared_distances(descriptors0, descriptors1)
    nearest = distances.argmin(1)
    rows = np.arange(len(descriptors0))
    return average_precision(distances[rows, nearest], nearest == rows, len(rows))


def retrieval_average_precision(relevant: np.ndarray, distractors: np.ndarray) -> float:
    """Compute the average precision of one query of few relevant candidates among many.

    It is :func:`average_precision`, without sorting the many.

    Args:
        relevant: P distances of relevant candidates, at least one.
        distractors: M distances of the others.
    """
    hits = (relevant <= relevant[:, None]).sum(1)
    misses = (distractors <= relevant[:, None]).sum(1)
    return float(np.mean(hits / (hits + misses)))
