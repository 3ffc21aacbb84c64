"""Which photographs of a scene are matched: all pairs, neighbours in sequences, similar ones."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from featplug.colmap.georeference import positions_for_distances
from featplug.colmap.rigs import Rigs
from featplug.io.pair_lists import Pair, unique_pairs
from featplug.io.positions import Positions
from featplug.stages import pairs
from featplug.utils.suggestions import did_you_mean
from pipelines.given_files import Features, pairs_of_matches
from pipelines.run import Stages

SELECTIONS = "auto", "exhaustive", "sequential", "retrieval", "near"
"""Names of the ways to select pairs."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class PairOptions:
    """Options of the pairs that are matched."""

    pairs: str = "auto"
    """auto, which is sequential for a video and exhaustive else; exhaustive, which is all pairs of
    a given match file; sequential (the images of each folder in the order of their names, frame2
    before frame10); retrieval; near (the images taken nearest to each one, by --georeference or
    GPS); or a pair list."""
    overlap: int = 10
    """Number of following images that each image is paired with by sequential."""
    loop_closure: int = 0
    """With sequential: number of similar images elsewhere that every tenth image is paired with by
    retrieval, to close loops and to join the sequences of several folders."""
    max_distance: float = 100.0
    """With near: largest distance of two images that are paired, in metres."""

    @property
    def pair_list(self) -> Path | None:
        """The given pair list, or None."""
        return None if self.pairs in SELECTIONS else Path(self.pairs)

    @property
    def is_sequence(self) -> bool:
        """Whether the images are known to be a sequence."""
        return False

    @property
    def selection(self) -> str:
        """How pairs are selected: :attr:`pairs`, or what auto is here."""
        if self.pairs != "auto":
            return self.pairs
        return "sequential" if self.is_sequence else "exhaustive"

    def check_pairs(self, stages: Stages) -> None:
        """Check the options before the long work.

        Raises:
            FileNotFoundError: there is no such pair list, or weights of retrieval are missing.
            ValueError: a number does not fit.
        """
        if self.pair_list and not self.pair_list.exists():
            hint = did_you_mean(self.pairs, SELECTIONS)
            raise FileNotFoundError(f"There is no pair list {self.pairs}.{hint}")
        if self.loop_closure < 0:
            raise ValueError(f"--loop-closure must be 0 or more, not {self.loop_closure}.")
        if self.loop_closure and self.selection != "sequential":
            raise ValueError(
                f"--loop-closure adds to sequential pairs, and --pairs is {self.selection}; set "
                "--pairs sequential, or leave out --loop-closure."
            )
        if self.selection == "sequential" and self.overlap < 1:
            raise ValueError(f"--overlap must be at least 1, not {self.overlap}.")
        if not self.max_distance > 0:
            raise ValueError(f"--max-distance must be above 0 m, not {self.max_distance:g}.")
        if self.selection == "retrieval" or self.loop_closure:
            stages.require_retrieval()


def check_near(positions: Positions, names: Sequence[str]) -> None:
    """Raise ValueError if there are no two positions to pair images by."""
    if len(positions.names) < 2:
        raise ValueError(
            f"{positions.source} has positions of {len(positions.names)} of {len(names)} "
            "photographs, and --pairs near needs two; set --georeference FILE, or pair by "
            "retrieval."
        )


def select_pairs(
    options: PairOptions,
    stages: Stages,
    features: Features,
    num_matched: int,
    positions: Positions | None = None,
    rigs: Rigs | None = None,
) -> list[Pair]:
    """Select the pairs of images that have features.

    Args:
        options: how.
        stages: stages of the run, of which retrieval may be used.
        features: features of the images.
        num_matched: number of images that each image is paired with by retrieval or position.
        positions: positions of images, for near ones.
        rigs: rigs of images, whose frames are sequences.

    Raises:
        ValueError: no pair is left.
    """
    names, matches = features.names, stages.options.matches
    if options.selection == "exhaustive" and matches is not None:
        return pairs_of_matches(matches, names)
    if options.selection == "exhaustive":
        return pairs.exhaustive(names)
    if options.selection == "sequential":
        return _sequential(options, stages, features, rigs)
    if options.selection == "near" and positions is not None:
        known = positions_for_distances(positions)
        places = {name: known[name] for name in names if name in known}
        return unique_pairs(pairs.near(places, num_matched, options.max_distance))
    return unique_pairs(stages.retrieve(features, num_matched, names, names))


def _sequential(
    options: PairOptions, stages: Stages, features: Features, rigs: Rigs | None
) -> list[Pair]:
    in_rigs = [] if rigs is None else rigs.sequences(features.names)
    alone = set(features.names).difference(name for each in in_rigs for f in each for name in f)
    sequences = [*in_rigs, *([[name] for name in each] for each in pairs.sequences(alone))]
    selected = [
        pair for each in sequences for pair in pairs.sequential_frames(each, options.overlap)
    ]
    if options.loop_closure:
        num = options.loop_closure + pairs.most_partners(selected)
        queries = [name for frame in pairs.loop_queries(sequences) for name in frame]
        retrieved = stages.retrieve(features, num, queries, features.names)
        selected += pairs.loop_closures(retrieved, selected, options.loop_closure)
    elif len(sequences) > 1:
        logger.warning(
            "%s: the images are %d sequences, one for each folder or rig, and no image is paired "
            "with one of another sequence; add --loop-closure 5.",
            features.image_dir,
            len(sequences),
        )
    return selected
