"""What a trained network loses with its blocks: dropped, dropped in numbers, swapped, weakened.

    python benchmarks/lesions.py digits --json book/recorded/lesion-digits.json
    python benchmarks/lesions.py cifar10 --root FILE --weights runs \\
        --json book/recorded/lesion-cifar10.json

Digits: plain-20, residual-20, residual-56, and residual-20 trained with stochastic depth, 8 epochs,
three seeds. CIFAR-10: the shipped residual-20, and networks of which only the logs are shipped;
their weights come from the folder of checkpoints that `reproduce` fills with the commands in
these logs. 2,000 test images, evenly spread, 1,000 where many sets are tried. A block that is
dropped leaves its shortcut of option A, in plain networks too. Errors are in percent.
"""

import copy
import random
import statistics
from pathlib import Path

import torch
from _common import describe, origin, parser, save

from resnet_course import data, resnet, train
from resnet_course.reproduce import fast, logs, recorded

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


@torch.no_grad()
def errors(model, edits, images, labels):
    """Error in percent for each edit, {number of a block: what stands in its place} -> list.

    What lies in front of the first edited block is computed once.
    """
    model.eval()
    blocks = [model.get_submodule(name) for name in places(model)]
    wrong = [0] * len(edits)
    for x, y in zip(images.split(250), labels.split(250), strict=True):
        maps = [model.relu(model.bn1(model.conv1(x)))]
        for block in blocks:
            maps.append(block(maps[-1]))
        for number, edit in enumerate(edits):
            first = min(edit, default=len(blocks) + 1)
            out = maps[first - 1]
            for k in range(first, len(blocks) + 1):
                out = edit.get(k, blocks[k - 1])(out)
            logits = model.fc(torch.flatten(model.avgpool(out), 1))
            wrong[number] += (logits.argmax(1) != y).sum().item()
    return [100 * count / len(labels) for count in wrong]


def lesions(model, images, labels, few, doses=(), sets=SETS):
    """All lesions of one network -> dictionary for the log. `few` images for the many sets.

    With no `sets`, blocks are taken out one by one, and that is all.
    """
    model.eval()
    blocks = [model.get_submodule(name) for name in places(model)]
    count, some = len(blocks), (images[few], labels[few])
    around = {k: shortcut(block) for k, block in enumerate(blocks, 1)}
    whole, *one = errors(model, [{}, *({k: around[k]} for k in around)], images, labels)
    found = {"whole": whole, "one": one, "change": changes(model, some[0])}
    if not sets:
        return found
    same = [
        k for k in range(1, count)
        if blocks[k - 1].conv1.weight.shape == blocks[k].conv1.weight.shape
    ]  # fmt: skip
    swaps = [{k: blocks[k], k + 1: blocks[k - 1]} for k in same]
    swapped = errors(model, swaps, images, labels)
    found["swapped"] = {f"{k} {k + 1}": error for k, error in zip(same, swapped, strict=True)}
    draw, found["several"], found["doses"] = random.Random(0), {}, {}
    for size in (2, 3, 5, 8, 13):
        if size < count:
            chosen = [draw.sample(range(1, count + 1), size) for _ in range(sets)]
            edits = [{k: around[k] for k in off} for off in chosen]
            found["several"][size] = errors(model, edits, *some)
    for dose in doses:
        edits = [{k: Weakened(block, dose)} for k, block in enumerate(blocks, 1)]
        found["doses"][dose] = errors(model, edits, *some)
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
            found = lesions(model, digits.test_images, digits.test_labels, slice(None), doses)
            rows.append({"network": name, "seed": seed, "epochs": epochs, **found})
            rows[-1]["train_error"] = 100 * history.train_error[-1]
            show(rows[-1])
    return rows


RUNS = [  # of residual-32 and -44 only single blocks
    ("plain-20", 16000, SETS),
    ("residual-20", 16000, SETS),
    ("residual-32", 16000, 0),
    ("residual-44", 16000, 0),
    ("residual-56", 16000, SETS),
    ("residual-20", 64000, SETS),
]


def recorded_network(network, updates, weights):
    """A network trained on CIFAR-10, and where it comes from -> (model, facts for the log).

    `weights` is a folder with checkpoints of `reproduce` or plain state dictionaries, named like
    the runs; None stands for the weights that the course ships.
    """
    run = recorded.runs(data="cifar10", network=network, updates=updates, seed=0, slope=0.0)[0]
    facts = {"network": network, "updates": updates, "run": run.name, "command": run.command}
    facts["log_sha256"] = logs.sha256(recorded.folder() / run.file)
    if weights is None:
        shipped = recorded.pretrained_facts()[network]
        if shipped["run"] != run.name:
            raise SystemExit(f"the shipped {network} comes from {shipped['run']}, not {run.name}")
        return recorded.pretrained(network), facts | {"weights_sha256": shipped["sha256"]}
    path = Path(weights) / f"{run.name}.pt"
    content = torch.load(path, map_location="cpu", weights_only=True)
    kind, depth = network.split("-")
    model = (resnet.cifar_plain if kind == "plain" else resnet.cifar_resnet)(int(depth))
    model.load_state_dict(content["updater"]["model"] if "updater" in content else content)
    return model.eval(), facts | {"weights_sha256": logs.sha256(path)}


def photographs(images, part, count):
    """Evenly spread images, prepared for a recorded network -> (N, 3, 32, 32), labels."""
    pixels, labels = images.part(part, count)
    return images.standardize(pixels).permute(0, 3, 1, 2), labels


def on_cifar10(root, weights, quick):
    """One entry for the log after another; without `weights`, that of the shipped network."""
    everything = fast.resident_arrays(data.cifar10_arrays(root))
    images, labels = photographs(everything, "test", 100 if quick else 2000)
    for network, updates, sets in RUNS:
        shipped = updates == 64000
        if not (shipped or weights):
            continue
        model, facts = recorded_network(network, updates, None if shipped else weights)
        doses = DOSES if network.endswith("-20") else ()
        found = lesions(model, images, labels, slice(None, None, 2), doses, sets)
        row = {**facts, "images": len(labels), **found}
        show(row)
        yield row


def show(row):
    name, one = row["network"], " ".join(f"{error:.0f}" for error in row["one"])
    several = {k: round(statistics.median(v)) for k, v in row.get("several", {}).items()}
    middle = statistics.median(row["one"])
    print(
        f"{name} {row['whole']:.1f} one: {one} (median {middle:.1f}) {several}",
        flush=True,
    )


def main():
    p = parser(__doc__)
    p.add_argument("data", choices=["digits", "cifar10"])
    p.add_argument("--root", help="folder or .npz file of CIFAR-10")
    p.add_argument("--weights", help="folder of checkpoints of the runs on CIFAR-10")
    options = p.parse_args()
    record = origin(__file__)
    record["command"] += f" {options.data}" + " --weights runs" * bool(options.weights)
    print(describe(record))
    record["data"], record["networks"] = options.data, []
    if options.data == "digits":
        record["networks"] = on_digits(options.quick)
    else:
        for row in on_cifar10(options.root, options.weights, options.quick):
            record["networks"].append(row)
            if options.json:
                save(record, options.json)  # each takes minutes
    if options.json:
        save(record, options.json)


if __name__ == "__main__":
    main()
