"""The manifest of a store: its images, cut into shards.

A Parquet file with a row for each image and a row group for each shard, so that the images of one
shard are read without the others. Any program that reads Parquet reads it.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property, lru_cache
from itertools import islice
from pathlib import Path

from featplug.io.artifact import file_hash, value_hash
from featplug.io.exif import ExifCamera
from featplug.io.files import write_whole
from featplug.io.image_files import ImageHeader, read_image_header
from featplug.io.image_folder import list_images
from featplug.io.pair_lists import read_image_list
from featplug.utils.extras import require
from featplug.utils.parallel import NUM_READERS, map_ahead
from featplug.utils.progress import progress_bar

MANIFEST = "manifest.parquet"
_VERSION = 1
_METADATA = b"featplug"
_LARGEST_SHARD = 100_000


@dataclass(frozen=True)
class ManifestImage:
    """An image of a manifest."""

    name: str
    """Name relative to the folder of the images."""
    num_bytes: int
    sha256: str
    """Hash of the whole file."""
    width: int
    """Width in pixels as stored; 0 where the file is no image that can be read."""
    height: int
    orientation: int
    """EXIF's orientation, 1 to 8."""
    camera: str
    """EXIF data of the camera as JSON, the fields of :class:`~featplug.io.exif.ExifCamera` that are
    known; images of one camera have the same."""

    def header(self) -> ImageHeader | None:
        """Return the image's header, without a GPS position; None where it is no image.

        Raises:
            ValueError: the EXIF data are no such JSON.
        """
        if not self.width:
            return None
        return _header((self.width, self.height), self.orientation, self.camera)


class Manifest:
    """The images of a store.

    Args:
        store: folder of the store.

    Raises:
        FileNotFoundError: it has no manifest.
        ValueError: its manifest is damaged, or of a later version.
    """

    def __init__(self, store: Path) -> None:
        parquet = require("pyarrow.parquet", "shards")
        self.path = Path(store) / MANIFEST
        if not self.path.is_file():
            raise FileNotFoundError(
                f"{store} has no {MANIFEST}; make it by `featplug shard make --images DIR "
                f"--outputs {store}`."
            )
        try:
            self._file = parquet.ParquetFile(self.path)
            head = json.loads(self._file.metadata.metadata[_METADATA])
            version = int(head["version"])
            self.image_dir = Path(head["image_dir"])
            self.size = int(head["size"])
            self._identities = [str(identity) for identity in head["identities"]]
            if self._file.num_row_groups != len(self._identities):
                raise ValueError("its shards are not those that were written")
        except Exception as error:  # Arrow's own classes, and those of JSON
            raise ValueError(
                f"{self.path} is damaged ({error}); make it again by `featplug shard make`."
            ) from error
        if version > _VERSION:
            raise ValueError(
                f"{self.path} is of a later version of featplug; use that one to read it."
            )

    @property
    def num_images(self) -> int:
        """Number of images in all shards."""
        return int(self._file.metadata.num_rows)

    @property
    def num_shards(self) -> int:
        """Number of shards."""
        return len(self._identities)

    def identity(self, shard: int) -> str:
        """Return a hash of the names and contents of a shard's images."""
        return self._identities[shard]

    def images(self, shard: int) -> list[ManifestImage]:
        """Return the images of a shard.

        Raises:
            ValueError: there is no such shard, or the manifest is damaged.
        """
        if not 0 <= shard < self.num_shards:
            raise ValueError(f"{self.path} has {self.num_shards} shards, and none {shard}.")
        try:
            rows = self._file.read_row_group(shard).to_pylist()
            images = [ManifestImage(**row) for row in rows]
        except Exception as error:
            raise ValueError(
                f"{self.path} is damaged ({error}); make it again by `featplug shard make`."
            ) from error
        if _identity(images) != self._identities[shard]:
            raise ValueError(
                f"{self.path} is damaged (shard {shard} has changed); make it again by `featplug "
                "shard make`."
            )
        return images

    def names(self, shard: int) -> list[str]:
        """Return the names of a shard's images."""
        return [str(n) for n in self._file.read_row_group(shard, columns=["name"])[0].to_pylist()]

    def all_names(self) -> list[str]:
        """Return the names of all images, shard by shard."""
        return [name for shard in range(self.num_shards) for name in self.names(shard)]

    def headers(self) -> dict[str, ImageHeader]:
        """Return the header of each image that can be read: about 200 bytes an image.

        Raises:
            ValueError: the manifest is damaged.
        """
        found = {}
        for shard in range(self.num_shards):
            for image in self.images(shard):
                try:
                    header = image.header()
                except ValueError as error:
                    raise ValueError(
                        f"{self.path} is damaged ({error}); make it again by `featplug shard make`."
                    ) from error
                if header is not None:
                    found[image.name] = header
        return found

    @cached_property
    def shard_of(self) -> dict[str, int]:
        """Name of each image to its shard: about 150 bytes an image."""
        return {name: shard for shard in range(self.num_shards) for name in self.names(shard)}


def make_manifest(
    image_dir: Path,
    store: Path,
    size: int = 512,
    image_list: Path | None = None,
    progress: bool = False,
) -> Manifest:
    """Cut the images of a folder into shards, and write or renew the manifest of a store.

    Where the store has a manifest, images keep their shards, which lose those that are gone; new
    images come into new shards. Parts of shards that are as they were stay valid.

    Args:
        image_dir: folder of the images, at any depth.
        store: folder of the store, which is made.
        size: number of images of a shard.
        image_list: text file of names; all images of the folder by default.
        progress: show a progress bar.

    Raises:
        FileNotFoundError: the folder or the list does not exist.
        ValueError: there is no image, a name cannot be used, or the store has shards of another
            size.
    """
    arrow = require("pyarrow", "shards")
    parquet = require("pyarrow.parquet", "shards")
    if not 1 <= size <= _LARGEST_SHARD:
        raise ValueError(f"A shard has 1 to {_LARGEST_SHARD:,} images, not {size}.")
    names = list_images(image_dir) if image_list is None else read_image_list(image_list)
    path = Path(store) / MANIFEST
    shards = _shards(names, Manifest(store) if path.exists() else None, size, store)
    schema = arrow.schema(
        [
            ("name", arrow.string()),
            ("num_bytes", arrow.int64()),
            ("sha256", arrow.string()),
            ("width", arrow.int32()),
            ("height", arrow.int32()),
            ("orientation", arrow.int8()),
            ("camera", arrow.string()),
        ]
    )
    identities: list[str] = []

    def described() -> Iterator[ManifestImage]:
        flat = (name for shard in shards for name in shard)
        images = map_ahead(lambda name: _describe(Path(image_dir), name), flat, NUM_READERS)
        yield from progress_bar(images, "describe", len(names), "image", progress)

    def write(part: Path) -> None:
        images = described()
        with parquet.ParquetWriter(part, schema) as writer:
            for shard in shards:
                rows = list(islice(images, len(shard)))
                identities.append(_identity(rows))
                table = arrow.Table.from_pylist([asdict(row) for row in rows], schema)
                writer.write_table(table, row_group_size=size)
            head = {
                "version": _VERSION,
                "image_dir": str(Path(image_dir).absolute()),
                "size": size,
                "identities": identities,
            }
            writer.add_key_value_metadata({_METADATA: json.dumps(head).encode()})

    write_whole(path, write)
    return Manifest(store)


def _shards(
    names: Sequence[str], before: Manifest | None, size: int, store: Path
) -> list[list[str]]:
    """Return the names of each shard: those of before, without what is gone, then new ones."""
    if before is not None and before.size != size:
        raise ValueError(
            f"{store} has shards of {before.size} images, not {size}; make another store, or use "
            f"--size {before.size}."
        )
    left = dict.fromkeys(names)
    shards = []
    for old in map(before.names, range(before.num_shards)) if before else ():
        kept = [name for name in old if name in left]
        shards.append(kept)
        for name in kept:
            del left[name]
    new = list(left)
    if shards and new:  # the last shard may have room
        room = size - len(shards[-1])
        shards[-1] += new[:room]
        new = new[room:]
    return shards + [new[i : i + size] for i in range(0, len(new), size)]


def _describe(image_dir: Path, name: str) -> ManifestImage:
    path = image_dir / name
    digest, num_bytes = file_hash(path), path.stat().st_size
    try:
        header = read_image_header(path)
    except (OSError, ValueError):
        return ManifestImage(name, num_bytes, digest, 0, 0, 1, "{}")  # extraction says why
    camera = {key: value for key, value in asdict(header.camera).items() if value is not None}
    text = json.dumps(camera)
    return ManifestImage(name, num_bytes, digest, *header.size, header.orientation, text)


@lru_cache(4096)
def _header(size: tuple[int, int], orientation: int, camera: str) -> ImageHeader:
    """Return the header of an image; images that are alike share it.

    Raises:
        ValueError: the EXIF data of the camera are no such JSON.
    """
    try:
        fields = json.loads(camera)
        width, height = fields.pop("size", (0, 0))
        exif = ExifCamera(**fields, size=(width, height) if width and height else None)
    except (AttributeError, TypeError, ValueError) as error:
        raise ValueError(f"{camera!r} are no EXIF data of a camera") from error
    return ImageHeader(size, "", "", exif, orientation, None)


def _identity(images: Sequence[ManifestImage]) -> str:
    return value_hash([[image.name, image.sha256] for image in images])
