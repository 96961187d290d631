"""One flipped bit in a file of the workspace never becomes another score without a word."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from click.testing import Result

MODEL = "unet:width=2,depth=2"
ATTACK = (
    "attack -a noise -a uap:epochs=1,batch=3 --eps 8/255 --precision fp32 --device cpu "
    "--save-adversarial"
)
MEASURE = f"{ATTACK} --boundary"  # asks for more, and so for the images
IMAGES = "adversarial/*/[0-9]*.safetensors"
REPORT = "report -f csv"
CERTIFY = f"certify {MODEL} --sigma 0.02 --n {{n}}"
FIRST = {"votes of draws": CERTIFY.format(n=60), "a diagnosis": f"diagnose {MODEL} --limit 2"}
"""What leaves such a file, where the workspace has none yet."""

KINDS = {
    "rows of a run": ("results/run-*.parquet", (REPORT,)),
    "a run's record": ("results/run-*.json", (REPORT,)),
    "what cases are known by": ("results/cases/*.json", (ATTACK, REPORT)),
    "what work has cost": ("results/costs/*.json", (ATTACK, REPORT)),
    "kept images": (IMAGES, (MEASURE, REPORT)),
    "what kept images are of": ("adversarial/*/cell.json", (ATTACK, REPORT)),
    "a picture": ("pictures/*/*.safetensors", (REPORT,)),
    "votes of draws": (
        "certified/*/*.safetensors",
        (CERTIFY.format(n=80), REPORT),  # begins with the draws that are kept
    ),
    "a diagnosis": ("results/diagnoses/*.json", (REPORT,)),
    "a fit": ("adversarial/*/fitted.safetensors", (MEASURE, REPORT)),
    "weights": ("models/*/model.safetensors", (ATTACK, REPORT)),
    "a card": ("models/*/card.json", (ATTACK, REPORT)),
    "golden scores by case": (
        "golden.cases.jsonl",
        ("check --golden {root}/golden.csv",),
    ),  # no table
}


@pytest.fixture(scope="module")
def untouched() -> dict[tuple[str, ...], dict[str, str]]:
    """The scores of the common workspace as it is, by the commands that show them."""
    return {}


@pytest.mark.parametrize(
    "flips", [1, pytest.param(60, marks=pytest.mark.slow)], ids=["one", "many"]
)
@pytest.mark.parametrize("kind", KINDS)
def test_a_flipped_bit_is_named_or_changes_no_score(
    kind: str,
    flips: int,
    made: Callable[[str], Path],
    call: Callable[..., Result],
    untouched: dict[tuple[str, ...], dict[str, str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("segbench.diagnosis.battery.STEPS", 2)
    pattern, commands = KINDS[kind]
    start = made("start")
    if kind in FIRST:
        done = call(*FIRST[kind].split(), "--workspace", start)
        assert done.exit_code == 0, done.output

    def fresh(name: str) -> Path:
        root = Path(shutil.copytree(start, tmp_path / name))
        for image in root.glob(IMAGES) if kind == "a fit" else ():
            image.unlink()  # or nobody asks the fit
        return root

    own = kind in FIRST or kind == "a fit"  # a workspace that no other kind begins with
    expected = None if own else untouched.get(commands)
    if expected is None:
        expected = scores(fresh("whole"), commands, call)[1]
        if not own:
            untouched[commands] = expected
    chance = random.Random(kind)
    for flip in range(flips):
        root = fresh(f"flipped-{flip}")
        path = chance.choice(sorted(root.glob(pattern)))
        content = bytearray(path.read_bytes())
        content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
        path.write_bytes(bytes(content))
        said, found = scores(root, commands, call)
        assert "Traceback" not in said
        assert "internal error" not in said
        assert found == expected or path.name in said.replace("\n", "")


def scores(
    root: Path, commands: tuple[str, ...], call: Callable[..., Result]
) -> tuple[str, dict[str, str]]:
    """All that was said, and the scores that are shown in the end."""
    said = ""
    for command in commands:
        done = call(*command.format(root=root).split(), "--workspace", root)
        assert done.exit_code in (0, 1, 2, 3)
        said += done.output
    tables = {path.name: pd.read_csv(path) for path in root.glob("reports/c*.csv")}
    return said, {name: table[_timeless(table)].to_csv() for name, table in tables.items()}


def _timeless(table: pd.DataFrame) -> list[str]:
    """The columns but those of time, which is another whenever something is computed again."""
    return [str(name) for name in table if "seconds" not in name]
