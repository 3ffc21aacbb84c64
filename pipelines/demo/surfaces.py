"""A world to be photographed: its faces, their textures, and its lamps."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from pipelines.demo.geometry import FaceBuilder, Faces
from pipelines.demo.textures import Texture


@dataclass(frozen=True)
class Scene:
    """A world to be photographed."""

    faces: Faces
    textures: list[Texture]
    lamps: np.ndarray
    """L×3 places of the lamps that burn at night."""
    lamp_texture: int
    """Texture of what shines itself."""


@dataclass
class SceneBuilder(FaceBuilder):
    """Collects a scene."""

    textures: list[Texture] = field(default_factory=list)
    lamps: list[np.ndarray] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def texture(self, texture: Texture) -> int:
        """Add a texture; gives its index."""
        self.textures.append(texture)
        return len(self.textures) - 1

    def scene(self, lamp_texture: int) -> Scene:
        """All so far."""
        lamps = np.array(self.lamps).reshape(-1, 3)
        return Scene(self.build(), self.textures, lamps, lamp_texture)
