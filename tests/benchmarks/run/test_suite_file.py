"""What a suite's file says, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.run.__main__ import main
from benchmarks.run.suite_data import DATA, given_data
from benchmarks.run.suite_file import chosen_blocks, read_suite
from featplug.methods import feature_conf
from featplug.methods.method_names import parse_method

SUITES = Path(__file__).parents[3] / "benchmarks" / "suites"


@pytest.fixture(autouse=True)
def no_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(DATA, raising=False)


def written(folder: Path, text: str) -> str:
    (folder / "own.toml").write_text(text)
    return str(folder / "own.toml")


def test_keys_at_the_top_are_options_of_the_blocks_that_have_them(tmp_path: Path) -> None:
    suite = read_suite(
        written(
            tmp_path,
            """
            title = "Own"
            methods = ["sift+NN-ratio"]
            max_keypoints = 300
            seeds = [3, 4]
            pictures = false

            [matching.oxford]
            dataset = "oxford"
            protocol = ["oxford-mma", "oxford-ap"]

            [reconstruction.corner]
            scenes = ["corner", "demo-5"]
            num_seeds = 1
            max_keypoints = 200
            camera = { model = "PINHOLE" }

            [reconstruction.again]
            methods = [
                { name = "sift", matcher = "NN-mutual", option = { contrast_threshold = 0.01 } },
                { name = "doap", weights = "featplug" },
            ]
            scenes = ["corner"]
            """,
        ),
        more_methods=["disk"],
    )
    matching, corner, again = (block.options for block in suite.blocks)
    assert suite.title == "Own"
    assert [block.name for block in suite.blocks] == [
        "matching.oxford",
        "reconstruction.corner",
        "reconstruction.again",
    ]
    assert matching.feature == corner.feature == ("sift+NN-ratio", "disk")
    assert (matching.max_keypoints, corner.max_keypoints, again.max_keypoints) == (300, 200, 300)
    assert matching.protocol == ("oxford-mma", "oxford-ap")
    assert not matching.pictures
    assert (matching.seeds, matching.num_seeds) == ((), None)  # only estimators have seeds
    assert (corner.chosen_seeds(), again.chosen_seeds()) == ((0,), (3, 4))
    assert corner.camera.model == "PINHOLE"
    assert again.feature == ("sift+NN-mutual", "doap")
    assert again.option == (("sift+NN-mutual", "contrast_threshold=0.01"),)
    assert again.weights == (("doap", "featplug"),)


def test_data_are_those_given_or_next_to_the_suite_or_in_the_folder_of_the_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("suites/beside", "data/strecha/fountain", "elsewhere/fountain", "data/demo"):
        (tmp_path / name).mkdir(parents=True)
    monkeypatch.setenv(DATA, str(tmp_path / "data"))
    (tmp_path / "suites" / "method.py").write_text("")
    (tmp_path / "suites" / "feats.h5").write_text("")
    text = """
        methods = ["sift", "method.py:Mine+NN-ratio"]
        features = ["own+NN-mutual=feats.h5"]
        [reconstruction.all]
        scenes = ["beside", "strecha/fountain", "demo", "nowhere", "strecha/herz"]
        """
    path = written(tmp_path / "suites", text)
    suite = read_suite(path)
    assert suite.blocks[0].options.scenes == (
        tmp_path / "suites" / "beside",
        tmp_path / "data" / "strecha" / "fountain",
        *map(Path, ("demo", "nowhere", "strecha/herz")),
    )
    assert suite.missing == ["nowhere", "strecha/herz"]
    assert suite.blocks[0].options.feature[1] == f"{tmp_path}/suites/method.py:Mine+NN-ratio"
    assert suite.blocks[0].options.features == (f"own+NN-mutual={tmp_path}/suites/feats.h5",)
    given = given_data([f"strecha={tmp_path}/elsewhere", f"nowhere={tmp_path}"])
    suite = read_suite(path, given)
    assert suite.blocks[0].options.scenes[1] == tmp_path / "elsewhere" / "fountain"
    assert suite.blocks[0].options.scenes[3:] == (tmp_path, tmp_path / "elsewhere" / "herz")
    assert suite.missing == []


def test_blocks_are_chosen_by_their_name_or_benchmark(tmp_path: Path) -> None:
    text = """
        [matching.a]
        dataset = "a"
        [matching.b]
        dataset = "b"
        [reconstruction.a]
        scenes = ["a"]
        """
    suite = read_suite(written(tmp_path, text))
    chosen = {
        name: [block.name for block in chosen_blocks(suite, [name])]
        for name in ("matching", "a", "matching.b")
    }
    assert chosen == {
        "matching": ["matching.a", "matching.b"],
        "a": ["matching.a", "reconstruction.a"],
        "matching.b": ["matching.b"],
    }
    with pytest.raises(ValueError, match=r"'c'.* matching\.a, matching\.b, reconstruction\.a"):
        chosen_blocks(suite, ["c"])


BLOCK = "[matching.oxford]\ndataset = 'oxford'\n"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("methods = [", "own.toml is not a suite"),
        (BLOCK + BLOCK, "Cannot declare ('matching', 'oxford') twice"),
        ("methods = ['sift']", "own.toml has no benchmark"),
        (f"methods = 'sift'\n{BLOCK}", "[matching.oxford]: methods must be a list"),
        (f"methods = [3]\n{BLOCK}", "expected the name of a method"),
        (f"methods = [{{name = 'sift', weight = 'x'}}]\n{BLOCK}", "Did you mean 'weights'?"),
        (f"methods = [{{name = 'sift', matcher = 3}}]\n{BLOCK}", "method sift, matcher"),
        (
            f"methods = ['sift', {{name = 'sift', option = {{a = 1}}}}]\n{BLOCK}",
            "sift is listed with two sets of options",
        ),
        (f"max_keypoint = 5\n{BLOCK}", "Did you mean 'max_keypoints'?"),
        (f"title = 5\n{BLOCK}", "title must be a text"),
        (f"{BLOCK}protocols = ['oxford-mma']", "Did you mean 'protocol'?"),
        (f"{BLOCK}protocol = 'oxford-mma'", "[matching.oxford]: protocol must be"),
        (f"{BLOCK}max_keypoints = 0", "[matching.oxford]: --max-keypoints must be 1 or more"),
        (f"{BLOCK}outputs = 'x'", "[matching.oxford]: outputs is set by the suite"),
        (f"{BLOCK}feature = ['sift']", "use methods"),
        (f"{BLOCK}method_files = ['no.toml']", "no.toml"),
        ("[matching]\ndataset = 'oxford'", "write [matching.NAME]"),
        ("[matching.oxford]\nprotocol = ['oxford-mma']", "[matching.oxford] has no dataset"),
        ("[matching.'a/b']\ndataset = 'oxford'", "[matching.a/b]"),
        (f"{BLOCK}[matching.Oxford]\ndataset = 'x'", "matching.oxford is the name of two blocks"),
        ("[match.oxford]\ndataset = 'oxford'", "Did you mean 'matching'?"),
        ("[run.oxford]\ndataset = 'oxford'", "There is no benchmark 'run'"),
    ],
)
def test_what_is_no_suite(
    tmp_path: Path, refusal: Callable[..., str], text: str, reason: str
) -> None:
    path = written(tmp_path, text)
    line = refusal(main, "featplug bench run", path, "--outputs", tmp_path / "out")
    assert reason in line
    assert "own.toml" in line
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["no.toml"], "no.toml"),
        (["quik"], "Did you mean 'quick'?"),
        (["{0}", "--data", "oxford"], "NAME=DIR"),
        (["{0}", "--data", "oxford=a", "oxford/=b"], "twice"),
        (["{0}", "--data", "oxfort=a"], "Did you mean 'oxford'?"),
        (["{0}", "--only", "oxfort"], "there are matching.oxford"),
        (["{0}", "--jobs", "0"], "--jobs must be 1 or more"),
    ],
)
def test_what_cannot_be_begun(
    tmp_path: Path, refusal: Callable[..., str], arguments: list[str], reason: str
) -> None:
    path = written(tmp_path, f"methods = ['sift']\n{BLOCK}")
    words = [word.format(path) for word in arguments]
    assert reason in refusal(main, "featplug bench run", *words, "--outputs", tmp_path / "out")


@pytest.mark.parametrize("path", sorted(SUITES.glob("*.toml")), ids=lambda path: path.stem)
def test_the_suites_of_featplug_name_what_exists(path: Path) -> None:
    suite = read_suite(path.stem)
    for block in suite.blocks:
        assert len(set(block.options.feature)) == len(block.options.feature)
        for name in block.options.feature:
            if not name.startswith("hloc/"):  # of hloc, which may not be installed
                feature_conf(parse_method(name).feature)
