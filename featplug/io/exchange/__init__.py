"""Features and matches from and to the files of other tools, one module a format.

Everything goes through our HDF5 files, image by image and pair by pair, so that memory stays
bounded. Where each format has the origin of its keypoints:

============== ==================================== =============================================
module         centre of the first pixel            source
============== ==================================== =============================================
colmap         (0.5, 0.5)                           COLMAP's documentation of its database
kapture        (0.5, 0.5)                           "[0, 0] is the upper left corner"; its
                                                    converters copy COLMAP's keypoints unchanged
schoenberger   (0, 0)                               the benchmark's own export from COLMAP takes
                                                    0.5 off
d2net          (0, 0)                               D2-Net's extraction and its HPatches
                                                    evaluation
============== ==================================== =============================================
"""
