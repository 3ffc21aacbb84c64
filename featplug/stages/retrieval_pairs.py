"""Pairs of images that look alike: the nearest global descriptors."""

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np

from featplug.io.hdf5_guard import UnusableDataError
from featplug.io.pair_lists import Pair
from featplug.io.parts.feature_parts import open_global_descriptors
from featplug.io.store import GlobalDescriptorReader
from featplug.stages.pairs import best_pairs

logger = logging.getLogger(__name__)
_SCORE_DECIMALS = 6
"""Beyond these, the order of summation decides over the similarity of equal images."""


def pairs_from_retrieval(
    descriptors: Path,
    num_matched: int,
    queries: Sequence[str] | None = None,
    database: Sequence[str] | None = None,
    database_descriptors: Path | Sequence[Path] | None = None,
    min_score: float | None = None,
    allowed: Callable[[str], Collection[str] | None] = lambda _: None,
) -> list[Pair]:
    """Pair every query with the images of a database whose global descriptors are nearest.

    As in hloc, except for ``min_score``, and that equally near images keep the order of the
    database.

    Args:
        descriptors: file of the queries' global descriptors, ours or hloc's.
        num_matched: largest number of images for each query. An image is never paired with itself,
            and one without features, whose descriptor is zero, with none.
        queries: names; all of the file if None.
        database: names; all of ``database_descriptors`` if None.
        database_descriptors: the file or files of the database, with different names in each;
            ``descriptors`` if None.
        min_score: least cosine similarity of a pair; it is 0 in hloc.
        allowed: returns the images that a query may be paired with, or None for all.

    Returns:
        By query, the nearest first.

    Raises:
        FileNotFoundError: a file does not exist.
        ValueError: an image is not in the files, or they were not made alike.
    """
    if num_matched < 1:
        raise ValueError(f"num_matched must be at least 1, not {num_matched}.")
    if database_descriptors is None:
        database_descriptors = descriptors
    if isinstance(database_descriptors, str | Path):
        database_descriptors = [database_descriptors]
    with ExitStack() as stack:
        query_file = stack.enter_context(open_global_descriptors(descriptors))
        files = [stack.enter_context(open_global_descriptors(p)) for p in database_descriptors]
        for file in files:
            _check_alike(query_file, file)
        names = query_file.names()
        given = names if queries is None else queries
        queries = _present("query", given, dict.fromkeys(names), descriptors)
        file_of = {name: file for file in files for name in file.names()}
        given = list(file_of) if database is None else database
        database = _present("database", given, file_of, *database_descriptors)
        skipped: dict[str, str] = {}
        matrix = descriptor_matrix([(file_of[name], name) for name in database], skipped)
        length = matrix.shape[1]

        def scores(block: slice) -> np.ndarray:
            vectors = np.zeros((len(queries[block]), length), np.float32)
            for row, name in zip(vectors, queries[block], strict=True):
                vector = _descriptor(query_file, name, skipped)
                if vector is not None and len(vector) != length:
                    raise ValueError(
                        f"{descriptors} has descriptors of {len(vector)} dimensions, the "
                        f"database of {length}; compute them with one conf."
                    )
                row[:] = 0 if vector is None else vector
            found = similarities(vectors, matrix)
            for row, name in zip(found, queries[block], strict=True):
                if (images := allowed(name)) is not None:
                    row[[image not in images for image in database]] = -np.inf
            return found if min_score is None else np.where(found >= min_score, found, -np.inf)

        pairs = best_pairs(queries, database, scores, num_matched)
    for reason in skipped.values():
        logger.warning("Paired with no other image: %s", reason)
    return pairs


def similarities(
    queries: np.ndarray, database: np.ndarray, product: np.ndarray | None = None
) -> np.ndarray:
    """Return the cosine similarities of global descriptors of unit length.

    Args:
        queries: Q×D.
        database: N×D.
        product: their products Q×N, where a device has computed them.

    Returns:
        Q×N, ``-inf`` for images without features, whose descriptor is zero.
    """
    scores = np.round(queries @ database.T if product is None else product, _SCORE_DECIMALS)
    allowed = np.any(queries != 0, axis=1)[:, None] & np.any(database != 0, axis=1)
    return np.where(allowed, scores, -np.inf)


def descriptor_matrix(
    images: Sequence[tuple[GlobalDescriptorReader, str]], skipped: dict[str, str]
) -> np.ndarray:
    """Read the descriptors of a database, N×D; zeros for those that cannot be used."""
    found = [_descriptor(file, name, skipped) for file, name in images]
    lengths = {len(vector) for vector in found if vector is not None}
    if not lengths:
        raise ValueError(next(iter(skipped.values())))
    if len(lengths) > 1:
        raise ValueError(
            "The files of the database have descriptors of different lengths; compute them with "
            "one conf."
        )
    (length,) = lengths
    return np.stack([np.zeros(length, np.float32) if v is None else v for v in found])


def _descriptor(
    file: GlobalDescriptorReader, name: str, skipped: dict[str, str]
) -> np.ndarray | None:
    """Read a descriptor; ``skipped`` gets an image whose descriptor cannot be used, and why."""
    try:
        return file.read_one(name)
    except UnusableDataError as error:
        skipped[name] = str(error)
        return None


def described_images(*files: Path) -> list[str]:
    """Return the names of all images in files of global descriptors, sorted in each file.

    Raises:
        FileNotFoundError: a file does not exist.
    """
    with ExitStack() as stack:
        readers = [stack.enter_context(open_global_descriptors(path)) for path in files]
        return [name for reader in readers for name in reader.names()]


def _present(
    role: str, names: Sequence[str], known: Mapping[str, object], *files: Path
) -> list[str]:
    missing = [name for name in names if name not in known]
    where = " nor in ".join(map(str, files))
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise ValueError(
            f"There is no global descriptor of {missing[0]!r}{more} in {where}; compute it."
        )
    if not known:
        raise ValueError(f"There are no global descriptors in {where}; compute them first.")
    if not names:
        raise ValueError(
            f"There are no {role} images to pair; choose some of those in {where}, such as "
            f"{next(iter(known))!r}."
        )
    return list(names)


def _check_alike(first: GlobalDescriptorReader, second: GlobalDescriptorReader) -> None:
    """Check that descriptors are of one conf; hloc's files do not record theirs."""
    if first.provenance is None or second.provenance is None:
        return
    # Two feature files may have one vocabulary.
    of_second = replace(second.provenance, inputs=first.provenance.inputs)
    difference = first.provenance.difference(of_second, str(second.path))
    if difference:
        raise ValueError(
            f"{first.path} {difference}: their global descriptors cannot be compared; compute both "
            "with one conf."
        )
