"""Retrieval: VLAD written out, files that hloc reads, pairs by hloc's rule, kill and resume."""

from __future__ import annotations

import dataclasses
import multiprocessing
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from PIL import Image

from featplug.base import GlobalExtractor
from featplug.extractors import vlad
from featplug.extractors.vlad import VLADOptions, Vocabulary, learn_vocabulary
from featplug.io.artifact import Provenance
from featplug.io.store import FeatureWriter, GlobalDescriptorReader, GlobalDescriptorWriter
from featplug.methods import retrieval_conf
from featplug.stages.retrieval_pairs import pairs_from_retrieval
from featplug.stages.retrieve import global_descriptors, select_images
from tests.scenes.pictures import write_textured_images
from tests.stages.test_extract import assert_same_content

NUM_IMAGES = 40


def write_features(
    path: Path, num_images: int = NUM_IMAGES, dimensions: int = 16, num: int = 60, seed: int = 0
) -> list[str]:
    """Features of places in a row: each image's descriptors are near those of its neighbours."""
    rng = np.random.default_rng(seed)
    world = rng.standard_normal((dimensions, num + 10 * num_images))
    names = [f"db/{i:03}.jpg" for i in range(num_images)]
    with FeatureWriter(path, Provenance("features", {"seed": seed})) as writer:
        for i, name in enumerate(names):
            descriptors = world[:, 10 * i : 10 * i + num]
            descriptors = descriptors + 0.1 * rng.standard_normal(descriptors.shape)
            features = {
                "keypoints": np.zeros((num, 2), np.float32),
                "scores": np.ones(num, np.float32),
                "descriptors": descriptors.astype(np.float16),
            }
            writer.write(name, features, (64, 48), 1.0, f"file-{i}")
    return names


@pytest.fixture(scope="module")
def features(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("features") / "feats.h5"
    write_features(path)
    return path


def small_conf(**options: int | float) -> dict[str, object]:
    conf = retrieval_conf("vlad")
    conf["model"].update({"num_clusters": 8, **options})
    return conf


def stored(path: Path) -> dict[str, np.ndarray]:
    with GlobalDescriptorReader(path) as reader:
        return {name: reader.read([name])[0] for name in reader.names()}


def unit(vector: np.ndarray) -> np.ndarray:
    length = np.linalg.norm(vector)
    return vector / length if length > 0 else vector


def literal_vlad(descriptors: np.ndarray, vocabulary: Vocabulary, power: float) -> np.ndarray:
    """Descriptor by descriptor and word by word, in float64."""
    centroids = vocabulary.centroids.astype(float)
    sums = np.zeros_like(centroids)
    for column in descriptors.T.astype(float):
        local = unit(column)
        if vocabulary.local_mean.size:
            local = (local - vocabulary.local_mean) @ vocabulary.local_components
        word = min(range(len(centroids)), key=lambda k: np.linalg.norm(local - centroids[k]))
        sums[word] += local - centroids[word]
    sums = np.sign(sums) * abs(sums) ** power
    vector = unit(np.concatenate([unit(row) for row in sums]))
    if vocabulary.mean.size:
        vector = unit((vector - vocabulary.mean) @ vocabulary.whitening)
    return vector


@pytest.mark.parametrize(
    "options", [{}, {"power": 0.5}, {"max_dimensions": 6}, {"num_components": 8}]
)
def test_vlad_is_what_the_papers_say(
    features: Path, tmp_path: Path, options: dict[str, float]
) -> None:
    summary = global_descriptors(small_conf(**options), export_dir=tmp_path, features=features)
    assert summary.num_described == len(summary.names) == NUM_IMAGES
    assert summary.descriptor_path.name == "feats_global-feats-featplug-vlad.h5"
    vocabulary, _ = Vocabulary.load(summary.descriptor_path.with_suffix(".safetensors"))
    found = stored(summary.descriptor_path)
    with h5py.File(features) as file:
        for name in summary.names[::7]:
            expected = literal_vlad(
                file[name]["descriptors"][()], vocabulary, options.get("power", 1)
            )
            np.testing.assert_allclose(found[name], expected, atol=2e-6)
    lengths = {len(v) for v in found.values()}
    assert lengths == {options.get("num_components", 8 * options.get("max_dimensions", 16))}


def test_words_are_cluster_centres_whatever_the_data_type() -> None:
    """Eight tight groups of descriptors give their means, with float16 as with float64."""
    rng = np.random.default_rng(3)
    means = np.linalg.qr(rng.standard_normal((8, 8)))[0]
    groups = np.repeat(means, 50, axis=0) + 0.01 * rng.standard_normal((400, 8))
    vocabulary = learn_vocabulary(vlad.unit_rows(groups.T), VLADOptions(num_clusters=8))
    distances = np.linalg.norm(vocabulary.centroids[:, None] - means, axis=2)
    assert sorted(distances.argmin(1)) == list(range(8))
    assert distances.min(1).max() < 0.01
    near = vocabulary.encode(groups[:30].T) @ vocabulary.encode(groups[:30].T.astype(np.float16))
    assert near > 0.999


@pytest.mark.parametrize("kind", ["binary", "four heads", "lengths that say how reliable"])
def test_descriptors_of_every_kind_tell_places_apart(tmp_path: Path, kind: str) -> None:
    """As doap-binary, lisrd and mtldesc store theirs."""
    rng = np.random.default_rng(5)
    words = rng.standard_normal((4, 128, 40))  # four places of 40 descriptors
    with FeatureWriter(tmp_path / "feats.h5", Provenance("features", {})) as writer:
        for i in range(8):  # two photographs of each
            local = words[i % 4] + 0.3 * rng.standard_normal((128, 40))
            if kind == "binary":
                local = np.sign(np.concatenate([local, -local[::-1]])) / 16
            elif kind == "four heads":
                local = np.concatenate([local / np.linalg.norm(local, axis=0)] * 4)
            else:
                local = local * rng.uniform(0.1, 9, 40)
            features = {
                "keypoints": np.zeros((40, 2), np.float32),
                "scores": np.ones(40, np.float32),
                "descriptors": local.astype(np.float16),
            }
            writer.write(f"{i}.jpg", features, (64, 48), 1.0, "")
    summary = global_descriptors(small_conf(), None, tmp_path, features=tmp_path / "feats.h5")
    pairs = pairs_from_retrieval(summary.descriptor_path, 1)
    assert pairs == [(f"{i}.jpg", f"{(i + 4) % 8}.jpg") for i in range(8)]


def test_neighbours_are_found_and_the_seed_decides(features: Path, tmp_path: Path) -> None:
    conf = small_conf()
    first = global_descriptors(conf, export_dir=tmp_path / "0", features=features)
    again = global_descriptors(conf, export_dir=tmp_path / "1", features=features)
    other = global_descriptors(small_conf(seed=1), export_dir=tmp_path / "2", features=features)
    assert_same_content(first.descriptor_path, again.descriptor_path)
    name = first.names[0]
    assert not np.array_equal(
        stored(other.descriptor_path)[name], stored(first.descriptor_path)[name]
    )
    for path in (first.descriptor_path, other.descriptor_path):
        pairs = pairs_from_retrieval(path, 2)
        near = [abs(int(a[3:6]) - int(b[3:6])) <= 2 for a, b in pairs]
        assert np.mean(near) > 0.95


def test_hloc_reads_the_names_and_the_descriptors(features: Path, tmp_path: Path) -> None:
    """As hloc's readers do: each parent of a data set is an image that has a descriptor."""
    path = global_descriptors(small_conf(), export_dir=tmp_path, features=features).descriptor_path
    parents = set()
    with h5py.File(path, "r", libver="latest") as file:
        file.visititems(
            lambda _, item: (
                parents.add(item.parent.name.strip("/")) if isinstance(item, h5py.Dataset) else None
            )
        )
        matrix = torch.from_numpy(
            np.stack([file[name]["global_descriptor"].__array__() for name in sorted(parents)])
        ).float()
        assert file["db/003.jpg"]["image_size"][()].tolist() == [64, 48]
    names = sorted(parents)
    assert names == [f"db/{i:03}.jpg" for i in range(NUM_IMAGES)]
    scores = torch.einsum("id,jd->ij", matrix, matrix)
    scores[torch.eye(len(names), dtype=bool) | (scores < 0)] = float("-inf")
    top = torch.topk(scores, 5, dim=1)
    expected = [
        (names[i], names[int(top.indices[i, j])])
        for i in range(len(names))
        for j in range(5)
        if top.values[i, j].isfinite()
    ]
    assert pairs_from_retrieval(path, 5, min_score=0) == expected


def write_descriptors(path: Path, vectors: dict[str, list[float]], **conf: object) -> Path:
    with GlobalDescriptorWriter(path, Provenance("global descriptors", conf)) as writer:
        for name, vector in vectors.items():
            writer.write(name, np.array(vector, np.float32), (8, 8), "")
    return path


VECTORS = {
    "db/a": [1.0, 0.0],
    "db/b": [0.8, 0.6],
    "db/c": [0.8, 0.6],
    "db/d": [-1.0, 0.0],
    "db/empty": [0.0, 0.0],
    "query/q": [0.8, 0.6],
    "query/empty": [0.0, 0.0],
}


def test_pairs_are_the_nearest_with_ties_in_order(tmp_path: Path) -> None:
    path = write_descriptors(tmp_path / "global.h5", VECTORS)
    database = ["db/c", "db/b", "db/a", "db/d", "db/empty"]
    chosen = pairs_from_retrieval(path, 3, ["query/q", "query/empty", "db/b"], database)
    assert chosen == [
        ("query/q", "db/c"),
        ("query/q", "db/b"),
        ("query/q", "db/a"),
        ("db/b", "db/c"),
        ("db/b", "db/a"),
        ("db/b", "db/d"),
    ]
    assert pairs_from_retrieval(path, 9, ["query/q"], database, min_score=0) == chosen[:3]
    assert len(pairs_from_retrieval(path, 9)) == 5 * 4  # those that have no features make no pair


def test_a_descriptor_that_cannot_be_used_is_paired_with_none(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "global.h5"
    vectors = {"a.jpg": [1, 0.1], "b.jpg": [np.nan, 1], "c.jpg": [1, 0.2], "d.jpg": [[1, 0]]}
    with h5py.File(path, "w") as file:
        for name, vector in vectors.items():
            file[f"{name}/global_descriptor"] = np.array(vector, np.float32)
    assert pairs_from_retrieval(path, 3) == [("a.jpg", "c.jpg"), ("c.jpg", "a.jpg")]
    for name in ("b.jpg", "d.jpg"):
        assert f"global.h5: '{name}': global_descriptor" in caplog.text
    with pytest.raises(ValueError, match=r"global\.h5: 'b\.jpg': global_descriptor must be finite"):
        pairs_from_retrieval(path, 3, ["a.jpg"], ["b.jpg"])


def test_images_that_cannot_be_summed_up_are_skipped(features: Path, tmp_path: Path) -> None:
    """Neither for the vocabulary nor for descriptors; hloc's files, without sizes, will do."""
    path = tmp_path / "theirs.h5"
    with h5py.File(features, "r") as ours, h5py.File(path, "w") as file:
        for name in ours["db"]:
            for key in ("keypoints", "descriptors"):
                file[f"db/{name}/{key}"] = ours[f"db/{name}/{key}"][()]
        file["db/001.jpg/descriptors"][0, 0] = np.inf
        del file["db/002.jpg/descriptors"]
        del file["db/003.jpg/descriptors"]
        file["db/003.jpg/descriptors"] = np.ones((3, 60))
    done = global_descriptors(small_conf(), features=path, export_dir=tmp_path)
    assert set(done.skipped) == {f"db/00{i}.jpg" for i in (1, 2, 3)}
    assert all("theirs.h5" in reason for reason in done.skipped.values())
    assert done.num_described == NUM_IMAGES - 3
    again = global_descriptors(small_conf(), features=path, export_dir=tmp_path)
    assert (again.num_described, again.num_present) == (0, NUM_IMAGES - 3)
    with GlobalDescriptorReader(done.descriptor_path) as reader:
        assert len(reader.names()) == NUM_IMAGES - 3


def test_database_in_other_files(tmp_path: Path) -> None:
    first = {name: v for name, v in VECTORS.items() if name in ("db/a", "db/b")}
    second = {name: v for name, v in VECTORS.items() if name in ("db/c", "db/d")}
    queries = {name: v for name, v in VECTORS.items() if name.startswith("query")}
    files = [write_descriptors(tmp_path / f"{i}.h5", v) for i, v in enumerate((first, second))]
    path = write_descriptors(tmp_path / "queries.h5", queries)
    whole = write_descriptors(tmp_path / "whole.h5", VECTORS)
    expected = pairs_from_retrieval(whole, 3, ["query/q"], ["db/a", "db/b", "db/c", "db/d"])
    assert pairs_from_retrieval(path, 3, database_descriptors=files) == expected
    other = write_descriptors(tmp_path / "other.h5", first, model="netvlad")
    with pytest.raises(ValueError, match=r"was made with .*cannot be compared"):
        pairs_from_retrieval(path, 3, database_descriptors=other)


def test_names_by_prefix_and_list(tmp_path: Path) -> None:
    names = list(VECTORS)
    assert select_images(names, "query/") == ["query/q", "query/empty"]
    assert select_images(names, ["db/a", "query/q"]) == ["db/a", "query/q"]
    (tmp_path / "list.txt").write_text("query/q SIMPLE_RADIAL 8 8 9 4 4 0\ndb/a\n")
    assert select_images(names, None, tmp_path / "list.txt") == ["query/q", "db/a"]
    assert select_images(names, "db/a", tmp_path / "list.txt") == ["db/a"]  # as hloc
    assert select_images(names) == names
    with pytest.raises(ValueError, match="None of the 7 image names starts with night/"):
        select_images(names, "night/")


def test_bad_requests_are_told(features: Path, tmp_path: Path) -> None:
    path = write_descriptors(tmp_path / "global.h5", VECTORS)
    with pytest.raises(ValueError, match=r"no global descriptor of 'x' and 1 more in .*global\.h5"):
        pairs_from_retrieval(path, 1, ["x", "y", "db/a"])
    with pytest.raises(ValueError, match=r"no global descriptors in .*feats\.h5; compute"):
        pairs_from_retrieval(features, 1)
    for images, role in ((([], None), "query"), ((None, []), "database")):
        with pytest.raises(ValueError, match=rf"no {role} images to pair; choose .*global\.h5"):
            pairs_from_retrieval(path, 1, *images)
    with pytest.raises(FileNotFoundError, match=r"no file .*gone\.h5"):
        pairs_from_retrieval(tmp_path / "gone.h5", 1)
    with pytest.raises(ValueError, match="num_matched must be at least 1"):
        pairs_from_retrieval(path, 0)
    with pytest.raises(ValueError, match="--features"):
        global_descriptors("vlad", export_dir=tmp_path)
    with pytest.raises(ValueError, match="netvlad describes images"):
        global_descriptors("netvlad", export_dir=tmp_path)
    with pytest.raises(ValueError, match="bow"):
        global_descriptors("bow", export_dir=tmp_path)
    with pytest.raises(ValueError, match=r"feats\.h5 .*another file"):
        global_descriptors("vlad", features=features, descriptor_path=features)
    with pytest.raises(ValueError, match="256 words cannot be learnt from 60 local"):
        global_descriptors("vlad", None, tmp_path, ["db/000.jpg"], features=features)
    conf = small_conf(num_components=8)
    names = [f"db/{i:03}.jpg" for i in range(7)]
    with pytest.raises(ValueError, match="whitening cannot be learnt from 7 images"):
        global_descriptors(conf, None, tmp_path, names, features=features)


def test_missing_and_empty_images(tmp_path: Path) -> None:
    names = write_features(tmp_path / "feats.h5")
    provenance = Provenance("features", {"seed": 0})
    with FeatureWriter(tmp_path / "feats.h5", provenance) as writer:
        empty = {
            "keypoints": np.zeros((0, 2), np.float32),
            "scores": np.zeros(0, np.float32),
            "descriptors": np.zeros((16, 0), np.float16),
        }
        writer.write("night/black.jpg", empty, (64, 48), 1.0, "")
    for components in (0, 8):
        summary = global_descriptors(
            small_conf(num_components=components),
            None,
            tmp_path / str(components),
            [*names, "night/black.jpg", "gone.jpg"],
            features=tmp_path / "feats.h5",
        )
        assert list(summary.skipped) == ["gone.jpg"]
        assert "has no features of 'gone.jpg'" in summary.skipped["gone.jpg"]
        found = stored(summary.descriptor_path)
        assert not found["night/black.jpg"].any()
        pairs = pairs_from_retrieval(summary.descriptor_path, 3)
        assert len(pairs) == 3 * len(names)
        assert not any("night/black.jpg" in pair for pair in pairs)
    with pytest.raises(ValueError, match=r"None of the 1 images could be used; .*gone\.jpg"):
        global_descriptors(
            small_conf(), None, tmp_path / "1", ["gone.jpg"],
            features=tmp_path / "feats.h5", vocabulary=vocabulary_of(summary.descriptor_path),
        )  # fmt: skip


def vocabulary_of(path: Path) -> Path:
    return path.with_suffix(".safetensors")


def test_new_images_get_the_vocabulary_that_was_learnt(features: Path, tmp_path: Path) -> None:
    names = [f"db/{i:03}.jpg" for i in range(NUM_IMAGES)]
    first = global_descriptors(small_conf(), None, tmp_path, names[:30], features=features)
    content = vocabulary_of(first.descriptor_path).read_bytes()
    grown = global_descriptors(small_conf(), None, tmp_path, features=features)
    assert (grown.num_described, grown.num_present) == (10, 30)
    assert vocabulary_of(grown.descriptor_path).read_bytes() == content
    # Learnt from the database only, whatever else is described.
    at_once = global_descriptors(
        small_conf(), None, tmp_path / "at once", features=features, database=names[:30]
    )
    assert_same_content(at_once.descriptor_path, grown.descriptor_path)
    one_more = global_descriptors(
        small_conf(),
        None,
        tmp_path,
        features=features,
        database=names[:31],
        database_may_change=True,
    )
    assert vocabulary_of(one_more.descriptor_path).read_bytes() == content
    # Another feature file of the same kind takes it, one of other dimensions does not.
    write_features(tmp_path / "queries.h5", 5, seed=1)
    given = vocabulary_of(first.descriptor_path)
    queries = global_descriptors(
        "vlad", None, tmp_path, features=tmp_path / "queries.h5", vocabulary=given
    )
    assert queries.weights == first.weights
    database = first.descriptor_path
    pairs = pairs_from_retrieval(queries.descriptor_path, 2, database_descriptors=database)
    assert len(pairs) == 10
    write_features(tmp_path / "longer.h5", 5, dimensions=32)
    with pytest.raises(ValueError, match=r"longer\.h5 have 32 dimensions, .*vocabulary 16"):
        global_descriptors(
            "vlad", None, tmp_path, features=tmp_path / "longer.h5", vocabulary=given
        )


@pytest.mark.parametrize(
    "change",
    [
        {"centroids": np.full((8, 16), np.nan, np.float32)},
        {"centroids": np.zeros((0, 16), np.float32)},
        {"centroids": np.zeros((8, 15), np.float64)},
        {"centroids": np.zeros(16, np.float32)},
        {"local_mean": np.zeros(16, np.float32)},
        {"local_mean": np.zeros(16, np.float32), "local_components": np.eye(17, dtype=np.float32)},
        {"mean": np.zeros(128, np.float32)},
        {"mean": np.zeros(128, np.float32), "whitening": np.zeros((127, 4), np.float32)},
        {"options": VLADOptions(power="x")},
    ],
)
def test_a_vocabulary_that_does_not_fit_itself_is_named(
    tmp_path: Path, change: dict[str, object]
) -> None:
    words = np.random.default_rng(0).standard_normal((100, 16)).astype(np.float32)
    whole = learn_vocabulary(vlad.unit_rows(words.T), VLADOptions(num_clusters=8))
    path = tmp_path / "words.safetensors"
    whole.save(path, {})
    Vocabulary.load(path)
    dataclasses.replace(whole, **change).save(path, {})
    with pytest.raises(ValueError, match=r"words\.safetensors is not a vocabulary.*another one"):
        Vocabulary.load(path)


def test_other_settings_and_features_are_refused(features: Path, tmp_path: Path) -> None:
    path = global_descriptors(small_conf(), None, tmp_path, features=features).descriptor_path
    with pytest.raises(ValueError, match=r"safetensors was made with power .*--overwrite"):
        global_descriptors(small_conf(power=0.5), None, tmp_path, features=features)
    write_features(tmp_path / "feats.h5", 30)
    with pytest.raises(ValueError, match=r"safetensors was made from other features"):
        global_descriptors(small_conf(), None, tmp_path, features=tmp_path / "feats.h5")
    names = [f"db/{i:03}.jpg" for i in range(NUM_IMAGES)]
    with pytest.raises(ValueError, match=r"other database images; .*--overwrite"):
        global_descriptors(small_conf(), None, tmp_path, features=features, database=names[:30])
    turned = names[::-1]
    global_descriptors(small_conf(), None, tmp_path, features=features, database=turned)
    kept = vocabulary_of(path).rename(tmp_path / "kept.safetensors")
    global_descriptors(small_conf(seed=3), None, tmp_path / "3", features=features)
    other = vocabulary_of(tmp_path / "3" / path.name)
    with pytest.raises(ValueError, match="was made with"):
        global_descriptors(small_conf(), None, tmp_path, features=features, vocabulary=other)
    again = global_descriptors(small_conf(), None, tmp_path, features=features, vocabulary=kept)
    assert again.num_described == 0
    anew = global_descriptors(
        small_conf(power=0.5), None, tmp_path, features=features, overwrite=True
    )
    assert anew.num_described == NUM_IMAGES
    kept.write_bytes(b"no tensors")
    with pytest.raises(ValueError, match=r"kept\.safetensors"):
        global_descriptors(small_conf(), None, tmp_path, features=features, vocabulary=kept)
    with pytest.raises(FileNotFoundError, match="no vocabulary"):
        global_descriptors("vlad", None, tmp_path, features=features, vocabulary=tmp_path / "gone")


def _describe_slowly(features: Path, folder: Path) -> None:
    write = GlobalDescriptorWriter.write

    def slowly(self: GlobalDescriptorWriter, *arguments: object) -> None:
        write(self, *arguments)  # type: ignore[arg-type]
        time.sleep(0.05)

    GlobalDescriptorWriter.write = slowly  # type: ignore[method-assign]
    global_descriptors(small_conf(), export_dir=folder, features=features)


@pytest.mark.slow
def test_a_killed_run_goes_on(features: Path, tmp_path: Path) -> None:
    whole = global_descriptors(small_conf(), export_dir=tmp_path / "whole", features=features)
    path = tmp_path / "killed" / whole.descriptor_path.name
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=_describe_slowly, args=(features, path.parent))
    process.start()
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not (path.exists() and path.stat().st_size > 20_000):
        time.sleep(0.01)
    process.kill()
    process.join()
    num_there = len(stored(path))
    assert 0 < num_there < NUM_IMAGES
    summary = global_descriptors(small_conf(), export_dir=path.parent, features=features)
    assert summary.num_present == num_there
    assert summary.num_described == NUM_IMAGES - num_there
    assert_same_content(path, whole.descriptor_path)


def test_learning_draws_within_bounds(
    features: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is held in memory to learn from does not grow with images or keypoints."""
    shapes = []
    learn, whiten = vlad.learn_vocabulary, vlad.learn_whitening

    def spy(sample: np.ndarray, options: VLADOptions) -> Vocabulary:
        shapes.append(sample.shape)
        return learn(sample, options)

    def spy_whitening(vocabulary: Vocabulary, vectors: np.ndarray) -> Vocabulary:
        shapes.append(vectors.shape)
        return whiten(vocabulary, vectors)

    monkeypatch.setattr(vlad, "learn_vocabulary", spy)
    monkeypatch.setattr(vlad, "learn_whitening", spy_whitening)
    monkeypatch.setattr(vlad, "_SAMPLE_IMAGES", 12)
    monkeypatch.setattr(vlad, "_SAMPLE_BYTES", 12 * 20 * 16 * 4)
    monkeypatch.setattr(vlad, "_WHITENING_IMAGES", 24)
    summary = global_descriptors(
        small_conf(num_components=4), export_dir=tmp_path, features=features
    )
    assert shapes == [(12 * 20, 16), (24, 8 * 16)]
    assert summary.num_described == NUM_IMAGES


class MeanColour(GlobalExtractor):
    """Stands in for a network: the mean colour, which says where the pixels came from."""

    def describe(self, image: torch.Tensor) -> torch.Tensor:
        if image.shape[-1] < 16:
            raise ValueError("too few pixels")
        if image[0].max() == 0:
            return torch.full((3,), 1e10)
        return torch.nn.functional.normalize(image.mean((1, 2)), dim=0)


def test_images_are_described_resumed_and_skipped(tmp_path: Path) -> None:
    names = write_textured_images(tmp_path / "images", 3)
    Image.new("RGB", (80, 60), (200, 0, 100)).save(tmp_path / "images" / "red.png")
    Image.new("RGB", (8, 8)).save(tmp_path / "images" / "small.png")
    Image.new("RGB", (80, 60)).save(tmp_path / "images" / "black.png")
    (tmp_path / "images" / "bad.jpg").write_bytes(b"\xff\xd8")
    conf = {
        "output": "global-feats-featplug-colour",
        "model": {"name": "tests.stages.test_retrieve:MeanColour"},
        "preprocessing": {"resize_max": 40},
    }
    summary = global_descriptors(conf, tmp_path / "images", tmp_path)
    assert summary.names == [*names, "red.png"]
    assert "small.png: too few pixels" in summary.skipped["small.png"]
    assert "Cannot read" in summary.skipped["bad.jpg"]
    assert "global_descriptor must have unit length" in summary.skipped["black.png"]
    colour = np.array([200, 0, 100]) / np.linalg.norm([200, 0, 100])
    np.testing.assert_allclose(stored(summary.descriptor_path)["red.png"], colour, atol=1e-6)
    again = global_descriptors(conf, tmp_path / "images", tmp_path)
    assert (again.num_described, again.num_present) == (0, 4)
    Image.new("RGB", (80, 60), (0, 9, 0)).save(tmp_path / "images" / "red.png")
    with pytest.raises(ValueError, match=r"red\.png is another photograph"):
        global_descriptors(conf, tmp_path / "images", tmp_path)
