"""Geometries without a configuration, and the command line, as hloc's own at commit c13273b."""

import argparse
from pathlib import Path

import pycolmap


def import_matches(db, matches, **given):
    for (id0, id1), of_pair in matches.items():
        db.write_two_view_geometry(
            id0, id1, pycolmap.TwoViewGeometry(inlier_matches=of_pair, **given)
        )


def main(reference_model, skip_geometric_verification=False, mapper_options=None):
    geometry = pycolmap.TwoViewGeometry(inlier_matches=[[0, 0]])
    kind = pycolmap.TwoViewGeometryConfiguration(geometry.config).name
    print(kind, reference_model, skip_geometric_verification, mapper_options)


def parse_option_args(args, default_options):
    return dict(arg.split("=") for arg in args)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--reference_sfm_model", type=Path, required=True)
    parser.add_argument("--skip_geometric_verification", action="store_true")
    args = parser.parse_args().__dict__

    mapper_options = parse_option_args(
        args.pop("mapper_options"), pycolmap.IncrementalMapperOptions()
    )

    main(**args, mapper_options=mapper_options)
