"""grid.toml: a valid file becomes records, and every mistake becomes one sentence."""

from __future__ import annotations

import csv
from fractions import Fraction
from itertools import product
from pathlib import Path
from typing import get_type_hints

import pytest

from segbench.errors import UserError
from segbench.evaluation.grid_file import GridFile, TrainConfig, load_grid_file, override
from segbench.training.card import checkpoint_name
from segbench.training.suites import load_suite

VALID = """
dataset = "jsrt"
data_root = "data/jsrt"
split = "test"
limit = 6
models = ["unet", "nets/mine.py:build"]
weights = ["mine.pt"]
attacks = ["ifgsm", "pgd:restarts=5"]
eps = ["1/255", "4/255", 0.03, 0]
seeds = [0, 1]
precision = "fp32"
batch_size = 4
boundary = true
reports = ["csv"]

[train]
models = ["unet:width=8"]
preset = "paper"
epochs = 3
seed = 7
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "grid.toml"
    path.write_text(text)
    return path


def test_a_whole_file_is_read(tmp_path: Path) -> None:
    config = load_grid_file(write(tmp_path, VALID))
    assert config.dataset == "jsrt"
    assert config.limit == 6
    assert config.attacks == ("ifgsm", "pgd:restarts=5")
    assert config.eps == (0, Fraction(1, 255), Fraction(4, 255), Fraction(3, 100))
    assert config.seeds == (0, 1)
    assert config.precision == "fp32"
    assert config.batch_size == 4
    assert config.boundary
    assert config.reports == ("csv",)
    assert config.train is not None
    assert config.train.models == ("unet:width=8",)
    assert (config.train.preset, config.train.epochs, config.train.seed) == ("paper", 3, 7)


def test_every_option_of_the_command_line_is_a_key(tmp_path: Path) -> None:
    text = """
        models = ["mine.py:build"]
        normalize = "imagenet"
        channels = "repeat"
        dataset = "folder:size=64,classes=2"
        eps = ["1/255,2/255", 0.5]
        device = "cpu"
        quantize = true
        save_adversarial = true
        fresh = true
        allow_trained_cases = true
    """
    grid = load_grid_file(write(tmp_path, text))
    assert (grid.normalize, grid.channels, grid.device) == ("imagenet", "repeat", "cpu")
    assert grid.dataset == "folder:classes=2,size=64"
    assert grid.eps == (Fraction(1, 255), Fraction(2, 255), Fraction(1, 2))
    assert grid.quantize
    assert grid.save_adversarial
    assert grid.fresh
    assert grid.allow_trained_cases


def test_a_suite_adds_its_networks_and_seeds_replace_the_seed(tmp_path: Path) -> None:
    text = 'eps = [0.1]\n[train]\nsuite = "ablation"\nmodels = ["fcn8s", "nlcen"]\nseeds = [2, 0]'
    train = load_grid_file(write(tmp_path, text)).train
    assert train is not None
    assert train.networks[:2] == ("fcn8s", "nlcen")
    assert set(train.networks) == {"fcn8s", "nlcen", *load_suite("ablation")}
    assert len(set(train.networks)) == len(train.networks)
    assert train.training_seeds == (2, 0)
    plain = load_grid_file(write(tmp_path, VALID)).train
    assert plain is not None
    assert plain.training_seeds == (7,)


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    config = load_grid_file(write(tmp_path, VALID))
    assert config.data_root == tmp_path / "data/jsrt"
    assert config.weights == (tmp_path / "mine.pt",)
    more = 'cases = "cases.txt"\npart = "part.json"\n' + VALID + 'start_from = "begun"\n'
    config = load_grid_file(write(tmp_path, more))
    assert (config.cases, config.part) == (tmp_path / "cases.txt", tmp_path / "part.json")
    assert config.train is not None
    assert config.train.start_from == tmp_path / "begun"
    text = VALID.replace('"data/jsrt"', '"/data/jsrt"')
    assert load_grid_file(write(tmp_path, text)).data_root == Path("/data/jsrt")


def test_no_path_of_a_record_is_left_out(tmp_path: Path) -> None:
    """One that is added is relative to the file, as are all."""
    hints = {**get_type_hints(GridFile), **get_type_hints(TrainConfig)}
    paths = {name for name, hint in hints.items() if "Path" in str(hint)}
    assert paths == {"data_root", "weights", "cases", "part", "start_from"}


def test_what_is_said_goes_before_the_file_be_it_the_default(tmp_path: Path) -> None:
    text = 'executor = "processes"\nworkers = 2\ncase_timeout = 9.5\n' + VALID
    grid = load_grid_file(write(tmp_path, text))
    assert override(grid, {}) == grid
    changed = override(grid, {"executor": "local"})
    assert (changed.executor, changed.workers, changed.case_timeout) == ("local", None, None)
    assert override(grid, {"executor": "processes"}) == grid
    assert override(grid, {"executor": "ray", "workers": 3}).workers == 3


def test_eps_alone_is_enough(tmp_path: Path) -> None:
    config = load_grid_file(write(tmp_path, 'eps = ["2/255"]'))
    assert config.attacks == ("standard",)
    assert config.models == ()
    assert config.data_root is None
    assert config.train is None


WRONG = {
    "": "needs a budget, for example --eps",
    "eps = [": "is not TOML",
    'eps = "8/255"': "eps = '8/255'; expected a list",
    "eps = []": "needs a budget, for example --eps",
    'eps = ["8/0"]': "eps '8/0' divides by zero",
    'eps = ["-1"]': "eps '-1' is negative",
    "eps = [-0.1]": "eps '-0.1' is negative",
    'eps = ["0.03abc"]': "eps '0.03abc' is not a budget",
    "eps = [nan]": "eps 'nan' is not a budget",
    "eps = [inf]": "eps 'inf' is not a budget",
    "eps = [true]": "eps true is no number",
    "eps = [[0.1]]": "eps [0.1] is no number",
    "eps = [8]": "did you mean 8/255?",
    "eps = [0.1]\nattack = ['pgd']": "no key 'attack'; did you mean 'attacks'?",
    "eps = [0.1]\nattacks = []": "attacks = []; expected one entry or more",
    "eps = [0.1]\nattacks = ['pgdd']": "unknown attack 'pgdd'; did you mean 'pgd'?",
    "eps = [0.1]\nattacks = ['pgd:step=4']": "pgd has no parameter 'step'; did you mean 'steps'?",
    "eps = [0.1]\nattacks = [4]": "attacks has the entry 4; expected text",
    "eps = [0.1]\nlimit = true": "limit = true; expected a whole number",
    "eps = [0.1]\nlimit = 1.5": "limit = 1.5; expected a whole number",
    "eps = [0.1]\nlimit = '6'": "limit = '6'; expected a whole number",
    "eps = [0.1]\nfresh = 1": "fresh = 1; expected true or false",
    "eps = [0.1]\nweights = 'mine.pt'": "weights = 'mine.pt'; expected a list",
    "eps = [0.1]\nweights = [3]": "weights has the entry 3; expected a path",
    "eps = [0.1]\nchannels = 'rgb'": "channels = 'rgb'; expected 'repeat' or 'luminance'",
    "eps = [0.1]\ndataset = 'jsrt:'": "'jsrt:' is not a spec",
    "eps = [0.1]\nseeds = [18446744073709551616]": "seeds has the entry 18446744073709551616; ",
    "eps = [0.1]\nlimit = 0": "limit = 0; expected a whole number from 1 up",
    "eps = [0.1]\nlimit = 'all'": "limit = 'all'; expected a whole number",
    "eps = [0.1]\nbatch_size = 0": "batch_size = 0; expected a whole number from 1 up",
    "eps = [0.1]\nseeds = []": "seeds = []; expected one entry or more",
    "eps = [0.1]\nprecision = 'fp16'": "precision = 'fp16'; expected 'auto' or 'fp32'",
    "eps = [0.1]\nboundary = 'perhaps'": "boundary = 'perhaps'; expected true or false",
    "eps = [0.1]\nreports = ['cvs']": "unknown report 'cvs'; did you mean 'csv'?",
    "eps = [0.1]\ntrain = 3": "train = 3; expected a table",
    "eps = [0.1]\n[train]": "[train] names no network; give it models or a suite",
    "eps = [0.1]\n[train]\nsuite = 'papr'": "unknown suite 'papr'; did you mean 'paper'?",
    "eps = [0.1]\n[train]\nsuite = 'paper'\nseed = 1\nseeds = [0]": "both seed and seeds",
    "eps = [0.1]\n[train]\nsuite = 'paper'\nseeds = [0, 0]": "[0, 0] names a seed twice",
    "eps = [0.1]\n[train]\nsuite = 'paper'\nseeds = []": "train.seeds = []; expected one",
    "eps = [0.1]\n[train]\nmodels = ['unett']": "unknown model 'unett'; did you mean 'unet'?",
    "eps = [0.1]\n[train]\nmodels = ['unet']\nmodel = 1": "no key 'train.model'; did you mean",
    "eps = [0.1]\n[train]\nmodels = ['unet']\nepochs = 0": "train.epochs = 0; expected a",
}


@pytest.mark.parametrize("text", WRONG)
def test_every_mistake_is_one_sentence_that_names_file_and_value(text: str, tmp_path: Path) -> None:
    path = write(tmp_path, text)
    with pytest.raises(UserError) as caught:
        load_grid_file(path)
    message = str(caught.value)
    assert message.startswith(f"grid file {path}")
    assert WRONG[text] in message
    assert "\n" not in message
    assert not {"valid", "tuple", "str", "input"} & set(message.partition("(valid:")[0].split())


def test_a_file_that_is_not_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "grid.toml"
    path.write_bytes(b"\xff\xfe\x00eps")
    with pytest.raises(UserError, match="is not TOML"):
        load_grid_file(path)
    with pytest.raises(UserError, match="cannot be read"):
        load_grid_file(tmp_path / "absent.toml")
    with pytest.raises(UserError, match="cannot be read"):
        load_grid_file(tmp_path)


GOLDEN = Path(__file__).parents[2] / "reports" / "golden"


def test_the_grids_of_the_study_train_the_networks_of_its_golden_file() -> None:
    trained = set()
    for grid in GOLDEN.glob("nlcen-*.toml"):
        config = load_grid_file(grid)
        assert config.train is not None
        assert config.dataset is not None
        for network, seed in product(config.train.networks, config.train.training_seeds):
            trained.add(checkpoint_name(network, config.dataset, seed))
    with (GOLDEN / "nlcen.csv").open(newline="") as file:
        assert {line["model"] for line in csv.DictReader(file)} == trained
