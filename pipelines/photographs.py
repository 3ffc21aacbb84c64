"""The photographs of a reconstruction: those of a folder, of a list, or frames of a video."""

import logging
from contextlib import suppress
from dataclasses import KW_ONLY, dataclass
from pathlib import Path

from featplug.io.image_folder import list_images
from featplug.io.names import enumerated, similar_name_hints
from featplug.io.pair_lists import read_image_list
from featplug.io.video import extract_frames
from featplug.methods.method_names import path_word
from pipelines.run_options import require_positive

FRAMES = "frames"
"""Folder of the frames of a video, in the output folder."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class PhotographOptions:
    """Which photographs are used."""

    images: Path | None = None
    """Folder of the photographs, at any depth."""
    _: KW_ONLY
    image_list: Path | None = None
    """Text file of the names of the photographs to use, relative to --images; all by default."""
    video: Path | None = None
    """Video to take the photographs from, instead of --images."""
    fps: float = 2.0
    """With --video: number of frames for each second, the sharpest of each interval."""

    @property
    def scene_name(self) -> str:
        """Name of the scene: that of the video, of the folder, or of the one above ``images``."""
        if self.images is None:
            return (self.video or Path("photographs")).stem
        folder = self.images.resolve()
        return folder.parent.name if folder.name == "images" else folder.name

    def check_photographs(self) -> None:
        """Check the options before any work.

        Raises:
            FileNotFoundError: a file does not exist.
            ValueError: there are no photographs, or several sources of them.
        """
        if (self.images is None) == (self.video is None):
            both = "--images and --video both name" if self.images else "There are no"
            raise ValueError(
                f"{both} photographs; set --images DIR, a folder, or --video FILE, a video."
            )
        if self.video is not None and self.image_list is not None:
            raise ValueError("--image-list is of a folder; leave it out with --video.")
        require_positive(fps=self.fps)
        for path, kind in ((self.video, "video"), (self.image_list, "image list")):
            if path is not None and not path.is_file():
                raise FileNotFoundError(f"There is no {kind} {path}.")

    def photographs(self, outputs: Path, masks: Path | None, progress: bool) -> list[str]:
        """List the photographs, after the frames of a video are extracted.

        Args:
            outputs: output folder of the run, for the frames.
            masks: folder of masks, which are no photographs.
            progress: show a progress bar.

        Returns:
            Names relative to :meth:`photograph_folder`, sorted.

        Raises:
            FileNotFoundError: the folder does not exist.
            ValueError: names cannot be used, the list names others, or the video has no frames.
        """
        folder = self.photograph_folder(outputs)
        if self.video is not None and extract_frames(self.video, folder, self.fps, progress):
            logger.info("%s: frames of %s", folder, self.video)
        if self.image_list is None:
            return list_images(folder, masks)
        return sorted(_listed(self.image_list, folder))

    def photograph_folder(self, outputs: Path) -> Path:
        """Return the folder of the photographs.

        Frames of another video or rate have another folder, so that those of an earlier model stay.
        """
        if self.video is None or self.images is not None:
            return Path(self.images or "")
        return outputs / f"{FRAMES}-{path_word(self.video)}-{self.fps:g}fps"


def _listed(image_list: Path, folder: Path) -> list[str]:
    """Return the images that a list names; raise an error if one does not exist."""
    if not folder.is_dir():
        raise FileNotFoundError(f"There is no image folder {folder}.")
    names = read_image_list(image_list, report_repeated=True)
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        hints: dict[str, str] = {}
        with suppress(ValueError):  # the folder may have names that cannot be used
            hints = similar_name_hints(missing, list_images(folder))
        raise ValueError(
            f"{image_list}: {len(missing)} of {len(names)} images are not in {folder}: "
            f"{enumerated(missing)}; correct the list.{hints.get(missing[0], '')}"
        )
    return names
