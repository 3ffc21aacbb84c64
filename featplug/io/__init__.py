"""Files: images, names, pair lists, HDF5 stores, records of runs, exchange with other tools."""
