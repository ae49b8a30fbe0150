"""The loss around trained networks: filter-normalized slices, on the digits.

    python benchmarks/landscape.py --json book/recorded/landscape-digits.json

Plain-20, residual-20 and residual-56 after 8 epochs, seed 1. 256 training images, batch norm
with the statistics of this batch. Random directions, filter by filter as long as the filter itself
(https://arxiv.org/abs/1712.09913); one plane each, five single directions, and the direction of
the gradient, brought to the same lengths.
"""

import copy

import torch
from _common import describe, origin, parser, save
from torch import nn
from torch.nn import functional as F

from resnet_course import data, resnet, train

STEPS = [-1.0, -0.6, -0.4, -0.3, -0.2, 0.0, 0.2, 0.3, 0.4, 0.6, 1.0]
PLANE = [round(0.2 * k - 1, 1) for k in range(11)]
BUILD = {
    "plain-20": (resnet.cifar_plain, 20),
    "residual-20": (resnet.cifar_resnet, 20),
    "residual-56": (resnet.cifar_resnet, 56),
}


def filter_normalized(model, direction):
    """Every filter of a direction as long as the model's own; nothing for batch norm and biases."""
    parts = []
    for weight, part in zip(model.parameters(), direction, strict=True):
        if weight.dim() < 2:
            parts.append(torch.zeros_like(weight))
            continue
        own, drawn = (p.detach().flatten(1).norm(dim=1) for p in (weight, part))
        ratio = own / drawn.clamp(min=1e-20)
        parts.append(part * ratio.view(-1, *[1] * (weight.dim() - 1)))
    return parts


def random_direction(model, seed):
    draw = torch.Generator().manual_seed(seed)
    direction = [torch.randn(weight.shape, generator=draw) for weight in model.parameters()]
    return filter_normalized(model, direction)


def gradient_direction(model, images, labels):
    model = copy.deepcopy(model).train()
    F.cross_entropy(model(images), labels).backward()
    return filter_normalized(model, [weight.grad for weight in model.parameters()])


@torch.no_grad()
def losses(model, images, labels, places, *directions):
    """Loss at weights + a · first direction + b · second ..., for (a, b, ...) in places."""
    moved = copy.deepcopy(model).train()
    for module in moved.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 0.0  # the batch's statistics are used, and not remembered
    found = []
    for place in places:
        for to, weight, *parts in zip(
            moved.parameters(), model.parameters(), *directions, strict=True
        ):
            to.copy_(weight + sum(a * part for a, part in zip(place, parts, strict=True)))
        found.append(F.cross_entropy(moved(images), labels).item())
    return found


def main():
    options = parser(__doc__).parse_args()
    steps, plane = (STEPS[::5], PLANE[::5]) if options.quick else (STEPS, PLANE)
    digits, record = data.digits(), origin(__file__)
    images, labels = digits.train_images[:256], digits.train_labels[:256]
    print(describe(record))
    record |= {"steps": steps, "plane": plane, "images": len(labels), "networks": []}
    for seed in (1,):
        for name, (build, depth) in BUILD.items():
            train.seed_everything(seed)
            model, epochs = build(depth, in_channels=1), 1 if options.quick else 8
            train.fit(model, digits, epochs, 0.02, evaluate_every=epochs)
            at = [(a,) for a in steps]
            straight = [random_direction(model, k) for k in range(5)]
            uphill = gradient_direction(model, images, labels)
            row = {
                "network": name,
                "seed": seed,
                "random": [losses(model, images, labels, at, d) for d in straight],
                "gradient": losses(model, images, labels, at, uphill),
                "grid": [
                    losses(model, images, labels, [(a, b) for b in plane], *straight[:2])
                    for a in plane
                ],
            }
            record["networks"].append(row)
            middle = [sorted(values)[2] for values in zip(*row["random"], strict=True)]
            print(name, seed, "random", [f"{v:.2g}" for v in middle])
            print("  gradient", [f"{v:.2g}" for v in row["gradient"]], flush=True)
    if options.json:
        save(record, options.json)


if __name__ == "__main__":
    main()
