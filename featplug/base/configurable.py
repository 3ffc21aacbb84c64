"""What extractors and matchers have in common: options, weights and revisions."""

from abc import ABC
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from torch import nn

from featplug.io.artifact import file_hash
from featplug.utils.suggestions import unknown_option
from featplug.weights.loading import (
    MissingWeightsError,
    explain_all_missing,
    load_network,
    require_weights,
)
from featplug.weights.registry import WeightsRecord

_Network = TypeVar("_Network", bound=nn.Module)


class Configurable(nn.Module, ABC):
    """A module built from a conf dict; unknown names in it are errors."""

    default_conf: ClassVar[dict[str, Any]] = {}
    """Options and their values where a conf does not set them."""
    choices: ClassVar[dict[str, tuple[str, ...]]] = {}
    """Values that an option may have."""
    positive: ClassVar[tuple[str, ...]] = ()
    """Options that must be positive, or None if that is their default."""
    revision: ClassVar[int] = 1
    """Number that is raised whenever the output changes for the same input, options and weights;
    files of another revision are made again."""
    weights_records: tuple[WeightsRecord, ...] = ()
    """Weights files that were loaded."""

    def __init__(self, conf: Mapping[str, Any] | None = None) -> None:
        super().__init__()
        given = {k: v for k, v in (conf or {}).items() if k != "name"}
        known = self.all_options()
        if unknown := sorted(set(given) - set(known)):
            raise unknown_option(type(self).__name__, unknown[0], known)
        self.conf: dict[str, Any] = {**self.default_conf, **given}
        for name, values in self.choices.items():
            if self.conf[name] not in values:
                raise ValueError(
                    f"{name} must be one of {', '.join(values)}, not {self.conf[name]!r}."
                )
        for name in self.positive:
            value = self.conf[name]
            is_valid = self.default_conf[name] is None if value is None else value > 0
            if not is_valid:
                raise ValueError(f"{name} must be positive, not {value!r}.")

    @classmethod
    def require(cls, model: Mapping[str, Any]) -> None:
        """Check before long work that what the ``model`` of a conf needs is available.

        Raises:
            FileNotFoundError: weights are missing; the message says how to get them.
        """
        require_weights(model)

    @classmethod
    def all_options(cls) -> dict[str, Any]:
        """Return all options with their defaults: the method's own, and those of its kind."""
        return dict(cls.default_conf)

    def load_network(
        self, network_class: Callable[..., _Network], *, prefix: str = "", **options: Any
    ) -> _Network:
        """Return a network with the weights that the options ``checkpoint`` and ``weights`` name.

        The file is recorded in :attr:`weights_records`; see
        :func:`~featplug.weights.loading.load_network`. A method of several networks has these
        options once for each, with a ``prefix`` such as ``detector_``.
        """
        checkpoint, choice = self.conf[f"{prefix}checkpoint"], self.conf[f"{prefix}weights"]
        try:
            network, record = load_network(checkpoint, choice, network_class, **options)
        except MissingWeightsError:
            if (all_missing := explain_all_missing(self.conf)) is None:
                raise
            raise FileNotFoundError(all_missing) from None
        self.weights_records = (record, *self.weights_records)
        return network

    @property
    def settings(self) -> dict[str, Any]:
        """Options that the output depends on.

        Options that choose weights are left out where :attr:`weights_records` stands for them. In
        a class that reads weights itself, a file has the hash of its contents.
        """
        decisive = {k: v for k, v in self.conf.items() if not k.endswith("batch_size")}
        chosen = {k: v for k, v in decisive.items() if k.endswith(("weights", "checkpoint"))}
        if self.weights_records:
            return {k: v for k, v in decisive.items() if k not in chosen}
        return decisive | {k: _identity(v) for k, v in chosen.items()}

    @property
    def revisions(self) -> dict[str, int]:
        """Revision of this method, and of those that it uses, by the name of the class."""
        return {type(self).__name__: self.revision}


def _identity(weights: object) -> object:
    """Return the hash of a file of weights, and any other choice of weights as it is."""
    is_file = isinstance(weights, str | Path) and Path(weights).expanduser().is_file()
    return file_hash(Path(str(weights)).expanduser()) if is_file else weights
