"""Retrieval for single queries, with the descriptors of the database in memory.

They are those of :mod:`featplug.stages.retrieve`, and so are the images that are found.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from featplug.api import Features
from featplug.base import choose_device
from featplug.extractors.vlad import Vocabulary
from featplug.io.image_inputs import ImageLike, read_input
from featplug.io.images import DEFAULT_PREPROCESSING
from featplug.io.orientation import Orientation
from featplug.io.parts.feature_parts import open_global_descriptors
from featplug.methods import build_global_extractor
from featplug.stages.pairs import best_pairs
from featplug.stages.retrieval_pairs import descriptor_matrix, similarities


class QueryRetrieval:
    """Finds the images of a database that look most like a query.

    Args:
        conf: the retrieval conf that the database was described with.
        descriptors: file of the database's global descriptors; VLAD's vocabulary is next to it.
        database: names of the images, in the order that equally near ones keep.
        device: device of a network; the best one of the machine if None.
        orientation: which way up a network looks at files.

    Raises:
        FileNotFoundError: the file does not exist, or weights are missing.
        ValueError: the file is damaged, or has no descriptor of an image.
    """

    def __init__(
        self,
        conf: Mapping[str, Any],
        descriptors: Path,
        database: Sequence[str],
        device: str | None = None,
        orientation: Orientation = "exif",
    ) -> None:
        self.conf = conf
        self.database = list(database)
        self._orientation: Orientation = orientation
        skipped: dict[str, str] = {}
        with open_global_descriptors(descriptors) as reader:
            self._matrix = descriptor_matrix([(reader, name) for name in self.database], skipped)
        self._vocabulary: Vocabulary | None = None
        if conf["model"]["name"] == "vlad":
            self._vocabulary, _ = Vocabulary.load(Path(descriptors).with_suffix(".safetensors"))
        else:
            self._device = choose_device(device)
            self._network = build_global_extractor(conf["model"]).to(self._device)
            self._preprocessing = {**DEFAULT_PREPROCESSING, **conf.get("preprocessing", {})}

    def describe(self, image: ImageLike | None, features: Features) -> np.ndarray:
        """Return the global descriptor of a query, D float32, from its pixels or its features.

        Raises:
            FileNotFoundError: no such file exists.
            ValueError: the image cannot be used, or is needed and not given.
        """
        if self._vocabulary is not None:
            return self._vocabulary.encode(features.descriptors.T)
        if image is None:
            raise ValueError(
                f"{type(self._network).__name__} describes pixels, which features do not keep; "
                "localize the image itself."
            )
        planes = read_input(image, self._preprocessing, self._orientation).planes
        found = self._network({"image": torch.from_numpy(planes[None]).to(self._device)})
        descriptor: np.ndarray = found["global_descriptor"][0].cpu().numpy()
        return descriptor

    def nearest(
        self, descriptor: np.ndarray, num: int, allowed: np.ndarray | None = None
    ) -> list[str]:
        """Return the database images whose descriptors are nearest, the nearest first.

        Args:
            descriptor: D, of the query; zeros, of an image without features, are near to none.
            num: largest number of images.
            allowed: N bool, images of :attr:`database` to choose from; all if None.
        """
        scores = similarities(descriptor[None], self._matrix)
        if allowed is not None:
            scores[:, ~allowed] = -np.inf
        # The name of the query is empty, and so no image's.
        return [name for _, name in best_pairs([""], self.database, lambda _: scores, num)]
