"""A stated spacing: cases that are resampled, or networks that are shown them so."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from segbench.api import Case
from segbench.data import load_dataset
from segbench.data.regrid import Regrid, parse_spacing
from segbench.data.resize import resize_image
from segbench.errors import UserError
from segbench.networks.on_spacing import OnSpacing, resampled

nibabel = pytest.importorskip("nibabel")
RANDOM = np.random.default_rng(0)


def volumes(root: Path) -> Path:
    for name in ("images", "masks"):
        (root / name).mkdir(parents=True)
        for n, depth in enumerate((5, 7)):
            values = RANDOM.integers(0, 2 if name == "masks" else 99, (12, 10, depth))
            volume = nibabel.Nifti1Image(values.astype(np.uint8), np.diag([0.5, 1.0, 2.0, 1.0]))
            nibabel.save(volume, root / name / f"c{n}.nii.gz")
    return root


def test_cases_are_resampled_to_it(tmp_path: Path) -> None:
    root = volumes(tmp_path)
    own = load_dataset("folder:mode=volumes,window=0..98", root).load("c0")
    case = load_dataset("folder:mode=volumes,window=0..98,spacing=1", root).load("c0")
    assert case.image.shape == (1, 6, 10, 10)
    assert case.spacing == (1, 1, 1)
    np.testing.assert_array_equal(case.image, resize_image(own.image, (6, 10, 10)))
    other = load_dataset("folder:window=0..98,spacing=1x0.5", root).load("c0_z003")
    assert other.image.shape == (1, 6, 20)


def test_a_network_is_shown_it_and_the_case_stays_on_its_grid(tmp_path: Path) -> None:
    spec = "folder:mode=volumes,window=0..98,spacing=1,score_on=original"
    data = load_dataset(spec, volumes(tmp_path))
    case = data.load("c0")
    assert case.image.shape == (1, 12, 10, 5)
    assert "kept on its own grid, networks being shown it resampled to 1 mm" in data.resize_rule

    class Shown(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            self.images = images
            return torch.cat([images, -images], 1)

    shown = Shown()
    network = OnSpacing(shown, Regrid(0, (1.0,), "original"))
    image = torch.from_numpy(case.image)[None]
    with pytest.raises(UserError, match="must be told of a case"):
        network(image)
    network.meet(case)
    logits = network(image)
    assert logits.shape == (1, 2, 12, 10, 5)
    right = resize_image(case.image, (6, 10, 10))
    torch.testing.assert_close(shown.images[0], torch.from_numpy(right), rtol=1e-5, atol=1e-5)
    flat = torch.full_like(image, 0.3)
    torch.testing.assert_close(network(flat)[:, :1], flat)
    without = Case("x", "x", case.image, case.labels, case.class_names)
    with pytest.raises(UserError, match="case x has no spacing"):
        network.meet(without)


def test_resampling_is_linear_and_has_its_transpose_as_gradient() -> None:
    first, second = torch.rand(2, 1, 1, 9, 14)
    leaf, weights = first.clone().requires_grad_(), torch.rand(1, 1, 5, 21)
    grid = (5, 21)
    both = resampled(first + 2 * second, grid)
    torch.testing.assert_close(both, resampled(first, grid) + 2 * resampled(second, grid))
    (resampled(leaf, grid) * weights).sum().backward()
    assert leaf.grad is not None
    by_transpose = (leaf.grad * second).sum()
    torch.testing.assert_close(by_transpose, (resampled(second, grid) * weights).sum())


def test_a_run_scores_on_the_original_grid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import segbench

    monkeypatch.chdir(tmp_path)
    data = load_dataset(
        "folder:mode=volumes,window=0..98,spacing=1,score_on=original", volumes(tmp_path / "d")
    )
    network = nn.Conv3d(1, 1, 1).requires_grad_(False)
    network.weight.fill_(1)
    network.bias.fill_(0.5)  # every voxel is foreground, on whatever grid
    with pytest.warns(UserWarning, match="no better than that of foreground everywhere"):
        result = segbench.evaluate(network, data, attacks=["fgsm"], eps=["1/255"])
    clean = result.cases.query("attack == 'clean'").set_index("case_id")["jaccard"]
    for name in ("c0", "c1"):
        assert clean[name] == pytest.approx(data.load(name).labels.mean())


@pytest.mark.parametrize("more", [{"tta": "flips"}, {"front": "bit-depth"}], ids=str)
def test_a_network_within_another_is_looked_at_on_the_grid_that_it_gets(
    more: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes no other; of the cases' own grid it was refused."""
    import segbench

    class Strict(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            if images.shape[2:4] != (6, 10):
                raise RuntimeError("it takes voxels of 1 mm alone")
            return torch.cat([images, 1 - images], 1)

    monkeypatch.chdir(tmp_path)
    data = load_dataset(
        "folder:mode=volumes,window=0..98,spacing=1,score_on=original", volumes(tmp_path / "d")
    )
    with pytest.warns(UserWarning, match="no better than that of foreground everywhere"):
        result = segbench.evaluate(Strict(), data, attacks=["fgsm"], eps=["1/255"], **more)
    assert result.cases["case_id"].nunique() == 2


@pytest.mark.parametrize("text", ["1x", "0", "1x1x1x1", "a", "-1"])
def test_what_is_no_spacing_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="is no spacing"):
        parse_spacing(text)


def test_options_that_do_not_go_together_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="say the same thing twice"):
        Regrid(64, (1.0,))
    with pytest.raises(UserError, match="score_on=original needs the spacing"):
        Regrid(score_on="original")
    with pytest.raises(UserError, match="is for 2 axes; these cases have 3"):
        Regrid(0, (1.0, 2.0)).network_grid((4, 4, 4), (1, 1, 1))
    with pytest.raises(UserError, match="a side would be 400000"):
        Regrid(0, (0.001,)).network_grid((400,), (1,))
