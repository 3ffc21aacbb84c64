"""What a leaderboard says of a method: its paper, its weights, and the card of featplug's own."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from urllib.parse import quote_plus

from benchmarks.record import Row
from benchmarks.site.sent_run import slug, unique
from featplug.methods import features, matchers, pair_matchers
from featplug.weights.registry import read_registry, shipped_folder

_SEARCH = "https://scholar.google.com/scholar?q="


@dataclass(frozen=True)
class Weights:
    """A weights file that a run used."""

    name: str
    origin: str
    sha256: str
    is_other: bool
    """Whether it is not the file that the registry has under this name."""
    card: str
    """Card of the file, in Markdown; empty where it has none."""
    citation: str
    """Paper of the weights; empty where they are in no registry."""


@dataclass(frozen=True)
class MethodCard:
    """A method of a leaderboard."""

    name: str
    anchor: str
    papers: list[str]
    """Papers of its feature and matcher, as `featplug list` has them."""
    weights: list[Weights]
    code: list[str]
    """Classes that computed it."""


def search_address(paper: str) -> str:
    """Return the address that searches a paper by its authors and title."""
    return f"{_SEARCH}{quote_plus(paper.partition('(')[0].strip())}"


def method_cards(rows: Iterable[Row]) -> dict[str, MethodCard]:
    """Return the cards of all methods of rows, by name."""
    by_name: dict[str, list[Row]] = {}
    for row in rows:
        by_name.setdefault(row.feature, []).append(row)
    cards: dict[str, MethodCard] = {}
    for name, of_name in sorted(by_name.items()):
        anchor = unique(slug(name, "method"), {card.anchor for card in cards.values()})
        files = {
            (str(file["name"]), str(file.get("origin") or ""), str(file.get("sha256") or "")): None
            for row in of_name
            for file in row.weights
        }
        code = dict.fromkeys(_code(method) for row in of_name for method in row.methods)
        papers = [_papers()[word] for word in re.split(r"[+@]", name) if _papers().get(word)]
        weights = [_weights(*file) for file in files]
        cards[name] = MethodCard(name, anchor, list(dict.fromkeys(papers)), weights, list(code))
    return cards


@cache
def _papers() -> dict[str, str]:
    """Return the papers of the methods that featplug has; no class of a name is looked up."""
    tables = (features, matchers, pair_matchers)
    return {name: conf.get("paper") or "" for table in tables for name, conf in table.items()}


def _code(method: dict[str, str]) -> str:
    words = [method.get("class", ""), method.get("package", ""), method.get("version", "")]
    text = " ".join(filter(None, words))
    return text + (f", SHA-256 {method['sha256']}" if method.get("sha256") else "")


def _weights(name: str, origin: str, sha256: str) -> Weights:
    entry = read_registry().get(name)
    if entry is None or origin not in ("official", "featplug"):
        return Weights(name, origin, sha256, False, "", "")
    known = [source.sha256 for source in entry.sources]
    path = (shipped_folder() / entry.sources[0].file).with_suffix(".md")
    card = path.read_text("utf-8") if entry.origin == "featplug" and path.is_file() else ""
    return Weights(name, origin, sha256, all(known) and sha256 not in known, card, entry.citation)
