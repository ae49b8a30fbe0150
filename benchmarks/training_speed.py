"""Images a second: the loop everybody writes, the course's `fit`, and `reproduce`.

    python benchmarks/training_speed.py

ResNet-20 on 32 x 32 images, batch 128, pad-and-crop and flip everywhere. The images are random:
speed does not depend on what they show. Several runs side by side, too: added up. "Convolutions
alone" are those of the same network, forwards and backwards, and nothing else: no training with
this library's convolutions can be quicker.
"""

import statistics
import time

import numpy as np
import torch
from _common import describe, interleave, origin, parser, ratios, save
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from resnet_course import data, resnet, train
from resnet_course.reproduce import fast

BASE = "DataLoader, fp32"
WARM_UP = 6  # batches; two workers keep four ready
THREADS = torch.get_num_threads()


class Photos(Dataset):
    """As torchvision's CIFAR10: every image goes through PIL and a list of transforms."""

    def __init__(self, arrays):
        from torchvision import transforms as T

        self.images, self.labels = arrays["train_images"], arrays["train_labels"]
        normalize = T.Normalize((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616))
        steps = [T.RandomCrop(32, padding=4), T.RandomHorizontalFlip(), T.ToTensor(), normalize]
        self.transform = T.Compose(steps)

    def __len__(self):
        return 50_000  # as many as CIFAR-10: the workers must not run out while we measure

    def __getitem__(self, index):
        from PIL import Image

        index %= len(self.labels)
        return self.transform(Image.fromarray(self.images[index])), int(self.labels[index])


def random_arrays(count):
    """`count` random images in the layout of `data.cifar10_arrays`."""
    chance = np.random.default_rng(0)
    images = chance.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
    labels = chance.integers(0, 10, count)
    return {
        "train_images": images,
        "train_labels": labels,
        "test_images": images[:100],
        "test_labels": labels[:100],
    }


def everybody(arrays, steps, size, device):
    """The usual loop -> a function that trains `steps` batches and returns images a second."""
    cuda = device.type == "cuda"
    loader = DataLoader(
        Photos(arrays),
        size,
        shuffle=True,
        drop_last=True,
        num_workers=2,
        persistent_workers=True,
        pin_memory=cuda,
    )
    model = resnet.cifar_resnet(20).to(device)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4)

    def measure():
        model.train()
        for number, (images, labels) in enumerate(loader):
            images, labels = images.to(device), labels.to(device)
            optimizer.zero_grad()
            loss = F.cross_entropy(model(images), labels)
            loss.backward()
            optimizer.step()
            loss.item()
            if number == WARM_UP:  # what the workers had ready when we began is used up
                started = time.perf_counter()
            if number == WARM_UP + steps:
                break
        return steps * size / (time.perf_counter() - started)

    return measure


def by_fit(images, half, size):
    """`train.fit`, one epoch, without its evaluation."""
    model = resnet.cifar_resnet(20)

    def measure():
        history = train.fit(
            model, images, 1, 0.01, batch_size=size, augment=data.crop_and_flip, half=half
        )
        return images.batches_per_epoch(size) * size / history.seconds[0]

    return measure


def by_reproduce(resident, half, steps, size, runs=1):
    """The path of `reproduce`, with `--jobs` side by side: one thread of Python for each run."""
    updaters = [fast.Updater(resnet.cifar_resnet(20), resident, half=half) for _ in range(runs)]
    chance = fast.draw_epoch(len(resident.train_labels), torch.Generator(), augment=True)
    batches = chance.to(resident.train_labels.device).split(size, 1)[:steps]
    for updater in updaters:
        with updater.on_stream():
            problem = updater.capture(batches[0])
            if problem:
                print(problem)

    def go(updater):
        torch.set_num_threads(max(1, THREADS // runs))  # of this thread of Python only
        with updater.on_stream():
            for batch in batches:
                updater.update(batch, 0.01)
            updater.take_running()  # waits for the device

    def measure():
        started = time.perf_counter()
        fast.side_by_side(go, updaters)
        return runs * len(batches) * size / (time.perf_counter() - started)

    return measure


def convolutions(dtype, steps, size, device, runs=1):
    """The network's convolutions and their two gradients -> function for images a second.

    Weights are in `dtype` already and nothing is updated. `runs` side by side as `by_reproduce`.
    """
    model, layers = resnet.cifar_resnet(20).to(device), []

    def note(module, inputs, output):
        x, y = inputs[0].detach(), torch.randn_like(output)
        tensors = [t.detach().to(dtype, memory_format=torch.channels_last) for t in (x, y)]
        weight = module.weight.detach().to(dtype, memory_format=torch.channels_last)
        first = module.in_channels == 3  # images need no gradient
        layers.append((*tensors, weight, module.stride, module.padding, [not first, True, False]))

    hooks = [m.register_forward_hook(note) for m in model.modules() if isinstance(m, nn.Conv2d)]
    with torch.no_grad():
        model(torch.randn(size, 3, 32, 32, device=device))
    for hook in hooks:
        hook.remove()

    def go(_):
        torch.set_num_threads(max(1, THREADS // runs))
        for _ in range(steps):
            for x, y, weight, stride, padding, wanted in layers:
                F.conv2d(x, weight, None, stride, padding)
                torch.ops.aten.convolution_backward(
                    y, x, weight, None, stride, padding, (1, 1), False, (0, 0), 1, wanted
                )
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    @torch.no_grad()
    def measure():
        started = time.perf_counter()
        fast.side_by_side(go, range(runs))
        return runs * steps * size / (time.perf_counter() - started)

    return measure


def teaching_data(resident):
    """The same images as the `ImageData` of the chapters."""
    parts = [resident.part("train"), resident.part("test", 100)]
    tensors = []
    for images, labels in parts:
        tensors += [resident.standardize(images).permute(0, 3, 1, 2).contiguous(), labels]
    return data.ImageData("random", *tensors, 0.0, 1.0, data.CIFAR10_CLASSES)


def main():
    p = parser(__doc__)
    p.add_argument("--device", default=train.pick_device(), type=torch.device)
    options = p.parse_args()
    device, steps, size = options.device, 15, 128
    if device.type == "cuda":
        steps = 200
        torch.backends.cudnn.benchmark = True
    if options.quick:
        steps, size, options.rounds = 2, 16, 1
    fast.keep_freed_memory()  # as reproduce does; it helps the others, too
    native = train.native_half(device)
    name = next(n for n, dtype in fast.HALF.items() if dtype == native)

    arrays = random_arrays((steps + 2) * size)
    resident = fast.resident_arrays(arrays, device)
    few = teaching_data(resident)
    contenders = {
        BASE: everybody(arrays, steps, size, device),
        "fit, fp32": by_fit(few, None, size),
        "reproduce, fp32": by_reproduce(resident, "none", steps, size),
    }
    if native:
        contenders[f"fit, {name}"] = by_fit(few, native, size)
        contenders[f"reproduce, {name}"] = by_reproduce(resident, name, steps, size)
    for runs in (2, 4, 8) if device.type == "cuda" else (2,):
        contenders[f"reproduce, {name}, {runs} runs"] = by_reproduce(
            resident, name, steps, size, runs
        )
    dtype = native or torch.float32
    for runs in (1,) if device.type == "cuda" else (1, 2):
        tail = f", {runs} runs" if runs > 1 else ""
        contenders[f"convolutions alone, {name}{tail}"] = convolutions(
            dtype, steps, size, device, runs
        )

    values = interleave(contenders, options.rounds)
    times = ratios(values, BASE)
    record = origin(__file__, device)
    record["network"], record["batch_size"], record["rounds"] = "residual-20", size, options.rounds
    record["images_per_second"] = {n: statistics.median(each) for n, each in values.items()}
    record["ratio"] = times
    print(describe(record))
    print(f"{'':30}{'images/s':>9}{'ratio':>8}")
    for n, speed in record["images_per_second"].items():
        print(f"{n:30}{speed:9.0f}{times[n]:8.2f}")
    if options.json:
        save(record, options.json)


if __name__ == "__main__":
    main()
