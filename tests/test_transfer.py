"""The script behind chapter 08 runs on tiny sizes, and its logs belong to the shipped weights."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from resnet_course.reproduce import recorded

FOLDER = Path(__file__).resolve().parent.parent / "benchmarks"
PARTS = ("preprocessing", "digits", "rates")


@pytest.fixture
def transfer(monkeypatch):
    """The script as a module: it finds what lies beside it, and photographs of noise."""
    monkeypatch.syspath_prepend(str(FOLDER))
    import transfer

    random = np.random.default_rng(0)
    arrays = {
        "test_images": random.integers(0, 256, (10_000, 32, 32, 3), dtype=np.uint8),
        "test_labels": np.arange(10_000) % 10,
    }
    monkeypatch.setattr(transfer.data, "cifar10_arrays", lambda root: arrays)
    return transfer


@pytest.mark.parametrize("part", PARTS)
def test_every_part_runs(transfer, monkeypatch, tmp_path, part):
    file = tmp_path / "x.json"
    monkeypatch.setattr(sys, "argv", ["transfer", part, "--quick", "--json", str(file)])
    transfer.main()
    record = json.loads(file.read_text())
    assert record["command"] == f"python benchmarks/transfer.py {part}"
    assert record["weights"] == recorded.pretrained_facts()["residual-20"]["sha256"]
    assert str(tmp_path) not in file.read_text()


@pytest.mark.parametrize("part", PARTS)
def test_the_logs_belong_to_the_shipped_weights(part):
    """Other weights, other figures: then run benchmarks/transfer.py again."""
    record = json.loads((recorded.folder() / f"transfer-{part}.json").read_text())
    assert record["weights"] == recorded.pretrained_facts()["residual-20"]["sha256"]
    assert record["command"] == f"python benchmarks/transfer.py {part}"


def test_labels_are_shared_out_equally(transfer):
    labels = torch.arange(10).repeat(50)[torch.randperm(500)]
    chosen = transfer.some_labels(labels, 30, seed=1)
    assert torch.bincount(labels[chosen]).tolist() == [3] * 10
    assert sorted(transfer.some_labels(labels, 500, seed=1).tolist()) == list(range(500))


def test_a_shuffled_network_has_the_same_numbers(transfer):
    network = recorded.pretrained("residual-20")
    before = network.conv1.weight.clone()
    other = transfer.shuffled(network, 0, torch.randn(8, 3, 32, 32))
    weight = other.layer2[0].conv1.weight
    assert torch.equal(network.conv1.weight, before) and not other.training
    assert not torch.equal(weight, network.layer2[0].conv1.weight)
    assert torch.equal(
        weight.flatten().sort()[0], network.layer2[0].conv1.weight.flatten().sort()[0]
    )


def test_the_head_learns(transfer):
    torch.manual_seed(0)
    inputs = torch.randn(60, 5)
    labels = (inputs[:, 0] > 0).long()
    assert transfer.error(transfer.head(inputs, labels)(inputs), labels) < 0.05
