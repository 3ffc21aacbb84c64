"""Which features a benchmark measures, and what is told of those that fail."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from benchmarks.record import Problem
from featplug.methods import feature_conf

FAILURES = (ValueError, OSError, RuntimeError)
"""What one feature may fail with; the last is torch's and COLMAP's, as out of memory."""


def problem_of(subject: str, error: Exception) -> Problem:
    """Give what is told of a failure: the first line of its message."""
    return Problem(subject, str(error).splitlines()[0] if str(error) else repr(error))


def choose_features(
    names: Sequence[str],
    weights: Mapping[str, str] | None = None,
    check: Callable[[str], object] | None = feature_conf,
) -> tuple[list[str], list[Problem]]:
    """Choose what can be measured of the features that were asked for, each once.

    Args:
        names: as they were asked for.
        weights: feature to its weights.
        check: raises where there is no such feature; None leaves it to whoever measures.

    Returns:
        The features, and what is told of the others.

    Raises:
        ValueError: no feature was asked for, or there are weights for another one.
    """
    if not names:
        raise ValueError("Name at least one feature.")
    for name in weights or {}:
        if name not in names:
            raise ValueError(f"There are weights for {name}, which is not among the features.")
    known, problems = [], []
    for name in dict.fromkeys(names):
        try:
            if check is not None:
                check(name)
        except FAILURES as error:
            problems.append(problem_of(name, error))
            continue
        known.append(name)
        if names.count(name) > 1:
            problems.append(Problem(f"{name}, named again", "each feature is measured once"))
    return known, problems


def choose_seeds(seeds: Sequence[int], num_seeds: int | None, default: int) -> tuple[int, ...]:
    """Give the seeds that were asked for: a list of them, a number of them from 0, or the default.

    Raises:
        ValueError: both were asked for, one is given twice, or there is none.
    """
    if seeds and num_seeds is not None:
        raise ValueError("Give --seeds or --num-seeds, not both.")
    if num_seeds is not None and num_seeds < 1:
        raise ValueError(f"--num-seeds must be above 0, not {num_seeds}.")
    for seed in seeds:
        if seeds.count(seed) > 1:
            raise ValueError(f"The seed {seed} is given twice.")
    return tuple(seeds or range(num_seeds or default))


def asked_for(**options: object) -> str | None:
    """Say why published numbers do not hold where a protocol's own settings were replaced.

    Args:
        options: name to what was asked for; None where it was not.
    """
    named = [f"{name} {value}" for name, value in options.items() if value is not None]
    return f"{', '.join(named)} asked for, in place of the protocol's" if named else None
