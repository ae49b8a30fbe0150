"""The scripts behind chapter 09 run on tiny sizes, and lesions are what the chapter says."""

import json
import sys
from pathlib import Path

import pytest
import torch

from resnet_course import data, resnet
from resnet_course.teaching import network

FOLDER = Path(__file__).resolve().parent.parent / "benchmarks"


@pytest.fixture(autouse=True)
def as_script(monkeypatch):
    """A script finds what lies beside it."""
    monkeypatch.syspath_prepend(str(FOLDER))


@pytest.mark.parametrize(
    ("name", "arguments"),
    [("lesions", ["digits"]), ("landscape", []), ("pre_activation", [])],
)
def test_runs_and_writes_its_log(monkeypatch, tmp_path, name, arguments):
    script, path = __import__(name), tmp_path / "x.json"
    monkeypatch.setattr(sys, "argv", [name, *arguments, "--quick", "--json", str(path)])
    script.main()
    record = json.loads(path.read_text())
    assert record["benchmark"] == name and (record.get("networks") or record.get("runs"))
    assert str(tmp_path) not in path.read_text()


def test_a_folded_network_is_the_network(monkeypatch):
    """Whole and with lesions, `Folded` computes what the modules of the chapter compute."""
    import digits_network
    import lesions

    digits = data.digits()
    pixels = digits.pixels(digits.test_images[:20])
    for build in digits_network.BUILD.values():
        torch.manual_seed(0)
        model = build(20, in_channels=1)
        model(digits.train_images[:256])
        folded = digits_network.fold(model, digits)
        for off in [(), (1,), (4,), (9,), (2, 4, 7)]:
            with torch.no_grad():
                wanted = lesions.without(model, off)(digits.test_images[:20])
                assert torch.allclose(folded(pixels, off), wanted, atol=1e-3)


def test_stochastic_depth_drops_blocks_in_training_alone(monkeypatch):
    import lesions

    block = lesions.StochasticBlock(4, 4, shortcut=resnet.option_a)
    x = torch.randn(8, 4, 6, 6).relu()
    block.survival = 0.0
    assert torch.equal(block.train()(x), x) and torch.equal(block.eval()(x), x)
    block.survival = 1.0
    assert not torch.equal(block.train()(x), x)


def test_the_scale_of_filters_does_not_change_a_normalized_slice():
    import landscape

    torch.manual_seed(0)
    model, images = resnet.cifar_resnet(8, in_channels=1), torch.randn(64, 1, 8, 8)
    labels, larger = torch.randint(0, 10, (64,)), resnet.cifar_resnet(8, in_channels=1)
    larger.load_state_dict({k: 3 * v if "conv" in k else v for k, v in model.state_dict().items()})
    before = {name: value.clone() for name, value in model.state_dict().items()}
    slices = [
        landscape.losses(m, images, labels, [(0.0,), (0.5,)], landscape.random_direction(m, 1))
        for m in (model, larger)
    ]
    assert slices[0] == pytest.approx(slices[1], abs=1e-3)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_weakened_blocks_move_by_the_dose():
    import lesions

    torch.manual_seed(0)
    block, x = resnet.PlainBlock(4, 8, 2), torch.rand(3, 4, 8, 8)
    out, past = block.eval()(x), lesions.shortcut(block)(x)
    weaker = lesions.Weakened(block, 0.1)(x)
    moved = (weaker - out).flatten(1).norm(dim=1) / past.flatten(1).norm(dim=1)
    assert torch.allclose(moved, torch.full((3,), 0.1), atol=1e-5)
    assert torch.allclose(lesions.Weakened(block, 100.0)(x), past, atol=1e-5)


def test_the_files_of_the_page_are_small():
    from resnet_course.reproduce import recorded

    paths = list(recorded.folder().glob("digits-network-*.pt"))
    assert len(paths) == 2 and all(path.stat().st_size < 400_000 for path in paths)
    assert len(network.load(recorded.folder()).labels) == 100
