"""What the course's trained network is worth on other images, and badly prepared: chapter 08.

    python benchmarks/transfer.py preprocessing --root FOLDER
    python benchmarks/transfer.py digits

`preprocessing`: CIFAR-10 test error for images prepared rightly and wrongly. `digits`: test error
on scikit-learn's digits, by number of labels, from scratch, with frozen features, fine-tuned.
Each writes its figures with --json, with the sha256 of the weights: other weights, other figures.
"""

import copy
import time

import torch
from _common import describe, origin, parser, save
from torch import nn
from torch.nn import functional as F

from resnet_course import data, resnet, train
from resnet_course.reproduce import recorded

NETWORK = "residual-20"
LABELS = (10, 30, 100, 300, 1437)
UPDATES, RATE = 60, 0.02


# Images


def as_photos(pixels):
    """Digits (N, 1, 8, 8), values 0 to 16 -> (N, 3, 32, 32), 0 to 255, as in the chapter."""
    large = F.interpolate(pixels * (255 / 16), size=32, mode="bilinear", align_corners=False)
    return large.repeat(1, 3, 1, 1)


def batch_size(count):
    """Small batches for few labels, so that each update sees part of them."""
    return min(16 if count < 300 else 32, count)


def some_labels(labels, count, seed):
    """Numbers of `count` training images, equally many of each digit; all of them if so many."""
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    if count >= len(labels):
        return order
    return torch.cat([order[labels[order] == digit][: count // 10] for digit in range(10)])


@torch.no_grad()
def shuffled(network, images, seed):
    """A copy with every convolution's weights in another order, and statistics that fit.

    The values stay, what they know goes: a control for all that needs no knowledge.
    """
    order, copied = torch.Generator().manual_seed(seed), copy.deepcopy(network)
    for module in copied.modules():
        if isinstance(module, nn.Conv2d):
            flat = module.weight.flatten()
            module.weight.copy_(
                flat[torch.randperm(len(flat), generator=order)].view_as(module.weight)
            )
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # the mean over all that follows
            module.reset_running_stats()
    copied.train()(images)
    return copied.eval()


# What is trained


@torch.no_grad()
def features(network, images):
    """(N, 3, H, W) -> (N, 64): what the last layer sees. In the network's own mode."""
    body = copy.copy(network)
    body._modules = {**network._modules, "fc": nn.Identity()}
    return torch.cat([body(batch) for batch in images.split(256)])


def head(inputs, labels, strength=1e-3):
    """Logistic regression on standardized inputs -> a function: inputs -> logits."""
    mean, std = inputs.mean(0), inputs.std(0) + 1e-6
    linear = nn.Linear(inputs.shape[1], 10)
    nn.init.zeros_(linear.weight)
    optimizer = torch.optim.LBFGS(linear.parameters(), max_iter=100, line_search_fn="strong_wolfe")

    def loss():
        optimizer.zero_grad()
        value = F.cross_entropy(linear((inputs - mean) / std), labels)
        value = value + strength * linear.weight.square().sum()
        value.backward()
        return value

    optimizer.step(loss)
    return torch.no_grad()(lambda x: linear((x - mean) / std))


def tune(network, images, labels, updates, seed=0):
    """All layers, in training mode; the rate falls to 0 along a cosine. In place."""
    optimizer = torch.optim.SGD(network.parameters(), RATE, momentum=0.9, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, updates)
    order, waiting = torch.Generator().manual_seed(seed), []
    images = images.contiguous(memory_format=torch.channels_last)
    network.to(memory_format=torch.channels_last).train()
    for _ in range(updates):
        if not waiting:
            shuffled = torch.randperm(len(labels), generator=order)
            size = batch_size(len(labels))
            waiting = [part for part in shuffled.split(size) if len(part) == size]
        chosen = waiting.pop()
        optimizer.zero_grad()
        F.cross_entropy(network(images[chosen]), labels[chosen]).backward()
        optimizer.step()
        schedule.step()
    return network


def error(logits, labels):
    return (logits.argmax(1) != labels).double().mean().item()


def with_new_head(network, seed):
    """A copy with a new last layer, for ten digits instead of ten kinds of things."""
    train.seed_everything(seed)
    fresh = copy.deepcopy(network)
    fresh.fc = nn.Linear(64, 10)
    return fresh


# The parts


def wrong_preparations(prepare):
    """{name: function of pixel values (N, 3, 32, 32)}; "right" is as in training."""
    mean = torch.tensor([0.485, 0.456, 0.406])[:, None, None]
    std = torch.tensor([0.229, 0.224, 0.225])[:, None, None]

    def larger(times):
        mean_image = F.interpolate(prepare.mean[None], scale_factor=times, mode="bilinear")
        return lambda x: (
            (F.interpolate(x, scale_factor=times, mode="bilinear") - mean_image) / prepare.std
        )

    return {
        "right": prepare,
        "0 to 255": lambda x: x,
        "0 to 1": lambda x: x / 255,
        "ImageNet's mean and std": lambda x: (x / 255 - mean) / std,
        "blue first": lambda x: prepare(x.flip(1)),
        "without colour": lambda x: prepare(x.mean(1, keepdim=True).expand_as(x)),
        "lying on its side": lambda x: prepare(x.rot90(1, (2, 3))),
        "dark and light exchanged": lambda x: prepare(255 - x),
        "twice as large": larger(2),
        "half as large": larger(0.5),
    }


@torch.no_grad()
def preprocessing(options):
    network, prepare = recorded.pretrained(NETWORK), recorded.preprocessing(NETWORK)
    arrays = data.cifar10_arrays(options.root)
    count = 200 if options.quick else 2_000
    pick = slice(None, None, 10_000 // count)
    pixels = torch.from_numpy(arrays["test_images"][pick]).permute(0, 3, 1, 2).float()
    labels = torch.from_numpy(arrays["test_labels"][pick])
    found = {}
    for name, way in wrong_preparations(prepare).items():
        logits = torch.cat([network(way(batch)) for batch in pixels.split(500)])
        sure = logits.softmax(1).max(1).values.mean().item()
        found[name] = {"test_error": error(logits, labels), "confidence": sure}
        print(f"{name:26} error {found[name]['test_error']:6.1%}   sure {sure:6.1%}", flush=True)
    return {"images": count, "preparations": found}


def digits(options):
    network, prepare = recorded.pretrained(NETWORK), recorded.preprocessing(NETWORK)
    real = data.digits()
    train_pixels, test_pixels = real.pixels(real.train_images), real.pixels(real.test_images)
    images, test_images = prepare(as_photos(train_pixels)), prepare(as_photos(test_pixels))
    inputs = {"pixels": (train_pixels.flatten(1), test_pixels.flatten(1))}
    inputs["frozen"] = features(network, images), features(network, test_images)
    control = shuffled(network, images[:500], seed=0)
    inputs["frozen, weights shuffled"] = features(control, images), features(control, test_images)

    counts, seeds, updates = ((10, 50), 1, 2) if options.quick else (LABELS, 3, UPDATES)
    found = {}
    for count in counts:
        for seed in range(seeds):
            chosen = some_labels(real.train_labels, count, seed)
            labels = real.train_labels[chosen]
            errors = {
                name: error(head(mine[chosen], labels)(theirs), real.test_labels)
                for name, (mine, theirs) in inputs.items()
            }
            for name in ("scratch", "fine-tuned"):
                train.seed_everything(seed)
                start = resnet.cifar_resnet(20)
                if name == "fine-tuned":
                    start = with_new_head(network, seed)
                tuned = tune(start, images[chosen], labels, updates, seed=seed)
                errors[name] = train.evaluate(tuned, test_images, real.test_labels)[1]
            for name, value in errors.items():
                found.setdefault(name, {}).setdefault(str(count), []).append(value)
            print(count, seed, {name: round(e, 3) for name, e in errors.items()}, flush=True)
    batches = {str(count): batch_size(count) for count in counts}
    recipe = {"updates": updates, "batch": batches, "lr": RATE, "seeds": seeds}
    return {"recipe": recipe, "test_error": found}


PARTS = {"preprocessing": preprocessing, "digits": digits}


def main():
    p = parser(__doc__)
    p.add_argument("part", choices=PARTS)
    p.add_argument("--root", help="folder or .npz file of CIFAR-10")
    options = p.parse_args()
    record = origin(__file__)
    record["command"] += f" {options.part}"
    record["weights"] = recorded.pretrained_facts()[NETWORK]["sha256"]
    print(describe(record))
    started = time.perf_counter()
    record |= PARTS[options.part](options)
    record["seconds"] = time.perf_counter() - started
    if options.json:
        save(record, options.json)


if __name__ == "__main__":
    main()
