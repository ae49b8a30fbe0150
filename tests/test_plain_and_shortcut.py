"""The runs behind chapters 03 and 04: the script still runs, and changes what it says alone."""

import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from resnet_course import resnet, train
from resnet_course.reproduce import recorded

FOLDER = Path(__file__).resolve().parent.parent / "benchmarks"


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    import plain_and_shortcut

    return plain_and_shortcut


def test_it_runs_and_its_log_can_be_read(script, monkeypatch, tmp_path, capsys):
    words = ["x", "adam", "--quick", "--json", str(tmp_path / "x.json")]
    monkeypatch.setattr(sys, "argv", words)
    script.main()
    runs = recorded.read(tmp_path / "x.json")
    assert [(run.data, run.network) for run in runs] == [
        ("digits-adam", "plain-20"),
        ("digits-adam", "plain-56"),
    ]
    assert all(run.final["first_over_last"] > 1 > run.final["alike"] > 0 for run in runs)
    assert "first/last" in capsys.readouterr().out


def weights(model):
    return [m.weight for n, m in model.named_modules() if isinstance(m, nn.Conv2d)]


def test_a_slope_or_a_shift_changes_nothing_else(script):
    models = []
    for change in ({}, {"slope": 0.5}, {"beta": 1.0}):
        train.seed_everything(0)
        models.append(script.Variant("plain-20", **change).build())
    for model in models[1:]:
        assert all(map(torch.equal, weights(model), weights(models[0])))
    assert {m.negative_slope for m in models[1].modules() if isinstance(m, nn.LeakyReLU)} == {0.5}
    assert all(m.bias.eq(1).all() for m in models[2].modules() if isinstance(m, nn.BatchNorm2d))


def test_shortcuts_are_what_they_are_called(script):
    x = torch.rand(2, 16, 4, 4)
    normed = script.Variant("residual-8", shortcut="A + batch norm").build()
    shortcut = normed.layer1[0].downsample
    assert isinstance(shortcut[0], nn.Identity) and isinstance(shortcut[1], nn.BatchNorm2d)
    assert isinstance(normed.layer2[0].downsample[0], resnet.PadShortcut)

    identity = script.Variant("residual-8", shortcut="C from the identity, no batch norm").build()
    assert torch.equal(identity.layer1[0].downsample(x), x)

    random = script.Variant("residual-8", shortcut="C orthogonal, no batch norm").build()
    matrix = random.layer1[0].downsample.weight.flatten(1)
    assert torch.allclose(matrix @ matrix.T, torch.eye(16), atol=1e-5)
