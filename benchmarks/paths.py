"""Through how many blocks the gradient of a residual network comes, on CIFAR-10.

    python benchmarks/paths.py --root FILE --weights runs --json book/recorded/lesion-paths.json

Residual-20 to -56 after 16,000 updates (weights as for `lesions.py`), and before training, three
seeds. 64 training images, evenly spread, in evaluation mode; an untrained network's batch norms
first take the statistics of 512 images. A share is the part of the gradient behind the first
convolution that comes through paths of one length, as a component along the whole gradient.
"""

import torch
from _common import describe, origin, parser, save
from lesions import photographs, places, recorded_network
from torch import nn
from torch.nn import functional as F

from resnet_course import data, resnet, train
from resnet_course.reproduce import fast

DEPTHS = 20, 32, 44, 56


def through(function, x, gradients):
    """Several gradients at a function's output, taken back to its input."""
    x = x.detach().requires_grad_()
    return torch.autograd.grad(function(x), x, gradients, is_grads_batched=True)[0]


def branch(block):
    """F alone: the block without its shortcut and the last ReLU."""
    return lambda x: block.bn2(block.conv2(block.relu(block.bn1(block.conv1(x)))))


def gradient_by_length(model, images, labels):
    """Gradient behind the first convolution through paths of each length, and by autograd.

    -> (lengths, N, C, H, W) and (N, C, H, W). Evaluation mode.
    """
    blocks = [model.get_submodule(name) for name in places(model)]
    x = [model.relu(model.bn1(model.conv1(images))).detach().requires_grad_()]
    for block in blocks:
        x.append(block(x[-1]))
    loss = F.cross_entropy(model.fc(x[-1].mean((2, 3))), labels, reduction="sum")
    end, true = torch.autograd.grad(loss, (x[-1], x[0]))
    parts = torch.zeros(len(blocks) + 1, *end.shape)
    parts[0] = end
    for i in reversed(range(len(blocks))):
        parts = parts * (x[i + 1] > 0)  # the ReLU behind the addition
        around = through(blocks[i].downsample, x[i], parts)
        inside = through(branch(blocks[i]), x[i], parts)
        parts = torch.cat([around[:1], around[1:] + inside[:-1]])
    return parts, true


def shares(model, images, labels, each=8):
    """What each length carries, of 1 -> (list, distance of the sum from autograd's gradient)."""
    along, size, apart = 0.0, 0.0, 0.0
    for x, y in zip(images.split(each), labels.split(each), strict=True):
        parts, true = gradient_by_length(model, x, y)
        along = along + (parts * true).flatten(1).sum(1).double()
        size += true.square().sum().item()
        apart += (parts.sum(0) - true).square().sum().item()
    return (along / size).tolist(), (apart / size) ** 0.5


@torch.no_grad()
def untrained(depth, images, seed):
    """A fresh network whose batch norms know the images, in evaluation mode."""
    train.seed_everything(seed)
    model = resnet.cifar_resnet(depth)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # remember the plain average
    model.train()(images)
    return model.eval()


def main():
    p = parser(__doc__)
    p.add_argument("--root", help="folder or .npz file of CIFAR-10")
    p.add_argument("--weights", help="folder of checkpoints of the runs on CIFAR-10")
    options = p.parse_args()
    record = origin(__file__)
    record["command"] += " --weights runs" * bool(options.weights)
    print(describe(record))
    everything = fast.resident_arrays(data.cifar10_arrays(options.root))
    images, labels = photographs(everything, "train", 8 if options.quick else 64)
    some, _ = photographs(everything, "train", 16 if options.quick else 512)
    record |= {"data": "cifar10", "images": len(labels), "networks": []}
    for depth in DEPTHS[: 1 if options.quick else None]:
        models = [
            (untrained(depth, some, seed), {"network": f"residual-{depth}", "seed": seed})
            for seed in range(1 if options.quick else 3)
        ]
        if options.weights:
            models.append(recorded_network(f"residual-{depth}", 16000, options.weights))
        for model, facts in models:
            found, apart = shares(model, images, labels)
            mean = sum(k * share for k, share in enumerate(found))
            row = {**facts, "trained": "run" in facts, "shares": found, "mean_length": mean}
            record["networks"].append(row | {"apart": apart})
            kind = "trained" if row["trained"] else "untrained"
            print(f"{facts['network']} {kind}: mean length {mean:.2f} ({apart:.0e})", flush=True)
    if options.json:
        save(record, options.json)


if __name__ == "__main__":
    main()
