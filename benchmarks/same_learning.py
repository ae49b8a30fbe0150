"""Does the fast path learn the same as the loop in the book? Both, on CIFAR-10, three seeds each.

    python benchmarks/same_learning.py --root FOLDER

ResNet-8, three short epochs of 12,800 images, lr 0.1, the paper's schedule and augmentation.
`train.fit` in float32, `reproduce` in the 16-bit type of this hardware. Same seeds do not give the
same crops in the two, so the means are compared, beside the deviation over seeds.
"""

import statistics
import tempfile
from pathlib import Path

import numpy as np
from _common import describe, origin, parser

from resnet_course import data, resnet, train
from resnet_course.reproduce import fast, logs
from resnet_course.reproduce.run import CURVES, Config, Training

SHOWN = ("train_loss", "train_error", "test_error")


def short(arrays, train_count, test_count):
    """Evenly spread images: copies of the data may be sorted by class."""
    counts = {"train": train_count, "test": test_count}
    few = {}
    for name, values in arrays.items():
        few[name] = values[fast.spread(len(values), counts[name.split("_")[0]]).numpy()]
    for part in counts:
        seen = np.bincount(few[f"{part}_labels"], minlength=10)
        assert seen.all(), f"classes are missing among the {part} images: {seen}"
    return few


def configuration(images, seed, epochs, half):
    per_epoch = len(images.train_labels) // 128
    return Config(
        data="cifar10-short",
        network="residual-8",
        shortcut="A",
        seed=seed,
        updates=epochs * per_epoch,
        batch_size=128,
        lr=0.1,
        schedule="paper",
        warmup=0,
        weight_decay=1e-4,
        momentum=0.9,
        augment=True,
        half=half,
        evaluate_every=per_epoch,
        evaluate_train_images=len(images.train_labels),
    )


def by_reproduce(config, images):
    """-> the run as in its log"""
    with tempfile.TemporaryDirectory() as folder:
        training = Training(config, images, Path(folder) / "checkpoint.pt")
        training.capture()
        training.go(stop=lambda: False, save_every=3600)
        log = training.log()
    return named(log, "reproduce")


def by_fit(config, images, epochs, log):
    """The same training with the loop of the book -> a run like `log`, that of `reproduce`"""
    train.seed_everything(config.seed)
    model = resnet.cifar_resnet(8)
    history = train.fit(
        model,
        teaching_data(images),
        epochs,
        config.lr,
        schedule=lambda step: config.rate(step) / config.lr,
        augment=data.crop_and_flip,
        evaluate_every=epochs,
        seed=config.seed,
    )
    curves = {name: log["curves"][name] for name in ("update", "epoch", "lr")}
    missing = [None] * epochs
    curves |= {name: getattr(history, name, missing) for name in CURVES if name not in curves}
    train_loss, train_error = fast.measure(model, images, "train")
    test_loss, test_error = fast.measure(model, images, "test")
    final = {
        "train_loss": history.train_loss[-1],
        "train_error": history.train_error[-1],
        "train_loss_eval": train_loss,
        "train_error_eval": train_error,
        "test_loss": test_loss,
        "test_error": test_error,
    }
    other = {
        "config": {**log["config"], "half": "none"},
        "final": final,
        "curves": curves,
        "layer_response_std": {},
        "seconds": {"training": sum(history.seconds), "evaluation": None},
    }
    return named({**log, **other}, "train.fit")


def named(log, path):
    """The run with the path that computed it in its name, its configuration and its command."""
    return {
        **log,
        "name": f"same-learning-{path}-seed{log['seed']}",
        "config": {**log["config"], "path": path},
        "command": "python benchmarks/same_learning.py",
    }


def teaching_data(images):
    """The same images as the `ImageData` of the chapters."""
    tensors = []
    for name in ("train", "test"):
        pixels, labels = images.part(name)
        tensors += [images.standardize(pixels).permute(0, 3, 1, 2).contiguous(), labels]
    return data.ImageData("cifar10-short", *tensors, 0.0, images.std, data.CIFAR10_CLASSES)


def compare(runs):
    """Print mean ± deviation of both paths -> the largest difference in deviations."""
    worst = 0.0
    for name in SHOWN:
        paths = {
            path: [run["final"][name] for run in runs if run["config"]["path"] == path]
            for path in ("train.fit", "reproduce")
        }
        mean = {path: statistics.fmean(values) for path, values in paths.items()}
        std = {path: statistics.stdev(values) for path, values in paths.items()}
        both = (sum(s * s for s in std.values()) / 2) ** 0.5
        apart = abs(mean["train.fit"] - mean["reproduce"]) / both
        worst = max(worst, apart)
        form = ".4f" if name.endswith("loss") else ".2%"
        text = ", ".join(f"{p} {mean[p]:{form}} ± {std[p]:{form}}" for p in paths)
        print(f"{name}: {text}; {apart:.1f} deviations apart")
    return worst


def main():
    p = parser(__doc__)
    p.add_argument("--root", help="folder or .npz file of CIFAR-10")
    options = p.parse_args()
    device = train.pick_device()
    counts, epochs, seeds = ((256, 100), 1, 2) if options.quick else ((12_800, 2_000), 3, 3)
    arrays = short(data.cifar10_arrays(options.root), *counts)
    images = fast.resident_arrays(arrays, device)
    native = train.native_half(device)
    half = next(name for name, dtype in fast.HALF.items() if dtype == native)
    print(describe(origin(__file__, device)))
    runs = []
    for seed in range(seeds):
        config = configuration(images, seed, epochs, half)
        log = by_reproduce(config, images)
        runs += [log, by_fit(config, images, epochs, log)]
    compare(runs)
    if options.json:
        logs.write_runs(options.json, runs)
        print(f"written: {options.json}")


if __name__ == "__main__":
    main()
