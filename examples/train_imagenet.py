"""Train a ResNet of this course on a folder of images: one process, or many on several machines.

    python examples/train_imagenet.py FOLDER --out OUT
    torchrun --standalone --nproc-per-node 2 examples/train_imagenet.py FOLDER --out OUT

FOLDER holds train/ and val/, each with one folder of images a class, as ImageNet is usually laid
out. The defaults are the usual recipe for ResNet-50: 90 epochs, 256 images an update, a rate of
0.1 that follows the batch. `--batch-size` counts the images of one update, over *all* processes, so
that the same command learns the same on one process as on eight.

The same command again goes on from OUT/checkpoint.pt, also in the middle of an epoch, and ends with
the weights it would have had without the interruption. That is exact because nothing depends on
what happened before except the checkpoint: the order of the images and how each is cut out are
drawn from the seed, the epoch and the image's number. `torchrun --max-restarts 3` does it unasked.

Left out: what makes reading faster than JPEG files, moving averages of weights, label smoothing,
mixup and all else of longer recipes. `torch.distributed` is PyTorch's own engine; see its manual.
"""

import argparse
import hashlib
import io
import json
import math
import os
import signal
import sys
import time
from contextlib import nullcontext
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.rendezvous import rendezvous
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from resnet_course import resnet

NETWORKS = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")
SMALL = ("cifar8", "cifar20", "cifar32", "cifar44", "cifar56", "cifar110")  # for small images
NOT_LEARNING = {"folder", "out", "workers", "save_every", "stop_after"}  # these may change


class Unusable(Exception):
    """One sentence for whoever started this: what is wrong, and what to do."""


def read_options(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("folder", type=Path, help="holds train/ and val/, each with a folder a class")
    add("--out", type=Path, required=True, help="folder for checkpoint.pt and log.json")
    add("--arch", choices=NETWORKS + SMALL, default="resnet50", metavar="NAME")
    add("--epochs", type=int, default=90)
    add("--batch-size", type=int, default=256, help="images of one update, over all processes")
    add("--accumulate", type=int, default=1, help="pieces in which a process takes its share")
    add("--image-size", type=int, default=224)
    add("--lr", type=float, default=0.1, help="for 256 images; it follows the batch size")
    add("--warmup", type=float, default=5, help="epochs in which the rate rises from 0")
    add("--schedule", choices=("cosine", "step"), default="cosine")
    add("--weight-decay", type=float, default=1e-4)
    add("--sync-bn", action="store_true", help="batch norm over the batches of all processes")
    add("--amp", action="store_true", help="16-bit numbers where that is safe")
    add("--seed", type=int, default=0)
    add("--workers", type=int, default=4, help="reading processes for each training process")
    add("--save-every", type=int, default=0, help="updates between checkpoints (0: each epoch)")
    add("--stop-after", type=int, default=0, help="end after this many updates (0: do not)")
    options = parser.parse_args(arguments)
    for name in ("epochs", "batch_size", "accumulate", "image_size"):
        if getattr(options, name) < 1:
            parser.error(f"--{name.replace('_', '-')} must be at least 1")
    return options


# Processes. Each knows its number (rank), and how many there are (world).


def start_processes():
    """Join the other processes, if torchrun started any -> (rank, world, device)."""
    local = int(os.environ.get("LOCAL_RANK", 0))
    cuda = torch.cuda.is_available()
    if "RANK" in os.environ:
        # The first attempt's addresses stay in the store; after a restart they lead nowhere.
        store, rank, world = next(rendezvous("env://"))
        attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
        store = dist.PrefixStore(f"attempt {attempt}", store)
        backend = "nccl" if cuda else "gloo"
        dist.init_process_group(backend, store=store, rank=rank, world_size=world)
    device = torch.device("cuda", local) if cuda else torch.device("cpu")
    if cuda:
        torch.cuda.set_device(device)
    return (*rank_and_world(), device)


def rank_and_world():
    return (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)


def together(function, *arguments):
    """`function(*arguments)` on every process; if one cannot, one says why, and all stop."""
    result, problem = None, None
    try:
        result = function(*arguments)
    except Unusable as unusable:
        problem = str(unusable)
    rank, world = rank_and_world()
    problems = [problem] * world
    if world > 1:
        dist.all_gather_object(problems, problem)
    first = next((each for each in problems if each), None)
    if first and rank == 0:
        print(f"train_imagenet: {first}", file=sys.stderr, flush=True)
    if first and world > 1:
        dist.barrier()  # nobody ends, and takes the others along, before it is said
    if first:
        sys.exit(1)
    return result


# Images


def chance(*numbers):
    """A seed from the numbers that it shall depend on, the same everywhere."""
    return int.from_bytes(hashlib.sha256(repr(numbers).encode()).digest()[:8], "big") >> 1


class Images(ImageFolder):
    """A folder of images; item (epoch, number) is an image, cut out as this epoch's chance says."""

    def __init__(self, folder, transform, seed):
        if not folder.is_dir():
            raise Unusable(
                f"there is no folder {folder}: FOLDER must hold train/ and val/, each with one "
                "folder of images a class"
            )
        try:
            super().__init__(folder, transform)
        except FileNotFoundError as error:  # no class at all, or one without images
            said = str(error).split(" Supported")[0].rstrip(".")
            raise Unusable(f"{folder} cannot be used: {said}") from None
        self.seed = seed

    def __getitem__(self, item):
        epoch, number = item
        path, label = self.samples[number]
        try:
            image = self.loader(path)
        except (OSError, SyntaxError, ValueError) as error:  # what Pillow raises
            why = "is not there any more" if isinstance(error, FileNotFoundError) else "is broken"
            raise Unusable(
                f"the image {path} {why}: put it right, and the same command goes on from the last "
                "checkpoint"
            ) from None
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(chance(self.seed, epoch, number))
            return self.transform(image), label


def transforms(size):
    """(for training, for evaluation): the usual crops, then the mean and std of ImageNet."""
    end = [
        v2.ToImage(),
        v2.ToDtype(torch.float32, scale=True),
        v2.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    ]
    cut = [v2.RandomResizedCrop(size, antialias=True), v2.RandomHorizontalFlip()]
    middle = [v2.Resize(round(size * 256 / 224), antialias=True), v2.CenterCrop(size)]
    return v2.Compose([*cut, *end]), v2.Compose([*middle, *end])


def training_batches(options, count, epoch, done, rank, world):
    """What this process reads in this epoch, from update `done` on: lists of (epoch, number).

    All processes shuffle alike. Of every update's images, each takes its share, in `accumulate`
    pieces; what is left over at the end of the epoch is left out.
    """
    generator = torch.Generator().manual_seed(chance(options.seed, epoch))
    order = torch.randperm(count, generator=generator)
    updates = count // options.batch_size
    order = order[: updates * options.batch_size].view(updates, -1, world * options.accumulate)
    pieces = order[done:, :, rank * options.accumulate : (rank + 1) * options.accumulate]
    return [[(epoch, n) for n in piece] for piece in pieces.mT.flatten(0, 1).tolist()]


def loader(images, batches, options, device):
    return torch.utils.data.DataLoader(
        images, batch_sampler=batches, num_workers=options.workers, pin_memory=device.type == "cuda"
    )


def look_at(options, world):
    """Both sets of images, after a look at what would fail later -> (train, val)."""
    train, val = (
        Images(options.folder / part, transform, options.seed)
        for part, transform in zip(("train", "val"), transforms(options.image_size), strict=True)
    )
    if train.classes != val.classes:
        odd = sorted(set(train.classes) ^ set(val.classes))[0]
        raise Unusable(f"the class {odd} is in one of train/ and val/ only: both need every class")
    share = world * options.accumulate
    if options.batch_size % share:
        raise Unusable(
            f"--batch-size {options.batch_size} cannot be shared out: make it a multiple of "
            f"{share} ({world} processes times --accumulate {options.accumulate})"
        )
    if len(train) < options.batch_size:
        raise Unusable(f"--batch-size {options.batch_size} is more than all {len(train)} images")
    return train, val


# The network


class Sum(torch.autograd.Function):
    """The sum over all processes. Its gradient is the sum of theirs, since all of them used it."""

    @staticmethod
    def forward(ctx, x):
        dist.all_reduce(x := x.clone())
        return x

    @staticmethod
    def backward(ctx, gradient):
        dist.all_reduce(gradient := gradient.clone())
        return gradient


class SyncBatchNorm(nn.BatchNorm2d):
    """Batch norm over the batches of all processes, for CPUs: nn.SyncBatchNorm is for GPUs only."""

    def forward(self, x):
        if not self.training:
            return super().forward(x)
        images = x.to(torch.promote_types(x.dtype, torch.float32))  # sums need more than 16 bits
        dims, column = (0, 2, 3), (1, -1, 1, 1)
        n = x.numel() // x.shape[1] * rank_and_world()[1]  # every process has as many images
        mean = Sum.apply(images.sum(dims)) / n
        centred = images - mean.view(column)
        var = Sum.apply(centred.square().sum(dims)) / n
        with torch.no_grad():
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(var * n / (n - 1), self.momentum)
        scale = self.weight * (var + self.eps).rsqrt()
        return (centred * scale.view(column) + self.bias.view(column)).to(x.dtype)


def synchronized(model, device):
    """`model` with every batch norm made one over all processes."""
    if device.type == "cuda":
        return nn.SyncBatchNorm.convert_sync_batchnorm(model)
    for module in list(model.modules()):
        for name, child in module.named_children():
            if type(child) is nn.BatchNorm2d:
                own = SyncBatchNorm(child.num_features, child.eps, child.momentum)
                own.load_state_dict(child.state_dict())
                setattr(module, name, own)
    return model


def layout(device):
    """Channels last are quicker on GPUs; on CPUs batch norm in float32 loses two digits by it."""
    return torch.channels_last if device.type == "cuda" else torch.contiguous_format


def build(options, classes, device):
    torch.manual_seed(options.seed)  # the same weights on every process
    if options.arch in SMALL:
        model = resnet.cifar_resnet(int(options.arch.removeprefix("cifar")), classes)
    else:
        model = getattr(resnet, options.arch)(classes)
    model.to(device, memory_format=layout(device))
    return synchronized(model, device) if options.sync_bn and dist.is_initialized() else model


def rate(options, update, updates_per_epoch):
    """Learning rate of an update: it follows the batch size, after a warm-up."""
    top = options.lr * options.batch_size / 256
    epoch = (update + 1) / updates_per_epoch
    if epoch < options.warmup:
        return top * epoch / options.warmup
    if options.schedule == "step":  # epochs 30, 60 and 80 of 90
        return top * 0.1 ** sum(epoch > options.epochs * part for part in (1 / 3, 2 / 3, 8 / 9))
    rest = max(options.epochs - options.warmup, 1e-9)
    return top * 0.5 * (1 + math.cos(math.pi * min(1, (epoch - options.warmup) / rest)))


def half_precision(options, device):
    """(autocast, scaler) for --amp: bfloat16, or float16 with a scaler on GPUs that lack it."""
    old = device.type == "cuda" and torch.cuda.get_device_capability(device) < (8, 0)
    kind = torch.float16 if old else torch.bfloat16
    autocast = torch.autocast(device.type, kind) if options.amp else nullcontext()
    return autocast, torch.amp.GradScaler(device.type, enabled=options.amp and old)


# Checkpoints


class Progress:
    """All that a run has become: update, log, weights, momentum, scaler. Saved whole or not."""

    def __init__(self, options, images, device, model, optimizer, scaler):
        self.path = options.out / "checkpoint.pt"
        self.parts = {"model": model, "optimizer": optimizer, "scaler": scaler}
        self.update, self.log = 0, []
        self.sums = torch.zeros(2, device=device)  # loss and errors of the epoch so far
        names = "\n".join(f"{Path(path).name} {label}" for path, label in images.samples)
        self.settings = {k: v for k, v in vars(options).items() if k not in NOT_LEARNING}
        self.settings["images"] = hashlib.sha256(names.encode()).hexdigest()[:16]

    def average(self):
        """Make the sums those of all processes, and see that training is still sound."""
        world = rank_and_world()[1]
        if world > 1:
            dist.all_reduce(self.sums)
            self.sums /= world
        if not self.sums.isfinite().all():
            raise Unusable(
                f"the loss is no number any more before update {self.update}: start anew with a "
                "smaller --lr or a longer --warmup, in another --out"
            )

    def save(self):
        """Write it down; only the first process does."""
        if rank_and_world()[0] > 0:
            return
        content = {name: part.state_dict() for name, part in self.parts.items()}
        content |= {"update": self.update, "log": self.log, "sums": self.sums}
        torch.save(content | {"settings": self.settings}, buffer := io.BytesIO())
        self.write(self.path, buffer.getbuffer())
        self.write(self.path.with_name("log.json"), json.dumps(self.log, indent=1).encode())

    def write(self, path, content):
        beside = path.with_suffix(".new")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(beside, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(beside, path)
        except OSError as error:
            beside.unlink(missing_ok=True)
            raise Unusable(
                f"{path} could not be written ({error.strerror}): make room, and the same command "
                "goes on from the last checkpoint; what was written before is whole"
            ) from None

    def load(self, device):
        """Go on from the checkpoint, if there is one -> was there one?"""
        if not self.path.exists():
            return False
        again = f"remove {self.path} or choose another --out to start anew"
        try:
            content = torch.load(self.path, map_location=device, weights_only=True)
            settings = content["settings"]
        except Exception:
            raise Unusable(f"{self.path} is damaged or no checkpoint: {again}") from None
        for name, value in self.settings.items():
            if settings.get(name) != value:
                raise Unusable(
                    f"{self.path} is of a run with {name} {settings.get(name)}, and now it is "
                    f"{value}: {again}"
                )
        for name, part in self.parts.items():
            part.load_state_dict(content[name])
        self.update, self.log, self.sums = (content[name] for name in ("update", "log", "sums"))
        return True


# Training and evaluation


def train_epoch(options, model, images, progress, device):
    """The updates of one epoch that are still to do -> images a second, all processes together."""
    rank, world = rank_and_world()
    updates = len(images) // options.batch_size
    epoch, done = divmod(progress.update, updates)
    batches = training_batches(options, len(images), epoch, done, rank, world)
    autocast, scaler = half_precision(options, device)[0], progress.parts["scaler"]
    optimizer, started = progress.parts["optimizer"], time.perf_counter()
    model.train()
    for number, (x, y) in enumerate(loader(images, batches, options, device), 1):
        x = x.to(device, non_blocking=True, memory_format=layout(device))
        y = y.to(device, non_blocking=True)
        last = number % options.accumulate == 0
        with nullcontext() if last or world == 1 else model.no_sync():  # exchange once an update
            with autocast:
                logits = model(x)
                loss = F.cross_entropy(logits, y)
            scaler.scale(loss / options.accumulate).backward()
        wrong = (logits.detach().argmax(1) != y).float().mean()
        progress.sums += torch.stack([loss.detach(), wrong]) / (updates * options.accumulate)
        if not last:
            continue
        for group in optimizer.param_groups:
            group["lr"] = rate(options, progress.update, updates)
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
        progress.update += 1
        if progress.update % updates and progress.update % (options.save_every or updates) == 0:
            progress.average()
            progress.save()
        if progress.update == options.stop_after:
            break
    seconds = time.perf_counter() - started
    return (progress.update - epoch * updates - done) * options.batch_size / seconds


@torch.no_grad()
def evaluate(options, model, images, device):
    """Error on all images, shared out among the processes -> a fraction."""
    rank, world = rank_and_world()
    if world > 1:  # without --sync-bn each process has running statistics of its own
        for buffer in model.buffers():
            dist.broadcast(buffer, 0)
    model.eval()
    numbers = [(0, n) for n in range(rank, len(images), world)]
    size = max(1, options.batch_size // world // options.accumulate)
    batches = [numbers[i : i + size] for i in range(0, len(numbers), size)]
    wrong = torch.zeros((), device=device)
    for x, y in loader(images, batches, options, device):
        with half_precision(options, device)[0]:
            logits = model(x.to(device, memory_format=layout(device)))
        wrong += (logits.argmax(1) != y.to(device)).sum()
    if world > 1:
        dist.all_reduce(wrong)
    return wrong.item() / len(images)


def train(options):
    rank, world, device = start_processes()

    def say(*words):
        if rank == 0:
            print(*words, flush=True)

    train_images, val_images = together(look_at, options, world)
    model = build(options, len(train_images.classes), device)
    optimizer = torch.optim.SGD(
        model.parameters(), lr=0.0, momentum=0.9, weight_decay=options.weight_decay
    )
    scaler = half_precision(options, device)[1]
    progress = Progress(options, train_images, device, model, optimizer, scaler)
    updates = len(train_images) // options.batch_size
    total = options.epochs * updates
    if together(progress.load, device):
        restart = int(os.environ.get("TORCHELASTIC_RESTART_COUNT", 0))
        after = f" (restart {restart})" if restart else ""
        say(f"goes on from {progress.path}{after}: update {progress.update} of {total} is done")
    where = f"{world} process{'es' * (world > 1)} on {device.type}"
    counts = f"{len(train_images)} images, {len(train_images.classes)} classes"
    say(f"{counts}; {updates} updates an epoch; {where}")
    ids = [device] if device.type == "cuda" else None
    parallel = DistributedDataParallel(model, device_ids=ids) if world > 1 else model
    until = min(total, options.stop_after or total)
    while progress.update < until:
        speed = train_epoch(options, parallel, train_images, progress, device)
        progress.average()
        if progress.update % updates == 0:
            error = evaluate(options, model, val_images, device)
            loss, train_error = progress.sums.tolist()
            epoch, lr = progress.update // updates, optimizer.param_groups[0]["lr"]
            row = {"epoch": epoch, "lr": lr, "train_loss": loss, "train_error": train_error}
            progress.log.append(row | {"val_error": error, "images_per_second": speed})
            progress.sums.zero_()
            say(
                f"epoch {epoch} of {options.epochs}: training error, running, {train_error:.1%}, "
                f"validation error {error:.1%}; {speed:.0f} images a second"
            )
        progress.save()
    say(f"update {progress.update} of {total} is done: {progress.path}")


def main():
    options = read_options()
    again = f"the same command goes on from {options.out / 'checkpoint.pt'}, if it is there"

    def told_to_stop(*_):
        raise Unusable(f"told to stop; {again}")

    signal.signal(signal.SIGTERM, told_to_stop)
    try:
        train(options)
    except Unusable as unusable:  # from a reading process it comes with that one's traceback
        sentence = str(unusable).strip().rpartition("Unusable: ")[2]
    except KeyboardInterrupt:
        sentence = f"interrupted; {again}"
    except RuntimeError as error:
        if rank_and_world()[1] == 1 or "onnection" not in str(error):
            raise
        sentence = f"another process has ended; {again}"
    else:
        if dist.is_initialized():
            dist.destroy_process_group()
        return
    name = f"process {os.environ['RANK']}, " if "RANK" in os.environ else ""
    print(f"train_imagenet: {name}{sentence}", file=sys.stderr, flush=True)
    os._exit(1)  # at once: the others notice, and nothing waits for them


if __name__ == "__main__":
    main()
