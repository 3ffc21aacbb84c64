"""VLAD: an image's local descriptors, summed up by their differences from a vocabulary.

Jégou et al., "Aggregating Local Descriptors into a Compact Image Representation", CVPR 2010, with
the intra-normalisation of Arandjelović and Zisserman, "All about VLAD", CVPR 2013; optionally the
power law and the whitening of Jégou and Chum, "Negative Evidences and Co-occurrences in Image
Retrieval", ECCV 2012. It needs no weights: everything is learnt from the database's features.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from scipy.sparse import csr_array

from featplug import __version__
from featplug.io.artifact import Provenance
from featplug.io.files import write_whole
from featplug.io.h5file import OtherContentsError
from featplug.io.store import FeatureReader
from featplug.methods import register_global
from featplug.weights.checkpoints import read_safetensors, save_readable

REVISION = 1
"""Revision of vocabularies and descriptors, see :mod:`featplug.io.artifact`."""
_SAMPLE_IMAGES = 1024
_SAMPLE_BYTES = 2**26
"""Images, and bytes of their local descriptors, that words are learnt from."""
_WHITENING_IMAGES = 2048
_IMAGES_PER_COMPONENT = 4
"""Fewest images per component of a whitening. It amplifies noise with fewer: n − 1 components,
learnt from n images, make all of them equally unlike."""


@dataclass(frozen=True)
class VLADOptions:
    """How a vocabulary is learnt and used."""

    num_clusters: int = 256
    """Number of words, K. Many short sums find night photographs more often than few long ones of
    the same K·d."""
    max_dimensions: int = 64
    """Number of principal components, d, that longer local descriptors are projected to."""
    power: float = 1.0
    """Exponent of the power law of the sums, which keep their sign; 1 for none, 0.5 is usual."""
    num_components: int = 0
    """Number of whitened principal components of the result, if there are enough images; 0 for no
    whitening."""
    seed: int = 0
    """Seed of everything random."""


@register_global(
    {
        "vlad": {},
        # For large and varied databases only: of one room or street, the leading components, which
        # whitening weakens, are what distinguishes places.
        "vlad-whitened": {"model": {"num_components": 512}},
    },
    paper="Jégou et al., CVPR 2010; Arandjelović and Zisserman, CVPR 2013",
    order=2,
)
@dataclass(frozen=True, eq=False)
class Vocabulary:
    """Words and projections that VLAD has learnt from a database: float32 arrays."""

    options: VLADOptions
    centroids: np.ndarray
    """K×d."""
    local_mean: np.ndarray
    """D, of the local descriptors; empty where they are not projected."""
    local_components: np.ndarray
    """D×d; empty where they are not projected."""
    mean: np.ndarray
    """K·d, of the database's vectors; empty without whitening."""
    whitening: np.ndarray
    """(K·d)×C; empty without whitening."""

    @classmethod
    def all_options(cls) -> dict[str, Any]:
        """Return the options of the confs with their defaults, as methods do."""
        return asdict(VLADOptions())

    @property
    def dimensions(self) -> int:
        """Length D of the local descriptors."""
        return len(self.local_mean) or self.centroids.shape[1]

    def encode(self, descriptors: np.ndarray) -> np.ndarray:
        """Sum up one image's local descriptors D×N, of any length and floating-point type.

        Returns:
            Float32 of unit length, K·d, one word after the other, or C; zeros for no descriptors.
        """
        vector = self.encode_raw(descriptors)
        if not self.mean.size:
            return vector
        whitened = (vector - self.mean) @ self.whitening
        return _normalized(whitened if vector.any() else np.zeros_like(whitened))

    def encode_raw(self, descriptors: np.ndarray) -> np.ndarray:
        """Return what :meth:`encode` whitens, K·d."""
        if descriptors.shape[1] == 0:
            return np.zeros(self.centroids.size, np.float32)
        local = unit_rows(descriptors)
        if self.local_mean.size:
            local = (local - self.local_mean) @ self.local_components
        # ‖x − c‖² without the ‖x‖² that is the same for all words.
        distances = (self.centroids**2).sum(1) - 2 * local @ self.centroids.T
        words = csr_array(
            (np.ones(len(local), np.float32), distances.argmin(1), np.arange(len(local) + 1)),
            (len(local), len(self.centroids)),
        )
        sums = words.T @ local - words.sum(0)[:, None] * self.centroids
        if self.options.power != 1:
            sums = np.sign(sums) * np.abs(sums) ** self.options.power
        return _normalized(_normalized(sums).ravel())

    def save(self, path: Path, metadata: Mapping[str, Any]) -> None:
        """Write a safetensors file with the options and ``metadata``; it appears when whole."""
        arrays = {
            key: torch.from_numpy(np.ascontiguousarray(value))
            for key, value in vars(self).items()
            if isinstance(value, np.ndarray)
        }
        recorded = {"options": json.dumps(asdict(self.options)), "featplug": __version__}
        write_whole(path, lambda part: save_readable(arrays, part, {**metadata, **recorded}))

    @classmethod
    def load(cls, path: Path) -> tuple[Self, dict[str, str]]:
        """Read a vocabulary and its metadata.

        Raises:
            FileNotFoundError: no such file exists.
            ValueError: it is damaged or something else.
        """
        if not path.is_file():
            raise FileNotFoundError(f"There is no vocabulary {path}.")
        state, metadata = read_safetensors(path)
        try:
            options = VLADOptions(**json.loads(metadata["options"]))
            vocabulary = cls(options, **{key: value.numpy() for key, value in state.items()})
            vocabulary._check()
        except (AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
            raise ValueError(
                f"{path} is not a vocabulary of VLAD, or damaged; run retrieval with --overwrite, "
                "or give another one."
            ) from error
        return vocabulary, metadata

    def _check(self) -> None:
        """Raise ``ValueError`` for arrays of shapes or values that no learning gives."""
        arrays = [value for value in vars(self).values() if isinstance(value, np.ndarray)]
        if not all(array.dtype == np.float32 and np.isfinite(array).all() for array in arrays):
            raise ValueError("an array is not float32, or not finite")
        num_words, num_dims = self.centroids.shape
        projected = (self.dimensions, num_dims) if self.local_mean.size else (0,)
        whitened = (num_words * num_dims,) if self.mean.size else (0,)
        if (
            num_words * num_dims == 0
            or self.local_mean.ndim != 1
            or self.local_components.shape != projected
            or self.mean.shape != whitened
            or self.whitening.shape[:1] != whitened
            or self.whitening.ndim != (2 if self.mean.size else 1)
            or not all(isinstance(value, (int, float)) for value in asdict(self.options).values())
        ):
            raise ValueError("the arrays do not fit each other")


def unit_rows(descriptors: np.ndarray) -> np.ndarray:
    """Turn descriptors D×N of any floating-point type into rows N×D of unit length, float32."""
    return _normalized(descriptors.T.astype(np.float32))


def learn_vocabulary(sample: np.ndarray, options: VLADOptions) -> Vocabulary:
    """Learn the words from local descriptors, S×D float32 rows of unit length, by k-means.

    Raises:
        ValueError: there are fewer descriptors than words.
    """
    # Imported here: it takes a second, which commands that learn nothing would wait for.
    from sklearn.cluster import MiniBatchKMeans
    from sklearn.decomposition import PCA

    if len(sample) < options.num_clusters:
        raise ValueError(
            f"A vocabulary of {options.num_clusters} words cannot be learnt from {len(sample)} "
            "local descriptors; add more images."
        )
    empty = np.zeros(0, np.float32)
    local_mean = local_components = empty
    if sample.shape[1] > options.max_dimensions:
        pca = PCA(options.max_dimensions, svd_solver="covariance_eigh").fit(sample)
        local_mean, local_components = pca.mean_, np.ascontiguousarray(pca.components_.T)
        sample = (sample - local_mean) @ local_components
    kmeans = MiniBatchKMeans(
        options.num_clusters, n_init=3, batch_size=4096, random_state=options.seed
    ).fit(sample)
    return Vocabulary(options, kmeans.cluster_centers_, local_mean, local_components, empty, empty)


def learn_whitening(vocabulary: Vocabulary, vectors: np.ndarray) -> Vocabulary:
    """Add a whitening to a vocabulary, learnt from n×K·d of :meth:`Vocabulary.encode_raw`.

    Raises:
        ValueError: there are too few images.
    """
    from sklearn.decomposition import PCA

    limit = len(vectors) // _IMAGES_PER_COMPONENT
    num = min(vocabulary.options.num_components, vectors.shape[1], limit)
    if num < 2:
        raise ValueError(
            f"A whitening cannot be learnt from {len(vectors)} images; use vlad without."
        )
    solver = PCA(num, svd_solver="randomized", random_state=vocabulary.options.seed).fit(vectors)
    whitening = solver.components_.T / np.sqrt(solver.explained_variance_)
    return replace(
        vocabulary,
        mean=solver.mean_.astype(np.float32),
        whitening=np.ascontiguousarray(whitening, np.float32),
    )


def own_vocabulary(
    path: Path,
    reader: FeatureReader,
    database: Sequence[str],
    options: VLADOptions,
    overwrite: bool,
    database_may_change: bool,
) -> Vocabulary:
    """Load the vocabulary of a feature file; learn and save it if it does not exist.

    It is learnt in bounded memory, from a sample of the images and of their descriptors.

    Args:
        path: the vocabulary's file.
        reader: the feature file, open.
        database: the images to learn from; those without features are skipped.
        options: how to learn it.
        overwrite: learn it again.
        database_may_change: load it even if it was learnt from other images.

    Raises:
        OtherContentsError: it was learnt with other options or features or from other images.
        ValueError: the images have too few descriptors.
    """
    digest = hashlib.sha256("\n".join(sorted(database)).encode()).hexdigest()
    learned_from = {"features": reader.file_id, "database": digest, "revision": str(REVISION)}
    if path.exists() and not overwrite:
        vocabulary, metadata = Vocabulary.load(path)
        if database_may_change:
            learned_from["database"] = metadata.get("database", digest)
        wanted = _provenance(options, learned_from)
        difference = _provenance(vocabulary.options, metadata).difference(wanted)
        if difference is not None:
            raise OtherContentsError(f"{path} {difference}")
        return vocabulary
    present = [name for name in database if name in reader]
    rng = np.random.default_rng(options.seed)
    vocabulary = learn_vocabulary(_sample(reader, present, rng), options)
    if options.num_components:
        chosen = _choose(present, _WHITENING_IMAGES, rng)
        usable = _usable_descriptors(reader, chosen, vocabulary.dimensions)
        vectors = [vocabulary.encode_raw(descriptors) for descriptors in usable]
        vocabulary = learn_whitening(vocabulary, np.stack([v for v in vectors if v.any()]))
    path.parent.mkdir(parents=True, exist_ok=True)
    vocabulary.save(path, {**learned_from, "num_images": str(len(present))})
    return vocabulary


def _provenance(options: VLADOptions, metadata: Mapping[str, str]) -> Provenance:
    """Return the provenance in the metadata of a vocabulary, which is the same if learned again."""
    inputs = {"features": metadata.get("features"), "database images": metadata.get("database")}
    revisions = {"vlad": int(metadata.get("revision", 1))}
    return Provenance("vocabulary", asdict(options), inputs=inputs, revisions=revisions)


def _sample(reader: FeatureReader, names: Sequence[str], rng: np.random.Generator) -> np.ndarray:
    """Draw local descriptors of the images, as many of each, S×D float32 of unit length."""
    rows: list[np.ndarray] = []
    chosen = _choose(names, _SAMPLE_IMAGES, rng)
    for descriptors in _usable_descriptors(reader, chosen):
        if descriptors.size == 0 or (rows and rows[0].shape[1] != len(descriptors)):
            continue
        num = max(1, _SAMPLE_BYTES // (4 * len(descriptors) * len(chosen)))
        kept = rng.permutation(descriptors.shape[1])[:num]
        rows.append(unit_rows(descriptors[:, kept]))
    if not rows:
        raise ValueError(f"{reader.path} has no features of the images to learn from.")
    return np.concatenate(rows)


def _choose(names: Sequence[str], num: int, rng: np.random.Generator) -> list[str]:
    """Draw names, and keep their order."""
    return [names[i] for i in sorted(rng.permutation(len(names))[:num])]


def _usable_descriptors(
    reader: FeatureReader, names: Sequence[str], dimensions: int | None = None
) -> Iterator[np.ndarray]:
    """Yield the descriptors of images without those that cannot be used."""
    for name in names:
        with suppress(ValueError):
            yield local_descriptors(reader, name, dimensions)


def local_descriptors(
    reader: FeatureReader, name: str, dimensions: int | None = None
) -> np.ndarray:
    """Read an image's descriptors, D×N.

    Raises:
        ValueError: there are none that can be used, or D is not that of the vocabulary.
    """
    descriptors = reader.read(name, ["descriptors"]).get("descriptors")
    if descriptors is None:
        raise ValueError(f"{reader.path} has no descriptors of {name!r}; extract it again.")
    if dimensions not in (None, len(descriptors)) and descriptors.size:
        raise ValueError(
            f"The descriptors of {name!r} in {reader.path} have {len(descriptors)} dimensions, "
            f"those of the vocabulary {dimensions}; use a vocabulary of this feature."
        )
    return descriptors


def _normalized(vectors: np.ndarray) -> np.ndarray:
    """Scale vectors along the last axis to unit length; zeros stay."""
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors / np.where(lengths > 0, lengths, 1)
