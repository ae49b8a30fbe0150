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


def test_a_lesion_from_the_middle_is_the_lesion_of_the_whole():
    """Starting at the first block that was edited gives what the edited network gives."""
    import lesions

    torch.manual_seed(0)
    model, images = resnet.cifar_resnet(14, in_channels=1).eval(), torch.randn(300, 1, 8, 8)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.running_var, 0.5, 2)
    with torch.no_grad():
        labels = model(images).argmax(1)
        around = [lesions.shortcut(model.get_submodule(name)) for name in lesions.places(model)]
        for off in [(), (1,), (3,), (6,), (2, 5)]:
            edited = lesions.without(model, set(off))
            wanted = 100 * (edited(images).argmax(1) != labels).float().mean().item()
            [got] = lesions.errors(model, [{k: around[k - 1] for k in off}], images, labels)
            assert got == pytest.approx(wanted, abs=0.5), off


def test_paths_of_all_lengths_together_are_the_gradient():
    import paths

    torch.manual_seed(0)
    images, labels = torch.randn(12, 3, 8, 8), torch.randint(0, 10, (12,))
    model = paths.untrained(14, images, seed=0)
    shares, apart = paths.shares(model, images, labels)
    assert len(shares) == 7 and sum(shares) == pytest.approx(1, abs=1e-3) and apart < 1e-4
    parts, true = paths.gradient_by_length(model, images, labels)
    model.layer1[0].bn2.weight.data.zero_()  # a block without F: nothing goes through all six
    model.layer1[0].bn2.bias.data.zero_()
    fewer, _ = paths.gradient_by_length(model, images, labels)
    assert parts[6].abs().max() > 0 == fewer[6].abs().max()
    assert parts.shape == (7, *true.shape)


def test_recorded_lesions_name_the_runs_that_were_recorded():
    from resnet_course.reproduce import logs, recorded

    folder = recorded.folder()
    for name in ("lesion-cifar10", "lesion-paths"):
        rows = json.loads((folder / f"{name}.json").read_text())["networks"]
        trained = [row for row in rows if "run" in row]
        assert len(trained) >= 4
        for row in trained:
            log = folder / f"{row['run']}.json"
            [run] = recorded.read(log)
            assert logs.sha256(log) == row["log_sha256"] and run.command == row["command"]
            if "whole" in row:  # measured on a fifth of the test images
                assert abs(row["whole"] - 100 * run.final["test_error"]) < 2


def test_the_files_of_the_page_are_small():
    from resnet_course.reproduce import recorded

    paths = list(recorded.folder().glob("digits-network-*.pt"))
    assert len(paths) == 2 and all(path.stat().st_size < 400_000 for path in paths)
    assert len(network.load(recorded.folder()).labels) == 100
