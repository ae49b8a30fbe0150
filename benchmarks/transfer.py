"""What the course's trained network is worth on other images, and badly prepared: chapter 08.

    python benchmarks/transfer.py preprocessing --root FOLDER
    python benchmarks/transfer.py digits
    python benchmarks/transfer.py rates

`preprocessing`: CIFAR-10 test error for images prepared rightly and wrongly. `digits`: test error
on scikit-learn's digits, by number of labels, from scratch, with frozen features, fine-tuned.
`rates`: fine-tuning on 100 digits with one learning rate for all, and with two. Networks are
trained with bf16 convolutions, which is half as fast again on a processor that has them.
Each writes its figures with --json, with the sha256 of the weights: other weights, other figures.
"""

import copy
import itertools
import time

import torch
from _common import describe, origin, parser, save
from torch import nn
from torch.nn import functional as F

from resnet_course import data, resnet, train
from resnet_course.reproduce import recorded

NETWORK = "residual-20"
LABELS = (10, 30, 100, 300, 1437)
RATE = 0.02
RATES = {  # of the body, of the head
    "0.02 for all": (0.02, 0.02),
    "body 0.002, head 0.02": (0.002, 0.02),
    "0.1 for all": (0.1, 0.1),
    "body 0.01, head 0.1": (0.01, 0.1),
    "0.002 for all": (0.002, 0.002),
    "body 0, head 0.02": (0.0, 0.02),
    "0.02 for all, statistics kept": (0.02, 0.02),
    "body 0.002, head 0.02, statistics kept": (0.002, 0.02),
    "head first, then 0.002 for all, statistics kept": (0.002, 0.002),
}


# Images


def as_photos(pixels):
    """Digits (N, 1, 8, 8), values 0 to 16 -> (N, 3, 32, 32), 0 to 255, as in the chapter."""
    large = F.interpolate(pixels * (255 / 16), size=32, mode="bilinear", align_corners=False)
    return large.repeat(1, 3, 1, 1)


def batch_size(count):
    """Small batches for few labels, so that each update sees part of them."""
    return min(16 if count < 300 else 32, count)


def updates_for(count):
    """Until the training loss is near its end, which `train_loss` in the log shows."""
    return 200 if count < 300 else 400


def some_labels(labels, count, seed):
    """Numbers of `count` training images, equally many of each digit; all of them if so many."""
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    if count >= len(labels):
        return order
    return torch.cat([order[labels[order] == digit][: count // 10] for digit in range(10)])


@torch.no_grad()
def shuffled(network, seed, images=None):
    """A copy with every convolution's weights in another order; images: new statistics from them.

    The values stay, what they know goes: a control for all that needs no knowledge.
    """
    order, copied = torch.Generator().manual_seed(seed), copy.deepcopy(network)
    for module in copied.modules():
        if isinstance(module, nn.Conv2d):
            flat = module.weight.flatten()
            module.weight.copy_(
                flat[torch.randperm(len(flat), generator=order)].view_as(module.weight)
            )
        if images is not None and isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # the mean over all that follows
            module.reset_running_stats()
    if images is not None:
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


def tune(network, images, labels, updates, rates=(RATE, RATE), seed=0, keep=False, after_ten=None):
    """All layers, in place; the rates fall to 0 along a cosine. -> mean loss of the last tenth.

    In training mode; keep: in evaluation mode, so that running statistics are used and stay.
    `after_ten` gets the network after ten updates.
    """
    body = [p for name, p in network.named_parameters() if not name.startswith("fc.")]
    groups = [
        {"params": part, "lr": rate}
        for part, rate in zip((body, network.fc.parameters()), rates, strict=True)
    ]
    optimizer = torch.optim.SGD(groups, momentum=0.9, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, updates)
    order, waiting, losses = torch.Generator().manual_seed(seed), [], []
    images = images.contiguous(memory_format=torch.channels_last)
    network.to(memory_format=torch.channels_last).train(not keep)
    for update in range(updates):
        if update == 10 and after_ten:
            after_ten(copy.deepcopy(network).eval())
        if not waiting:
            mixed = torch.randperm(len(labels), generator=order)
            size = batch_size(len(labels))
            waiting = [part for part in mixed.split(size) if len(part) == size]
        chosen = waiting.pop()
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            loss = F.cross_entropy(network(images[chosen]), labels[chosen])
        loss.backward()
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
    last = losses[-max(1, updates // 10) :]
    return sum(last) / len(last)


def error(logits, labels):
    return (logits.argmax(1) != labels).double().mean().item()


def with_new_head(network, seed):
    """A copy with a new last layer, for ten digits instead of ten kinds of things."""
    train.seed_everything(seed)
    fresh = copy.deepcopy(network)
    fresh.fc = nn.Linear(64, 10)
    return fresh


def with_learned_head(network, inputs, labels):
    """A copy with the last layer that `head` learns from its features."""
    fresh, logits = copy.deepcopy(network), head(inputs, labels)
    fresh.fc = nn.Linear(64, 10)
    fresh.fc.bias.data = logits(torch.zeros(1, 64))[0]
    fresh.fc.weight.data = (logits(torch.eye(64)) - fresh.fc.bias.data).T.contiguous()
    return fresh


# The parts: each yields what it has found so far


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
    yield {"images": count, "preparations": found}


def prepared_digits(prepare):
    """The digits as photographs, prepared as for CIFAR-10 -> (digits, training, test images)."""
    real = data.digits()
    every = (real.train_images, real.test_images)
    return real, *(prepare(as_photos(real.pixels(images))) for images in every)


def digits(options):
    network, prepare = recorded.pretrained(NETWORK), recorded.preprocessing(NETWORK)
    real, images, test_images = prepared_digits(prepare)
    inputs = {"pixels": (real.train_images.flatten(1), real.test_images.flatten(1))}
    inputs["frozen"] = features(network, images), features(network, test_images)
    for seed in range(1 if options.quick else 3):
        for name, some in (("old statistics", None), ("new statistics", images[:500])):
            control = shuffled(network, seed, some)
            name = f"weights shuffled {seed}, {name}"
            inputs[name] = features(control, images), features(control, test_images)

    counts, seeds = ((10, 50), 1) if options.quick else (LABELS, 3)
    updates = {str(count): 2 if options.quick else updates_for(count) for count in counts}
    batches = {str(count): batch_size(count) for count in counts}
    recipe = {"updates": updates, "batch": batches, "lr": RATE, "convolutions": "bf16"}
    found, losses = {}, {}
    for seed, count in itertools.product(range(seeds), counts):
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
            loss = tune(start, images[chosen], labels, updates[str(count)], seed=seed)
            errors[name] = train.evaluate(start, test_images, real.test_labels)[1]
            losses.setdefault(name, {}).setdefault(str(count), []).append(loss)
        for name, value in errors.items():
            found.setdefault(name, {}).setdefault(str(count), []).append(value)
        print(count, seed, {name: round(e, 3) for name, e in errors.items()}, flush=True)
        if count == counts[-1]:
            recipe["seeds"] = seed + 1
            yield {"recipe": recipe, "test_error": found, "train_loss": losses}


def rates(options):
    """100 labels; what features are still worth after ten updates, and the error in the end."""
    network, prepare = recorded.pretrained(NETWORK), recorded.preprocessing(NETWORK)
    real, images, test_images = prepared_digits(prepare)
    seeds, updates = (1, 11) if options.quick else (3, updates_for(100))
    recipe = {"labels": 100, "updates": updates, "batch": batch_size(100), "convolutions": "bf16"}
    found = {}
    for seed, (name, both) in itertools.product(range(seeds), RATES.items()):
        chosen = some_labels(real.train_labels, 100, seed)
        few, labels, early = images[chosen], real.train_labels[chosen], []
        start = with_new_head(network, seed)
        if name.startswith("head first"):
            start = with_learned_head(network, features(network, few), labels)

        def look(model, few=few, labels=labels, early=early):
            logits = head(features(model, few), labels)(features(model, test_images))
            early.append(error(logits, real.test_labels))

        loss = tune(start, few, labels, updates, both, seed, "kept" in name, look)
        mine = {
            "features_after_ten": early[0],
            "test_error": train.evaluate(start, test_images, real.test_labels)[1],
            "train_loss": loss,
        }
        for what, value in mine.items():
            found.setdefault(what, {}).setdefault(name, []).append(value)
        print(f"{name:47}", seed, {what: round(e, 4) for what, e in mine.items()}, flush=True)
        if name == list(RATES)[-1]:
            recipe["seeds"] = seed + 1
            yield {"recipe": recipe, **found}


PARTS = {"preprocessing": preprocessing, "digits": digits, "rates": rates}


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
    for found in PARTS[options.part](options):  # after each seed
        record |= found
        record["seconds"] = time.perf_counter() - started
        if options.json:
            save(record, options.json)


if __name__ == "__main__":
    main()
