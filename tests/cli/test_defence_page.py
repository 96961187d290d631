"""docs/defences.md: its example, installed as a stranger's, trains from the command line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from click.testing import CliRunner
from pages import ROOT, blocks

from segbench.cli import main
from segbench.training.card import load_card

PAGE = ROOT / "docs" / "defences.md"


def test_a_strangers_defence_trains_and_is_named(
    install: Callable[..., None], tmp_path: Path
) -> None:
    (code,) = blocks(PAGE, "python")
    install("stranger", "[segbench.defences]\nbrighter = stranger_code:Brighter\n", code)
    listed = CliRunner().invoke(main, ["list", "defences", "brighter"])
    assert listed.exit_code == 0, listed.output
    assert "Images with all pixels up or down by the same." in listed.output
    done = CliRunner().invoke(main, [
        "train", "unet:width=4,depth=2", "--defence", "brighter:by=0.2", "--epochs", "1",
        "--dataset", "phantom-cxr:size=32,train_cases=4", "--workspace", str(tmp_path),
    ])  # fmt: skip
    assert done.exit_code == 0, done.output
    (folder,) = (tmp_path / "models").iterdir()
    assert folder.name.startswith("unet-depth=2,width=4_with_brighter-by=0.2@phantom-cxr")
    assert load_card(folder).defence == "brighter:by=0.2"


def test_a_start_of_another_network_is_refused_before_the_first_training(tmp_path: Path) -> None:
    data = ["--dataset", "phantom-cxr:size=32,train_cases=4", "--epochs", "1",
            "--workspace", str(tmp_path)]  # fmt: skip
    assert CliRunner().invoke(main, ["train", "unet:width=4,depth=2", *data]).exit_code == 0
    (start,) = (tmp_path / "models").iterdir()
    models = ["unet:width=4,depth=2", "unet:width=6,depth=2"]
    for asked, words in (
        (["--start-from", str(start), "--seed", "1"], "its network is"),
        (["--defence", "pir-at"], "pir-at begins from another checkpoint"),
        (["--defence", "pgd-at:steps=0"], "steps=0 must be at least 1"),
    ):
        refused = CliRunner().invoke(main, ["train", *models, *asked, *data])
        assert refused.exit_code == 2
        assert words in " ".join(refused.output.split())
    assert [start] == list((tmp_path / "models").iterdir())


def test_the_cost_on_the_page_is_that_of_its_command() -> None:
    """Of JSRT's 124 training cases, each a patient."""
    from segbench.api import Entry
    from segbench.training.cases import hold_out
    from segbench.training.recipes import load_recipe

    recipe = load_recipe("quick", "jsrt")
    entries = [Entry(f"{number}", f"{number}", (1, 8, 8)) for number in range(124)]
    cases = len(hold_out(entries, recipe.validation_fraction, 0)[0])
    text = " ".join(PAGE.read_text(encoding="utf-8").split())
    gradients = recipe.epochs * cases * (5 + 1)
    assert (
        f"`pgd-at:eps=4/255,steps=5, {recipe.epochs} epochs of {cases} cases, {gradients} "
        f"gradients (6 a case and epoch)`, since `quick` holds {124 - cases} of the 124 cases out"
    ) in text


def test_every_defence_is_on_the_page() -> None:
    from segbench.plugins.registry import names

    text = PAGE.read_text(encoding="utf-8")
    assert all(f"`{name}`" in text for name in names("defences"))
