"""Seconds until CIFAR-10 is in memory: the course's local copy against torchvision's pickles.

    python benchmarks/data_loading.py --root FOLDER

torchvision's files are written from the same images first; its checks of md5 sums are left out, in
its favour.
"""

import pickle
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
from _common import describe, interleave, origin, parser, ratios, save
from torchvision.datasets import CIFAR10

from resnet_course import data

OURS, THEIRS = "resnet_course, cifar10_arrays", "torchvision, CIFAR10(...)"


class Unverified(CIFAR10):
    """torchvision's class without its checks."""

    def _check_integrity(self):
        return True

    def _load_meta(self):
        self.classes = list(data.CIFAR10_CLASSES)


def write_batches(arrays, folder):
    """The six pickles of the archive, with 10,000 images each."""
    folder = folder / CIFAR10.base_folder
    folder.mkdir(parents=True)
    parts = np.array_split(np.arange(len(arrays["train_labels"])), 5)
    batches = [(arrays["train_images"][p], arrays["train_labels"][p]) for p in parts]
    batches.append((arrays["test_images"], arrays["test_labels"]))
    names = [name for name, _ in CIFAR10.train_list + CIFAR10.test_list]
    for name, (images, labels) in zip(names, batches, strict=True):
        rows = np.ascontiguousarray(images.transpose(0, 3, 1, 2)).reshape(len(images), -1)
        with open(folder / name, "wb") as file:
            pickle.dump({"data": rows, "labels": labels.tolist()}, file, protocol=2)


def timed(load):
    def measure():
        started = time.perf_counter()
        load()
        return time.perf_counter() - started

    return measure


def main():
    p = parser(__doc__)
    p.add_argument("--root", help="folder or .npz file of CIFAR-10")
    options = p.parse_args()
    arrays = data.cifar10_arrays(options.root)  # downloads, and makes the local copy, if need be
    with tempfile.TemporaryDirectory() as folder:
        write_batches(arrays, Path(folder))
        del arrays
        contenders = {
            THEIRS: timed(lambda: [Unverified(folder, train=part) for part in (True, False)]),
            OURS: timed(lambda: data.cifar10_arrays(options.root)),
        }
        values = interleave(contenders, 1 if options.quick else options.rounds)
    record = origin(__file__)
    record["seconds"] = {name: statistics.median(each) for name, each in values.items()}
    record["ratio"] = ratios(values, THEIRS)
    print(describe(record))
    for name, seconds in record["seconds"].items():
        print(f"{name:32}{seconds:8.2f} s{record['ratio'][name]:8.2f}")
    if options.json:
        save(record, options.json)


if __name__ == "__main__":
    main()
