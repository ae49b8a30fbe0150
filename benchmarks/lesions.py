"""What a trained network loses with its blocks: dropped, dropped in numbers, swapped, weakened.

    python benchmarks/lesions.py digits --json book/recorded/lesion-digits.json
    python benchmarks/lesions.py cifar10 --root FILE --json book/recorded/lesion-cifar10.json

Digits: plain-20, residual-20, residual-56, and residual-20 trained with stochastic depth, 8 epochs,
three seeds. CIFAR-10: the recorded residual-20 and 2,500 test images. A block
that is dropped leaves its shortcut of option A, in plain networks too. Errors are in percent.
"""

import copy
import random
import statistics

import torch
from _common import describe, origin, parser, save

from resnet_course import data, resnet, train
from resnet_course.reproduce import recorded

SETS = 8  # random sets of blocks for each size
DOSES = (0.1, 0.2, 0.3, 0.4, 0.5)  # how far a block's output is moved, as a share of its input


class StochasticBlock(resnet.BasicBlock):
    """Stochastic depth (https://arxiv.org/abs/1603.09382): in training F is dropped at random."""

    survival = 1.0

    def forward(self, x):
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        drawn = torch.rand(()) < self.survival
        out = out * (drawn if self.training else self.survival)
        return self.relu(out + self.downsample(x))


def stochastic(depth, in_channels=1, last=0.5):
    """A residual network whose blocks survive with probability 1 at first, `last` at the end."""
    n = resnet.blocks_per_stage(depth)
    model = resnet.CifarResNet(StochasticBlock, n, 10, in_channels, resnet.option_a)
    blocks = [model.get_submodule(name) for name in places(model)]
    for number, block in enumerate(blocks, 1):
        block.survival = 1 - number / len(blocks) * (1 - last)
    return model


def places(model):
    """The names of a network's blocks, from the input to the output."""
    stages = ("layer1", "layer2", "layer3")
    return [f"{s}.{i}" for s in stages for i in range(len(model.get_submodule(s)))]


def shortcut(block):
    conv = block.conv1
    return resnet.option_a(conv.in_channels, conv.out_channels, conv.stride[0])


def replaced(model, changes):
    """A copy in evaluation mode with some blocks, counted from 1, replaced: {number: module}."""
    model = copy.deepcopy(model).eval()
    names = places(model)
    for number, module in changes.items():
        stage, _, index = names[number - 1].partition(".")
        model.get_submodule(stage)[int(index)] = module
    return model


def without(model, off):
    blocks = [model.get_submodule(name) for name in places(model)]
    return replaced(model, {number: shortcut(blocks[number - 1]) for number in off})


class Weakened(torch.nn.Module):
    """A block on its way to its shortcut: its output moved by `dose` times the shortcut's norm."""

    def __init__(self, block, dose):
        super().__init__()
        self.block, self.around, self.dose = block, shortcut(block), dose

    def forward(self, x):
        past, out = self.around(x), self.block(x)
        apart = (past - out).flatten(1).norm(dim=1)
        share = self.dose * past.flatten(1).norm(dim=1) / apart.clamp(min=1e-12)
        return out + share.clamp(max=1).view(-1, 1, 1, 1) * (past - out)


@torch.no_grad()
def changes(model, images):
    """How far each block moves its input: norm of (output - shortcut) over norm of the shortcut."""
    x, ratios = model.relu(model.bn1(model.conv1(images))), []
    for name in places(model):
        block = model.get_submodule(name)
        out, past = block(x), shortcut(block)(x)
        ratios.append(((out - past).norm() / past.norm()).item())
        x = out
    return ratios


def lesions(model, images, labels, few, doses=()):
    """All lesions of one network -> dictionary for the log. `few` images for the many sets."""
    model.eval()
    count = len(places(model))

    def error(network, part=None):
        return 100 * train.evaluate(network, images[:part], labels[:part])[1]

    draw = random.Random(0)
    blocks = [model.get_submodule(name) for name in places(model)]
    same = [
        k for k in range(1, count)
        if blocks[k - 1].conv1.weight.shape == blocks[k].conv1.weight.shape
    ]  # fmt: skip
    found = {
        "whole": error(model),
        "one": [error(without(model, {k})) for k in range(1, count + 1)],
        "change": changes(model, images[:few]),
        "swapped": {
            f"{k} {k + 1}": error(replaced(model, {k: blocks[k], k + 1: blocks[k - 1]}))
            for k in same
        },
        "several": {},
        "doses": {},
    }
    for size in (2, 3, 5, 8, 13):
        if size < count:
            sets = [draw.sample(range(1, count + 1), size) for _ in range(SETS)]
            found["several"][size] = [error(without(model, off), few) for off in sets]
    for dose in doses:
        weakened = [
            replaced(model, {k: Weakened(block, dose)}) for k, block in enumerate(blocks, 1)
        ]
        found["doses"][dose] = [error(network, few) for network in weakened]
    return found


BUILD = {
    "plain-20": lambda: resnet.cifar_plain(20, in_channels=1),
    "residual-20": lambda: resnet.cifar_resnet(20, in_channels=1),
    "residual-56": lambda: resnet.cifar_resnet(56, in_channels=1),
    "stochastic-20": lambda: stochastic(20),
}


def on_digits(quick):
    digits, rows = data.digits(), []
    for seed in range(1 if quick else 3):
        for name, build in list(BUILD.items())[: 2 if quick else None]:
            train.seed_everything(seed)
            model, epochs = build(), 1 if quick else 8
            history = train.fit(model, digits, epochs, 0.02, evaluate_every=epochs)
            doses = () if name == "residual-56" else DOSES
            found = lesions(model, digits.test_images, digits.test_labels, 360, doses)
            rows.append({"network": name, "seed": seed, "epochs": epochs, **found})
            rows[-1]["train_error"] = 100 * history.train_error[-1]
            show(rows[-1])
    return rows


def on_cifar10(root, quick):
    arrays = data.cifar10_arrays(root)
    pixels = torch.from_numpy(arrays["test_images"]).permute(0, 3, 1, 2).contiguous()
    images = recorded.preprocessing("residual-20")(pixels)
    labels = torch.from_numpy(arrays["test_labels"]).long()
    spread = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    spread = spread[: 200 if quick else 2500]  # drawn: the copy may be sorted by class
    model = recorded.pretrained("residual-20")
    found = lesions(model, images[spread], labels[spread], 500)
    row = {"network": "residual-20", "run": "recorded.pretrained", "images": len(spread), **found}
    show(row)
    return [row]


def show(row):
    one = " ".join(f"{error:.0f}" for error in row["one"])
    several = {k: round(statistics.median(v)) for k, v in row["several"].items()}
    middle = statistics.median(row["one"])
    print(f"{row['network']} {row['whole']:.1f} one: {one} (median {middle:.1f}) {several}")


def main():
    p = parser(__doc__)
    p.add_argument("data", choices=["digits", "cifar10"])
    p.add_argument("--root", help="folder or .npz file of CIFAR-10")
    options = p.parse_args()
    record = origin(__file__)
    record["command"] += f" {options.data}"
    print(describe(record))
    quick = options.quick
    on = on_digits(quick) if options.data == "digits" else on_cifar10(options.root, quick)
    record["data"], record["networks"] = options.data, on
    if options.json:
        save(record, options.json)


if __name__ == "__main__":
    main()
