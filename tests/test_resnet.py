"""Oracles: torchvision's networks, and the paper's tables."""

import pytest
import torch
import torchvision
from torch import nn

from resnet_course import probe, resnet

IMAGENET = {  # depth: parameters of torchvision's model, documented there
    18: 11_689_512,
    34: 21_797_672,
    50: 25_557_032,
    101: 44_549_160,
    152: 60_192_808,
}
CIFAR = {20: 269_722, 32: 464_154, 44: 658_586, 56: 853_018, 110: 1_727_962}


@pytest.fixture(scope="module", params=IMAGENET)
def pair(request):
    """torchvision's network with lively batch norm statistics, and ours with the same weights."""
    torch.manual_seed(1)
    theirs = getattr(torchvision.models, f"resnet{request.param}")(num_classes=10)
    for module in theirs.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
            nn.init.uniform_(module.weight, 0.2, 0.6)
    ours = getattr(resnet, f"resnet{request.param}")(num_classes=10)
    ours.load_state_dict(theirs.state_dict(), strict=True)
    return ours, theirs


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
def test_logits_equal_torchvision(pair, training):
    images = torch.randn(4, 3, 64, 64, generator=torch.Generator().manual_seed(2))
    ours, theirs = (model.train(training) for model in pair)
    with torch.no_grad():
        expected, got = theirs(images), ours(images)
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4 * expected.abs().max().item())


def test_state_dict_has_torchvision_names_in_order(pair):
    ours, theirs = pair
    assert list(ours.state_dict()) == list(theirs.state_dict())


@pytest.mark.parametrize("depth", IMAGENET)
def test_imagenet_parameters(depth):
    with torch.device("meta"):
        network = getattr(resnet, f"resnet{depth}")()
    assert probe.count_parameters(network) == IMAGENET[depth]
    assert probe.count_weight_layers(network) == depth


@pytest.mark.parametrize("depth", CIFAR)
@pytest.mark.parametrize("build", [resnet.cifar_plain, resnet.cifar_resnet])
def test_cifar_parameters_and_layers(build, depth):
    network = build(depth)
    assert probe.count_parameters(network) == CIFAR[depth]
    assert probe.count_weight_layers(network) == depth


def test_cifar_names():
    names = set(resnet.cifar_resnet(20).state_dict())
    assert {"conv1.weight", "bn1.weight", "layer1.0.conv1.weight", "fc.weight"} <= names
    assert not any("downsample" in name for name in names)


def test_pad_shortcut_takes_every_second_pixel_and_pads_half_and_half():
    x = torch.arange(2 * 16 * 4 * 4.0).reshape(2, 16, 4, 4) + 1
    y = resnet.PadShortcut(16, 32, stride=2)(x)
    assert y.shape == (2, 32, 2, 2)
    assert torch.equal(y[:, 8:24], x[:, :, ::2, ::2])
    assert not y[:, :8].any() and not y[:, 24:].any()


def test_pad_shortcut_keeps_the_memory_layout_of_its_gradient():
    """Where a gradient changes its layout, the ReLU before it takes thirty times as long (CPU)."""
    x = torch.randn(2, 16, 4, 4).to(memory_format=torch.channels_last).requires_grad_()
    y = resnet.PadShortcut(16, 32, stride=2)(x)
    (gradient,) = torch.autograd.grad(y, x, torch.ones_like(y))
    assert gradient.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(gradient[:, :, ::2, ::2], torch.ones(2, 16, 2, 2))
    assert gradient.sum() == 2 * 16 * 2 * 2


def test_zero_residual_is_the_identity():
    block = resnet.BasicBlock(8, 8, shortcut=resnet.option_a)
    nn.init.zeros_(block.bn2.weight)
    x = torch.rand(2, 8, 5, 5)
    assert torch.equal(block(x), x)


def test_plain_block_is_basic_block_without_the_addition():
    basic, plain = resnet.BasicBlock(8, 8, shortcut=resnet.option_a), resnet.PlainBlock(8, 8)
    plain.load_state_dict(basic.state_dict(), strict=True)
    x = torch.rand(4, 8, 5, 5)
    inner = basic.bn2(basic.conv2(basic.relu(basic.bn1(basic.conv1(x)))))
    torch.testing.assert_close(plain(x), inner.relu())
    torch.testing.assert_close(basic(x), (inner + x).relu())


@pytest.mark.parametrize(
    ("option", "projections"), [("A", 0), ("B", 2), ("C", 9)], ids=["A", "B", "C"]
)
def test_shortcut_options(option, projections):
    network = resnet.cifar_resnet(20, shortcut=option)
    found = sum(name.endswith("downsample.0.weight") for name in network.state_dict())
    assert found == projections
    assert network(torch.zeros(2, 3, 32, 32)).shape == (2, 10)


def test_he_initialization_scale():
    torch.manual_seed(0)
    weight = resnet.cifar_resnet(8).layer3[0].conv2.weight
    assert weight.std().item() == pytest.approx((2 / (64 * 9)) ** 0.5, rel=0.03)


@pytest.mark.parametrize(
    ("depth", "message"),
    [
        (22, "choose 20 or 26"),
        (2, "choose 8"),
        (-4, "choose 8"),
        ("20", "whole number"),
        (20.0, "whole number"),
        (True, "whole number"),
    ],
)
def test_wrong_depth_names_the_right_ones(depth, message):
    with pytest.raises(ValueError, match=message):
        resnet.cifar_resnet(depth)


def test_unknown_shortcut_is_refused():
    with pytest.raises(ValueError, match=r"'D' is unknown: choose one of 'A', 'B', 'C'"):
        resnet.cifar_resnet(20, shortcut="D")
