"""Options of matching and mapping, the same in reconstructions and in their benchmark."""

from dataclasses import dataclass, field

from featplug.colmap.cameras import CameraOptions, check_camera
from featplug.colmap.mapping import Mapper, check_clusters, require_mapper
from pipelines.run_options import MatchingOptions


@dataclass(frozen=True, kw_only=True)
class MappingOptions(MatchingOptions):
    """Options of matching and mapping."""

    num_matched: int = 20
    """Number of images that each image is paired with by retrieval."""
    mapper: Mapper = "incremental"
    """COLMAP's mapper: incremental adds image after image; global takes all at once (GLOMAP,
    pycolmap 4.0 or newer); hierarchical maps clusters of images and merges them (pycolmap 4.2);
    partitioned does so cluster by cluster, with the memory of one, and keeps finished clusters."""
    cluster_images: int = 500
    """Largest number of images of a cluster of the mappers hierarchical and partitioned, without
    those that it shares with its neighbours."""
    cluster_overlap: int = 50
    """Number of images that two neighbouring clusters share."""
    camera: CameraOptions = field(default_factory=CameraOptions)
    """Cameras of COLMAP."""
    num_threads: int = -1
    """Number of threads of COLMAP's mapper; -1 for all cores. With one, the same matches give the
    same model each time."""

    def check_mapping(self) -> None:
        """Check the cameras and the mapper.

        Raises:
            ValueError: a camera's parameters do not fit, this pycolmap does not have the mapper, or
                options of clusters do not fit it.
        """
        check_camera(self.camera)
        require_mapper(self.mapper)
        check_clusters(self.mapper, self.cluster_images, self.cluster_overlap)
        if self.num_threads < 1 and self.num_threads != -1:
            raise ValueError(
                f"--num-threads must be 1 or more, or -1 for all cores, not {self.num_threads}."
            )
