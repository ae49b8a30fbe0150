"""What the course's trained network is worth on other images, and what its traps cost: chapter 08.

    python benchmarks/transfer.py preprocessing --root FOLDER
    python benchmarks/transfer.py digits
    python benchmarks/transfer.py traps --root FOLDER

`preprocessing`: CIFAR-10 test error for images prepared rightly and wrongly. `digits`: test error
on scikit-learn's digits, by number of labels, from scratch, with frozen features, fine-tuned.
`traps`: what batch norm does to a network that somebody else trained. Each writes its figures with
--json, together with the sha256 of the weights: other weights, other figures.
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
LABELS = (10, 20, 50, 100, 200, 500, 1437)
UPDATES, BATCH, RATE = 60, 32, 0.02


# Images


def as_photos(pixels):
    """Digits (N, 1, 8, 8), values 0 to 16 -> (N, 3, 32, 32), 0 to 255, as in the chapter."""
    large = F.interpolate(pixels * (255 / 16), size=32, mode="bilinear", align_corners=False)
    return large.repeat(1, 3, 1, 1)


def some_labels(labels, count, seed):
    """Numbers of `count` training images, equally many of each digit; all of them if so many."""
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    if count >= len(labels):
        return order
    return torch.cat([order[labels[order] == digit][: count // 10] for digit in range(10)])


def shuffle_weights_(network, seed):
    """The weights of every convolution in another order: their values stay, what they know goes."""
    order = torch.Generator().manual_seed(seed)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            flat = module.weight.data.flatten()
            module.weight.data = flat[torch.randperm(len(flat), generator=order)].view_as(
                module.weight
            )


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


def tune(network, images, labels, updates, rate=RATE, body=1.0, training=True, seed=0):
    """SGD with momentum 0.9, the rate falling to 0 along a cosine; `body` is the body's share.

    In place -> the network in evaluation mode.
    """
    rest = [p for name, p in network.named_parameters() if not name.startswith("fc.")]
    groups = [{"params": network.fc.parameters(), "lr": rate}, {"params": rest, "lr": rate * body}]
    optimizer = torch.optim.SGD(groups, momentum=0.9, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, updates)
    order, waiting = torch.Generator().manual_seed(seed), []
    network.train(training)
    for _ in range(updates):
        if not waiting:
            shuffled = torch.randperm(len(labels), generator=order)
            size = min(BATCH, len(labels))
            waiting = [part for part in shuffled.split(size) if len(part) == size]
        chosen = waiting.pop()
        optimizer.zero_grad()
        F.cross_entropy(network(images[chosen]), labels[chosen]).backward()
        optimizer.step()
        schedule.step()
    return network.eval()


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
    count = 200 if options.quick else 10_000
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
    shuffled = copy.deepcopy(network)
    shuffle_weights_(shuffled, seed=0)
    inputs["frozen, weights shuffled"] = features(shuffled, images), features(shuffled, test_images)

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
    recipe = {"updates": updates, "batch": BATCH, "lr": RATE, "seeds": seeds}
    return {"recipe": recipe, "test_error": found}


def traps(options):
    network, prepare = recorded.pretrained(NETWORK), recorded.preprocessing(NETWORK)
    real, seeds = data.digits(), 1 if options.quick else 3
    count, updates = (10, 2) if options.quick else (100, UPDATES)
    images = prepare(as_photos(real.pixels(real.train_images)))
    test = prepare(as_photos(real.pixels(real.test_images))), real.test_labels
    source, found = photographs(prepare, options), {}

    def note(name, errors):
        found.setdefault(name, []).append(errors)
        print(f"{name:40}", {of: f"{value:.1%}" for of, value in errors.items()}, flush=True)

    for seed in range(seeds):
        chosen = some_labels(real.train_labels, count, seed)
        mine = images[chosen], real.train_labels[chosen]
        for mode in ("evaluation", "training"):  # only the head learns; where is the body?
            drifted = with_new_head(network, seed)
            learn_head(drifted, *mine, mode == "training", updates)
            errors = {"digits": train.evaluate(drifted, *test)[1]}
            drifted.fc = network.fc
            errors["CIFAR-10"] = train.evaluate(drifted, *source)[1]
            note(f"frozen body in {mode} mode", errors)
        for batches in (1, 5, 20):
            drifted = look_at(copy.deepcopy(network), images, batches, seed)
            errors = {"CIFAR-10": train.evaluate(drifted, *source)[1]}
            note(f"batches looked at in training mode: {batches}", errors)
        for rate, body, mode in RATES:
            tuned = with_new_head(network, seed)
            tune(tuned, *mine, updates, rate, body, mode == "training", seed)
            errors = {"digits": train.evaluate(tuned, *test)[1]}
            note(f"fine-tuned, rate {rate}, body x {body}, {mode} mode", errors)
    return {"images": len(source[1]), "labels": count, "error": found}


RATES = [(rate, body, "training") for rate in (0.004, 0.02, 0.1, 0.5) for body in (1.0, 0.1)]
RATES += [(0.02, 1.0, "evaluation"), (0.004, 1.0, "evaluation")]


def photographs(prepare, options):
    """Every fifth test image of CIFAR-10, prepared -> (images, labels)."""
    arrays = data.cifar10_arrays(options.root)
    pick = slice(None, None, 500 if options.quick else 5)
    pixels = torch.from_numpy(arrays["test_images"][pick]).permute(0, 3, 1, 2).float()
    return prepare(pixels), torch.from_numpy(arrays["test_labels"][pick])


@torch.no_grad()
def look_at(network, images, batches, seed):
    """Nothing learns: a few batches pass through in training mode. In place -> the network."""
    order = torch.Generator().manual_seed(seed)
    network.train()
    for _ in range(batches):
        network(images[torch.randperm(len(images), generator=order)[:BATCH]])
    return network.eval()


def learn_head(network, images, labels, training, updates):
    """Freeze all but the last layer, as is usually done, and train in this mode."""
    for name, parameter in network.named_parameters():
        parameter.requires_grad = name.startswith("fc.")
    tune(network, images, labels, updates, training=training)


PARTS = {"preprocessing": preprocessing, "digits": digits, "traps": traps}


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
