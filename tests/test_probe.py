import copy

import pytest
import torch
import torchvision
from torch import nn

from resnet_course import probe, resnet

# Multiply-adds at 224 x 224, in G, of torchvision's documentation (there called GFLOPS, in part)
GIGA = {18: 1.814, 34: 3.664, 50: 4.089, 101: 7.801, 152: 11.514}


@pytest.mark.parametrize("depth", GIGA)
def test_multiply_adds(depth):
    with torch.device("meta"):
        network = getattr(resnet, f"resnet{depth}")()
    assert probe.multiply_adds(network, (3, 224, 224)) / 1e9 == pytest.approx(GIGA[depth], abs=5e-4)


def test_multiply_adds_by_hand():
    model = nn.Sequential(nn.Conv2d(2, 5, 3, padding=1), nn.Flatten(), nn.Linear(5 * 16, 7))
    assert probe.multiply_adds(model, (2, 4, 4)) == 16 * 5 * 2 * 9 + 80 * 7


def test_shape_trace():
    rows = probe.shape_trace(resnet.resnet18(), (3, 224, 224))
    shapes = {row.name: row.output for row in rows}
    assert rows[0].name == "conv1" and rows[0].input == (3, 224, 224)
    assert shapes["conv1"] == (64, 112, 112) and shapes["layer1.1.bn2"] == (64, 56, 56)
    assert shapes["layer2.0.downsample.0"] == shapes["layer2.0.conv2"] == (128, 28, 28)
    assert shapes["fc"] == (1000,)
    assert sum(row.parameters for row in rows) == 11_689_512


def side(influence):
    """Rows and columns that are felt, as (height, width) of their bounding box."""
    return tuple(int(influence.gt(0).any(axis).sum()) for axis in (1, 0))


@pytest.mark.parametrize(("name", "field"), [("alexnet", 195), ("vgg16", 212)])
def test_receptive_field_of_published_networks(name, field):
    """Values of Araujo et al. 2019, https://distill.pub/2019/computing-receptive-fields/."""
    with torch.device("meta"):
        model = getattr(torchvision.models, name)().features
    fields = probe.receptive_field(model, (3, 224, 224))
    assert max(fields.values()) == list(fields.values())[-1] == field


@pytest.mark.parametrize("shortcut", ["A", "C"])
@pytest.mark.parametrize("n", [1, 2, 3])
def test_receptive_field_of_the_cifar_networks(n, shortcut):
    fields = probe.receptive_field(resnet.cifar_resnet(6 * n + 2, shortcut=shortcut), (3, 32, 32))
    ends = [fields[f"layer{stage}.{n - 1}.conv2"] for stage in (1, 2, 3)]
    assert ends == [4 * n + 3, 12 * n + 1, 28 * n - 3] and len(fields) == 6 * n + 1


@pytest.mark.parametrize(
    "layers",
    [
        [nn.Conv2d(2, 3, 3, padding=1), nn.Conv2d(3, 2, 3, padding=1)],
        [nn.Conv2d(2, 3, 5, stride=2, padding=2), nn.ReLU(), nn.AvgPool2d(2), nn.Conv2d(3, 2, 3)],
        [nn.Conv2d(2, 3, 3, dilation=3), nn.MaxPool2d(3, stride=2), nn.Conv2d(3, 2, 1)],
    ],
)
def test_receptive_field_agrees_with_the_gradient(layers):
    torch.manual_seed(0)
    model = nn.Sequential(*layers)
    field = list(probe.receptive_field(model, (2, 40, 44)).values())[-1]
    assert side(probe.influence(model, torch.randn(64, 2, 40, 44))) == (field, field)


def test_receptive_field_needs_square_windows():
    with pytest.raises(ValueError, match="square"):
        probe.receptive_field(nn.Sequential(nn.Conv2d(1, 1, (1, 3))), (1, 8, 8))


def test_influence_counts_paths():
    model = nn.Sequential(*[nn.Conv2d(1, 1, 3, padding=1, bias=False) for _ in range(2)])
    for layer in model:
        nn.init.ones_(layer.weight)
    with torch.no_grad():
        felt = probe.influence(model, torch.randn(1, 1, 9, 9))
    row = torch.tensor([0, 0, 1, 2, 3, 2, 1, 0, 0], dtype=torch.double)
    assert torch.equal(felt, row[:, None] * row)


def test_gradient_norms_agree_with_finite_differences():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(18, 3)).double()
    images, labels = torch.randn(4, 1, 5, 5).double(), torch.tensor([0, 1, 2, 0])
    norms = probe.gradient_norms(model, images, labels)

    def loss():
        return nn.functional.cross_entropy(model(images), labels).item()

    for name, module in (("0", model[0]), ("2", model[2])):
        flat, squares = module.weight.data.view(-1), 0.0
        for i in range(len(flat)):
            flat[i] += 1e-5
            up = loss()
            flat[i] -= 2e-5
            down = loss()
            flat[i] += 1e-5
            squares += ((up - down) / 2e-5) ** 2
        assert norms[name] == pytest.approx(squares**0.5, rel=1e-5)


def test_activation_norms():
    model = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False))
    nn.init.eye_(model[0].weight)
    nn.init.eye_(model[1].weight)
    model[1].weight.data *= 3
    x = torch.tensor([[1.0, -1, 1, -1]])
    assert probe.activation_norms(model, x) == pytest.approx({"0": 1.0, "1": 3.0})


def test_probes_leave_the_model_as_it_was():
    model = resnet.cifar_resnet(8)
    before = copy.deepcopy(model.state_dict())
    images, labels = torch.randn(4, 3, 16, 16), torch.tensor([0, 1, 2, 3])
    probe.gradient_norms(model, images, labels)
    probe.activation_norms(model, images)
    probe.shape_trace(model, (3, 16, 16))
    probe.multiply_adds(model, (3, 16, 16))
    probe.receptive_field(model, (3, 16, 16))
    probe.influence(model.layer1, torch.randn(1, 16, 8, 8))
    assert model.training
    assert all(p.grad is None for p in model.parameters())
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
    assert not any(m._forward_hooks for m in model.modules())


def test_profiles_skip_shortcuts():
    model = resnet.cifar_resnet(8, shortcut="C")
    norms = probe.gradient_norms(model, torch.randn(2, 3, 16, 16), torch.tensor([0, 1]))
    first, *_, last = norms
    assert (first, last, len(norms)) == ("conv1", "fc", 8)
