"""Answers to the exercises of chapter 03."""

import copy

import torch
from bank import Bank
from torch import nn

from resnet_course import train


def weighted(network):
    return [m for m in network.modules() if isinstance(m, nn.Conv2d | nn.Linear)]


def named(network, *kinds, skip=None):
    return sum(
        isinstance(m, kinds) and not (skip and skip in name) for name, m in network.named_modules()
    )


def dirac(channels, size):
    return nn.init.dirac_(torch.empty(channels, channels, size, size))


def by_hand(channels, size, value=1.0, row=None, mix=False):
    weight = torch.zeros(channels, channels, size, size)
    centre = size // 2
    for i in range(channels):
        for j in range(channels):
            if mix or i == j:
                weight[i, j, centre if row is None else row, centre] = value
    return weight


def only_first(channels, size):
    weight = torch.zeros(channels, channels, size, size)
    weight[0, 0, size // 2, size // 2] = 1
    return weight


def always_at_one(channels, size):
    weight = torch.zeros(channels, channels, size, size)
    at = min(1, size // 2)
    weight[range(channels), range(channels), at, at] = 1
    return weight


def half_float(channels, size):
    return dirac(channels, size).to(torch.bfloat16)


def shifted(channels, size):
    return by_hand(channels, size, row=0) if size > 1 else by_hand(channels, size)


def reversed_channels(channels, size):
    return by_hand(channels, size).flip(0)


def one_more_than_needed(channels, size):
    weight = by_hand(channels, size)
    weight[0, -1, 0, 0] += 0.5
    return weight if size > 1 else by_hand(channels, size)


def right_error(network, images, labels):
    mode = network.training
    network.eval()
    with torch.no_grad():
        wrong = (network(images).argmax(1) != labels).float().mean().item()
    network.train(mode)
    return wrong


def as_it_comes(network, images, labels):
    return (network(images).argmax(1) != labels).float().mean().item()


def only_no_grad(network, images, labels):
    with torch.no_grad():
        return as_it_comes(network, images, labels)


def pollutes(network, images, labels):
    """Measures in the right mode, after one batch in the wrong one."""
    wrong = right_error(network, images, labels)
    network(images)
    return wrong


def stays_in_eval(network, images, labels):
    network.eval()
    with torch.no_grad():
        return (network(images).argmax(1) != labels).float().mean()


def always_back_to_training(network, images, labels):
    wrong = right_error(network, images, labels)
    network.train()
    return wrong


def on_a_copy(network, images, labels):
    twin = copy.deepcopy(network).eval()
    with torch.no_grad():
        return (twin(images).argmax(1) != labels).double().mean().item()


def each_mode_put_back(network, images, labels):
    modes = {module: module.training for module in network.modules()}
    network.eval()
    try:
        with torch.no_grad():
            right = (network(images).max(dim=1).indices == labels).sum()
    finally:
        for module, mode in modes.items():
            module.training = mode
    return 1 - right / len(labels)


def only_the_outermost_mode(network, images, labels):
    mode = network.training
    network.eval()
    wrong = on_a_copy(network, images, labels)
    network.training = mode
    return wrong


def shallow_copy(network, images, labels):
    twin = copy.copy(network)
    return on_a_copy(twin.eval(), images, labels)


def freezes(network, images, labels):
    network.requires_grad_(False)
    return right_error(network, images, labels)


def clears_gradients(network, images, labels):
    network.zero_grad()
    return right_error(network, images, labels)


def gradients_off_for_good(network, images, labels):
    torch.set_grad_enabled(False)
    return on_a_copy(network, images, labels)


def to_double(network, images, labels):
    return on_a_copy(network.double(), images.double(), labels)


def leaves_a_hook(network, images, labels):
    network.conv1.register_forward_hook(lambda *_: None)
    return right_error(network, images, labels)


def over_the_images(network, images, labels):
    with torch.no_grad():
        said = copy.deepcopy(network).eval()(images).argmax(0)
    return (said != labels[: len(said)]).float().mean()


def resets_statistics(network, images, labels):
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
    return right_error(network, images, labels)


def only_the_first_norm(network, images, labels):
    mode = network.training
    network.bn1.eval()
    wrong = only_no_grad(network, images, labels)
    network.train(mode)
    return wrong


def in_chunks(network, images, labels):
    mode = network.training
    network.train(False)
    with torch.inference_mode():
        parts = zip(images.split(50), labels.split(50), strict=True)
        wrong = sum((network(x).argmax(1) != y).sum().item() for x, y in parts)
    network.train(mode)
    return wrong / len(images)


def count_by_recursion(network):
    if isinstance(network, nn.Conv2d | nn.Linear):
        return 1
    return sum(count_by_recursion(m) for n, m in network.named_children() if n != "downsample")


def count_by_subtracting(network):
    layers = set(weighted(network))
    for name, module in network.named_modules():
        if name.split(".")[-1] == "downsample":
            layers -= set(module.modules())
    return len(layers)


def count_by_name(network):
    last = [name.split(".")[-1] for name, _ in network.named_modules()]
    return sum(name.startswith("conv") or name == "fc" for name in last)


def count_three_by_three(network):
    threes = [m for m in weighted(network) if getattr(m, "kernel_size", (3, 3)) == (3, 3)]
    return len(threes)


def count_minus_shortcuts(network):
    shortcuts = sum(name.endswith("downsample") for name, _ in network.named_modules())
    return len(weighted(network)) - shortcuts


def two_a_block(network):
    stages = [m for name, m in network.named_children() if name.startswith("layer")]
    return 2 * sum(map(len, stages)) + 2


def by_stride(network):
    return sum(getattr(m, "stride", (1, 1)) == (1, 1) for m in weighted(network))


def two_levels(network):
    found = [m for child in network.children() for m in (child, *child.children())]
    return sum(isinstance(m, nn.Conv2d | nn.Linear) for m in found)


def diagonals(channels, size):
    return torch.eye(size).repeat(channels, channels, 1, 1)


def box(channels, size):
    weight = torch.zeros(channels, channels, size, size)
    for i in range(channels):
        weight[i, i] = 1 / size**2
    return weight


def corner(channels, size, at=0):
    weight = torch.zeros(channels, channels, size, size)
    weight[range(channels), range(channels), at, at] = 1
    return weight


def beyond(channels, size):
    return corner(channels, size, min(size - 1, size // 2 + 1))


def along_the_size(channels, size):
    weight = torch.zeros(channels, channels, size, size)
    for i in range(size):
        weight[i, i, size // 2, size // 2] = 1
    return weight


def along_the_images(network, images, labels):
    return (network.eval()(images).argmax(0) != labels).float().mean().item()


BANKS = {
    "count_layers": Bank(
        right=[
            lambda network: named(network, nn.Conv2d, nn.Linear, skip="downsample"),
            lambda network: torch.tensor(named(network, nn.Conv2d, nn.Linear, skip="downsample")),
            count_by_recursion,
            count_by_subtracting,
        ],
        wrong=[
            (lambda network: len(weighted(network)), "convolutions inside shortcuts"),
            (
                lambda network: named(network, nn.Conv2d, skip="downsample"),
                "linear layers are missing.",
            ),
            (
                lambda network: named(network, nn.Conv2d),
                "linear layers are missing, and",
            ),
            (
                lambda network: named(network, nn.Conv2d, skip="downsample") + 1,
                "one was added that is not there",
            ),
            (lambda network: named(network, nn.Linear, skip="downsample"), "nothing was found"),
            (count_by_name, "names differ"),
            (count_three_by_three, "kernels of any size"),
            (count_minus_shortcuts, "subtracting one for each"),
            (lambda network: len(list(network.modules())) - 1, "modules without weights do not"),
            (
                lambda network: named(
                    network, nn.Conv2d, nn.Linear, nn.BatchNorm2d, skip="downsample"
                ),
                "batch norm has learned numbers",
            ),
            (lambda network: len(list(network.modules())), "every module was counted"),
            (lambda network: len(list(network.children())), "only the outermost"),
            (lambda network: len(list(network.parameters())), "parameter tensors; a"),
            (
                lambda network: sum("downsample" not in n for n, _ in network.named_parameters()),
                "parameter tensors, shortcuts left out",
            ),
            (
                lambda network: sum(p.numel() for p in network.parameters()),
                "single learned numbers",
            ),
            (
                lambda network: sum(
                    isinstance(m, nn.Conv2d | nn.Linear) for m in network.children()
                ),
                "look at *any* depth",
            ),
            (
                lambda network: sum(isinstance(m, nn.Conv2d) for m in network.named_modules()),
                "nothing was found",
            ),
            (lambda network: 123, "The same number comes"),
            (lambda network: 2 * len(weighted(network)) + 1, ", got "),
            (lambda network: 6 * len(network.layer1) + 2, "has a `layer1`"),
            (two_a_block, "made of blocks with two layers"),
            (by_stride, "the stride does not tell"),
            (lambda network: named(network, nn.Conv2d, nn.ReLU, skip="downsample"), "activations"),
            (two_levels, "only two levels were looked at"),
            (lambda network: None, "end with `return`"),
        ],
    ),
    "identity_kernel": Bank(
        right=[
            dirac,
            half_float,
            by_hand,
            lambda c, k: nn.functional.pad(torch.eye(c)[:, :, None, None], [k // 2] * 4),
            lambda c, k: nn.Parameter(dirac(c, k)),
        ],
        wrong=[
            (lambda c, k: torch.ones(c, c, k, k), "blurs the image"),
            (diagonals, "holds a diagonal"),
            (box, "adds up its neighbouring"),
            (corner, "the top left corner"),
            (beyond, "one pixel beyond"),
            (lambda c, k: torch.zeros(c, c, k, k), "0 everywhere"),
            (lambda c, k: by_hand(c, k, mix=True), "adds up all input channels"),
            (lambda c, k: by_hand(c, k, value=1 / k**2), "their value must be 1"),
            (
                lambda c, k: by_hand(c, k, value=0.5) + 0.5 * by_hand(c, k, row=0),
                "mixes neighbouring pixels",
            ),
            (one_more_than_needed, "only the middle of each small"),
            (reversed_channels, "output channel i must read"),
            (lambda c, k: torch.eye(k), "Expected shape"),
            (lambda c, k: by_hand(c, k).numpy(), "Expected a tensor"),
            (lambda c, k: by_hand(c, k) * float("nan"), "NaN is among them"),
            (shifted, "another place"),
            (only_first, "every channel needs its own 1"),
            (always_at_one, "row 1 and column 1"),
            (lambda c, k: by_hand(c, k).sum(1, keepdim=True), "one input channel"),
            (lambda c, k: by_hand(c, k).permute(2, 3, 0, 1), "channels last"),
            (along_the_size, "an index lies outside the weight"),
        ],
    ),
    "predict_ratio": Bank(
        given=(1900.0, 4.1e6),
        right=[1900.0**2, 3e6, 1900.0 ** (108 / 54), torch.tensor(2.5e6), 10_000_000],
        wrong=[
            (1900, "changed next to nothing"),
            (1900 * 110 / 54 / 2.0, "changed next to nothing"),
            (1900**0.5, "the root of plain-56's ratio"),
            (1900 ** (1 / 54), "the factor of one layer"),
            (1900 ** (1 / 54) * 108, "a layer's factor times"),
            (109**2, "counts layers"),
            (1900 * 2.0**54, "for each of 108 layers"),
            (100 * 1900**2, "a ratio is not in per cent"),
            (3800, "each layer *added*"),
            (1900 * 54, "multiplied by the number of layers"),
            (1900 * 2**3, "for each of 108 layers"),
            (1, "the factor per layer would be 1"),
            (110 / 56, "counts layers"),
            (54, "counts layers"),
            (6.5, "the logarithm"),
            (1.2112**108, "without an image's edge"),
            (0.001, "*vanish* towards the input"),
            (-5, "is positive"),
            (1900.0**3, "too often"),
            (3e8, "a ratio is not in per cent"),
            ("many", "Expected a number"),
            (float("inf"), "finite number"),
        ],
    ),
    "diagnose": Bank(
        right=[
            {"A": "degradation", "B": "healthy", "C": "overfitting"},
            {"A": "Degradation", "B": " healthy", "C": "OVERFITTING", "D": "?"},
            dict(zip("CBA", ["overfitting", "healthy", "degradation"], strict=True)),
            {"C": "overfitting", "A": "DEGRADATION", "B": "healthy"},
        ],
        wrong=[
            ({"A": "overfitting", "B": "healthy", "C": "degradation"}, "nothing can be overfitted"),
            ({"A": "healthy", "B": "healthy", "C": "overfitting"}, "both errors stay high"),
            ({"A": "degradation", "B": "overfitting", "C": "healthy"}, "low and close together"),
            ({"A": "degradation", "B": "degradation", "C": "overfitting"}, "reaches zero"),
            ({"A": "degradation", "B": "healthy", "C": "degradation"}, "all it was asked to"),
            ({"A": "degradation", "B": "healthy", "C": "healthy"}, "far above the training error"),
            ({"A": "degradation", "B": "healthy"}, "C is missing"),
            (
                {"A": "degradation", "B": "fine", "C": "overfitting"},
                'Expected one of "degradation"',
            ),
            (["degradation", "healthy", "overfitting"], "Expected a dictionary"),
            ({}, "A, B and C are missing"),
            ({"a": "degradation", "b": "healthy", "c": "overfitting"}, "are capitals"),
            ({"degradation": "A", "healthy": "B", "overfitting": "C"}, "not vice versa"),
        ],
    ),
    "mended_error": Bank(
        right=[
            right_error,
            lambda n, x, y: train.evaluate(n, x, y)[1],
            on_a_copy,
            each_mode_put_back,
            in_chunks,
        ],
        wrong=[
            (as_it_comes, "the statistics of this batch"),
            (pollutes, "a measurement must not train"),
            (only_the_outermost_mode, "modules inside it are not"),
            (shallow_copy, "modules inside it are not"),
            (freezes, "`requires_grad` of"),
            (clears_gradients, "is lost"),
            (gradients_off_for_good, "Gradients are switched off"),
            (to_double, "the dtype of"),
            (leaves_a_hook, "a hook was left"),
            (stays_in_eval, "came in training mode and left in evaluation"),
            (always_back_to_training, "came in evaluation mode and left in training"),
            (lambda n, x, y: 1 - right_error(n, x, y), "the accuracy"),
            (lambda n, x, y: 100 * right_error(n, x, y), "not a percentage"),
            (lambda n, x, y: right_error(n, x, y) * len(y), "the *number* of errors"),
            (lambda n, x, y: train.evaluate(n, x, y)[0], "that is the loss"),
            (lambda n, x, y: 0.123, "got 0.123"),
            (over_the_images, "is `argmax` taken over"),
            (resets_statistics, "were reset before it was measured"),
            (only_the_first_norm, "only the first batch norm"),
            (
                lambda n, x, y: (n.eval()(x).argmax(0) != y).float().mean().item(),
                "one number for each image",
            ),
        ],
    ),
}
