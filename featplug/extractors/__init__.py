"""Local features and global descriptors, one file per method, its confs next to its class."""
