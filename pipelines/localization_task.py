"""What a localization is asked for: queries by condition, and what is known of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from featplug.io.pair_lists import Pair, read_pairs
from featplug.localization.evaluation import truth_of_queries
from featplug.localization.queries import Query, check_submission_names, read_poses
from pipelines.datasets.protocol import LocalizationDataset, LocalizeOptions


@dataclass(frozen=True)
class Task:
    """Queries to localize, and what is known of them."""

    dataset: LocalizationDataset
    conditions: dict[str, list[Query]]
    truth: dict[str, np.ndarray] | None
    given_pairs: list[Pair]
    """Pairs to use instead of retrieval, queries first; empty if none are given."""

    @property
    def queries(self) -> list[Query]:
        """Queries of all conditions."""
        return [query for queries in self.conditions.values() for query in queries]

    @property
    def names(self) -> dict[str, list[str]]:
        """Condition to the names of its queries."""
        return {c: [query.name for query in queries] for c, queries in self.conditions.items()}


def read_task(options: LocalizeOptions, dataset: LocalizationDataset) -> Task:
    """Read queries, true poses and given pairs.

    Raises:
        FileNotFoundError: a file does not exist.
        ValueError: a file is damaged, or the files do not belong together.
    """
    conditions = dataset.queries()
    names = [query.name for queries in conditions.values() for query in queries]
    check_submission_names(
        names, dataset.submission_name
    )  # which writing the submission would find after hours of work
    given, listed = options.ground_truth, {dataset.listed_name(name): name for name in names}
    truth = dataset.truth() if given is None else read_poses(given)
    if truth is not None:
        found = truth_of_queries(list(listed), truth)
        truth = {listed[name]: pose for name, pose in found.items()}
    path, known = options.pairs or dataset.pair_list, set(names)
    pairs = [_with_query(pair, listed) for pair in read_pairs(path)] if path else []
    if pairs and known.isdisjoint(name for pair in pairs for name in pair):
        raise ValueError(
            f"No pair of {path} has a query, such as {names[0]!r}; its first is {pairs[0]}."
        )
    return Task(dataset, conditions, truth, queries_first(pairs, known))


def _with_query(pair: Pair, listed: Mapping[str, str]) -> Pair:
    """Return a pair of a list whose query has its name in the data set."""
    first, second = pair
    if first in listed:
        return listed[first], second
    return first, listed.get(second, second)


def queries_first(pairs: Sequence[Pair], queries: set[str]) -> list[Pair]:
    """Return pairs whose first image is a query, each once."""
    return list(dict.fromkeys(pair if pair[0] in queries else pair[::-1] for pair in pairs))
