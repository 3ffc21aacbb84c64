"""Progress bars with rate and time left."""

import logging
import sys
from collections.abc import Iterable
from typing import Any

from tqdm import tqdm

_LOG_SECONDS = 30.0
"""How often a bar that goes to a file is written: each time is a piece of the log."""


def is_quiet() -> bool:
    """Return whether featplug logs warnings only, as under ``--quiet``, so that no bar is shown."""
    return logging.getLogger("featplug").level > logging.INFO


def progress_bar(
    items: Iterable[Any] | None,
    description: str,
    total: int,
    unit: str,
    shown: bool,
    done: int = 0,
) -> tqdm:
    """Make a bar on the standard error stream.

    Args:
        items: what to go through; None for a bar that is updated by hand.
        description: the stage.
        total: number of items, those that are done included.
        unit: of the items, such as ``image``.
        shown: whether to show the bar, if it has items.
        done: items that an earlier run went through.
    """
    interval = 0.1 if sys.stderr.isatty() else _LOG_SECONDS
    return tqdm(
        items,
        description,
        total,
        unit=unit,
        initial=done,
        disable=not shown or not total or is_quiet(),
        mininterval=interval,
    )
