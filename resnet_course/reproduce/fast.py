"""The quick path behind `reproduce`: whole data sets on the device, one call for one update.

`train.fit` is the loop to read; this one computes the same updates with less waiting: images stay
8 bit and on the device, a whole batch is cropped and flipped at once, and on CUDA one recorded
graph replaces the hundreds of launches of a step. Only `reproduce` uses this module.
"""

import ctypes
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

HALF = {"bf16": torch.bfloat16, "fp16": torch.float16, "none": None}
PAD = 4  # pixels on each side before the random crop (paper, section 4.2)


def keep_freed_memory():
    """Let this process keep the memory that tensors free, for the next ones; on Linux only.

    glibc gives large blocks back to the system and pays for every page when it takes them again:
    thousands of page faults a step, a tenth of the time of a float32 step on a CPU.
    """
    mallopt = getattr(ctypes.pythonapi, "mallopt", None)
    if mallopt:  # other C libraries have no such function
        trim_threshold, mmap_threshold = -1, -3  # M_TRIM_THRESHOLD, M_MMAP_THRESHOLD in malloc.h
        for option in (trim_threshold, mmap_threshold):
            mallopt(option, 2**30)


def side_by_side(function, items):
    """Call `function` with every item, each in a thread of its own; a single one in this thread.

    Threads are enough: Python only queues the work, and on CUDA every run has its own stream. In
    another thread a single run would be slower: OpenMP keeps a team for each thread of Python, and
    lets them sleep between operations (a quarter of the time of a step on two cores).
    """
    if len(items) == 1:
        function(items[0])
        return
    with ThreadPoolExecutor(len(items)) as pool:
        list(pool.map(function, items))  # raises what a thread has raised


def spread(total, count):
    """`count` different numbers below `total`, evenly spread from the first to the last -> int64.

    Raises ValueError where there are not as many.
    """
    if not 1 <= count <= total:
        raise ValueError(f"count must be between 1 and {total}, got {count}")
    return torch.arange(count) * total // count


@dataclass(frozen=True)
class Resident:
    """Images on one device, channels last: (N, H, W, C), and labels (N,).

    A batch is `(images - mean) / std`. For CIFAR-10 the images are uint8, `mean` is the mean
    training image (H, W, C), as in the paper, and `std` one number, so that inputs have variance 1
    (the paper does not name a scale). Digits come standardized: float32, mean 0 and std 1.
    """

    train_images: torch.Tensor
    train_labels: torch.Tensor
    test_images: torch.Tensor
    test_labels: torch.Tensor
    mean: torch.Tensor
    std: float

    def part(self, name, count=None):
        """The images and labels called "train" or "test", or at most `count` of them, evenly
        spread.

        Spread, because a copy of the data may be sorted by class.
        """
        images, labels = getattr(self, f"{name}_images"), getattr(self, f"{name}_labels")
        if count is None:
            return images, labels
        chosen = spread(len(labels), min(count, len(labels))).to(labels.device)
        return images[chosen], labels[chosen]

    def standardize(self, images):
        """(N, H, W, C) as stored -> float32 (N, H, W, C)"""
        return (images.float() - self.mean) / self.std


def resident_arrays(arrays, device="cpu"):
    """The dictionary of uint8 arrays of CIFAR-10 on the device -> `Resident`."""
    train = arrays["train_images"]
    mean = train.mean(axis=0, dtype=np.float64)
    square = sum(np.square(part - mean).sum() for part in np.array_split(train, 50)) / train.size
    return Resident(
        train_images=torch.from_numpy(train).to(device),
        train_labels=torch.from_numpy(arrays["train_labels"]).long().to(device),
        test_images=torch.from_numpy(arrays["test_images"]).to(device),
        test_labels=torch.from_numpy(arrays["test_labels"]).long().to(device),
        mean=torch.from_numpy(mean).float().to(device),
        std=float(np.sqrt(square)),
    )


def resident_digits(digits, device="cpu"):
    """The course's `ImageData` of digits, as it is, on the device -> `Resident`."""
    return Resident(
        train_images=digits.train_images.permute(0, 2, 3, 1).contiguous().to(device),
        train_labels=digits.train_labels.to(device),
        test_images=digits.test_images.permute(0, 2, 3, 1).contiguous().to(device),
        test_labels=digits.test_labels.to(device),
        mean=torch.zeros(1, device=device),
        std=1.0,
    )


def draw_epoch(count, generator, augment):
    """Everything that chance decides in one epoch -> int64 (1, N) or (4, N).

    Rows: number of the image, top and left of the crop (0 to 8), flip (0 or 1). `generator` is a
    CPU one, so that the numbers are the same for every device. Without `augment` only the first
    row is drawn: the same order as `train.fit` with the same seed.
    """
    rows = [torch.randperm(count, generator=generator)[None]]
    if augment:
        rows.append(torch.randint(0, 2 * PAD + 1, (2, count), generator=generator))
        rows.append(torch.randint(0, 2, (1, count), generator=generator))
    return torch.cat(rows)


def crop_and_flip(images, top, left, flip):
    """Pad with zeros, crop, mirror, one gather for all: (N, H, W, C) -> (N, H, W, C).

    `top`, `left` and `flip` are int64 (N,). Zero is the mean image here: the paper subtracts it
    first and pads afterwards.
    """
    n, h, w, _ = images.shape
    padded = F.pad(images, (0, 0, PAD, PAD, PAD, PAD))
    image = torch.arange(n, device=images.device)[:, None, None]
    row = top[:, None] + torch.arange(h, device=images.device)
    column = torch.arange(w, device=images.device).expand(n, w)
    column = left[:, None] + torch.where(flip[:, None] == 1, w - 1 - column, column)
    return padded[image, row[:, :, None], column[:, None, :]]


def make_batch(data, chance):
    """Columns of `draw_epoch` -> float32 images (B, C, H, W) in channels-last memory, labels."""
    images = data.standardize(data.train_images[chance[0]])
    if len(chance) > 1:
        images = crop_and_flip(images, *chance[1:])
    return images.permute(0, 3, 1, 2), data.train_labels[chance[0]]


class Updater:
    """SGD on one network, one batch a call; the running loss and error stay on the device.

    `half` is "bf16", "fp16" or "none". On CUDA everything runs on a stream of its own, and after
    `capture` a step is one graph.
    """

    def __init__(self, model, data, *, half="none", momentum=0.9, weight_decay=1e-4):
        self.device = data.train_images.device
        self.model = model.to(self.device, memory_format=torch.channels_last).train()
        for module in self.model.modules():
            if isinstance(module, nn.ReLU | nn.LeakyReLU):  # what it is given, nobody reads again
                module.inplace = True
        self.data, self.dtype, self.graph = data, HALF[half], None
        cuda = self.device.type == "cuda"
        self.stream = torch.cuda.Stream(self.device) if cuda else None
        # A rate in a tensor can change inside a graph; the fused optimizer reads it there.
        lr = torch.zeros((), device=self.device) if cuda else 0.0
        self.optimizer = torch.optim.SGD(
            model.parameters(), lr, momentum, weight_decay=weight_decay, fused=cuda or None
        )
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=half == "fp16")
        self.loss_sum = torch.zeros((), device=self.device)
        self.wrong = torch.zeros((), dtype=torch.int64, device=self.device)
        self.seen = 0

    def autocast(self):
        return torch.autocast(self.device.type, dtype=self.dtype) if self.dtype else nullcontext()

    @contextmanager
    def on_stream(self):
        """What runs inside follows what was queued before, and goes before what comes after."""
        if self.stream is None:
            yield
            return
        self.stream.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.device(self.device), torch.cuda.stream(self.stream):
            yield
        torch.cuda.current_stream(self.device).wait_stream(self.stream)

    def update(self, chance, lr):
        """One step on the images of `chance` (columns of `draw_epoch`, on the device)."""
        group = self.optimizer.param_groups[0]
        if torch.is_tensor(group["lr"]):
            group["lr"].fill_(lr)
        else:
            group["lr"] = lr
        if self.graph is None:
            self.step(chance)
        else:
            self.chance.copy_(chance)
            self.graph.replay()
        self.seen += chance.shape[1]

    def step(self, chance):
        images, labels = make_batch(self.data, chance)
        with self.autocast():
            logits = self.model(images)
            loss = F.cross_entropy(logits, labels)
        self.optimizer.zero_grad()
        self.scaler.scale(loss).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.loss_sum += loss.detach() * len(labels)
        self.wrong += (logits.detach().argmax(1) != labels).sum()

    def capture(self, chance):
        """Record the step as a CUDA graph for batches shaped like `chance`; the state stays.

        Returns the sentence that says why steps run one by one, or None. Call it while no other
        thread uses the GPU, inside `on_stream`.
        """
        if self.device.type != "cuda":
            return None
        if self.scaler.is_enabled():
            return "fp16 needs a loss scaler: steps run one by one, without a CUDA graph"
        before = self.state()
        try:
            self.chance = chance.clone()  # the graph reads its batch from here
            for _ in range(3):  # cuDNN chooses its algorithms, SGD gets its buffers
                self.step(self.chance)
            self.optimizer.zero_grad()
            graph = torch.cuda.CUDAGraph()
            # Its own stream: on a shared one, graphs would share cuBLAS's workspace.
            with torch.cuda.graph(graph, stream=self.stream):
                self.step(self.chance)
            self.graph = graph
        except RuntimeError as error:
            reason = str(error).splitlines()[0]
            return f"steps run one by one, a CUDA graph was not possible ({reason})"
        finally:
            self.load(before)

    def take_running(self):
        """Mean loss and error since the last call -> (loss, error), and start anew."""
        loss, error = self.loss_sum.item() / self.seen, self.wrong.item() / self.seen
        self.loss_sum.zero_()
        self.wrong.zero_()
        self.seen = 0
        return loss, error

    def state(self):
        """Copies of all that an exact continuation needs: tensors, numbers and names only."""
        momentum = {
            name: self.optimizer.state[p]["momentum_buffer"].clone()
            for name, p in self.model.named_parameters()
            if "momentum_buffer" in self.optimizer.state[p]
        }
        return {
            "model": {name: value.clone() for name, value in self.model.state_dict().items()},
            "momentum": momentum,
            "scaler": self.scaler.state_dict(),
            "loss_sum": self.loss_sum.clone(),
            "wrong": self.wrong.clone(),
            "seen": self.seen,
        }

    @torch.no_grad()
    def load(self, state):
        """Put `state` back, in place: a recorded graph goes on working."""
        self.model.load_state_dict(state["model"])
        for name, p in self.model.named_parameters():
            saved, here = state["momentum"].get(name), self.optimizer.state[p]
            if "momentum_buffer" in here:  # to SGD, zeros are the same as no buffer yet
                here["momentum_buffer"].copy_(torch.zeros_like(p) if saved is None else saved)
            elif saved is not None:
                here["momentum_buffer"] = saved.to(self.device)
        if state["scaler"]:
            self.scaler.load_state_dict(state["scaler"])
        self.loss_sum.copy_(state["loss_sum"])
        self.wrong.copy_(state["wrong"])
        self.seen = state["seen"]


@torch.no_grad()
def measure(model, data, part, count=None, autocast=nullcontext):
    """Mean cross-entropy and error in evaluation mode -> (loss, error).

    `part` is "train" or "test", `count` a number of images, None for all. float32 unless
    `autocast` says otherwise. The model's mode is put back.
    """
    was_training, (images, labels) = model.training, data.part(part, count)
    model.eval()
    loss, wrong = 0.0, 0
    size = 2000 if labels.is_cuda else 250  # on a CPU what fits its caches is twice as fast
    for x, y in zip(images.split(size), labels.split(size), strict=True):
        with autocast():
            logits = model(data.standardize(x).permute(0, 3, 1, 2)).float()
        loss += F.cross_entropy(logits, y, reduction="sum").item()
        wrong += (logits.argmax(1) != y).sum().item()
    model.train(was_training)
    return loss / len(labels), wrong / len(labels)


@torch.no_grad()
def layer_responses(model, data, count=1000):
    """The paper's figure 7: standard deviation of each 3x3 layer's response -> {name: float}.

    The response is the output after batch norm, before the nonlinearity or the addition; the
    deviation is over all its elements for `count` training images, in evaluation mode.
    Shortcuts are left out.
    """
    responses, hooks, was_training = {}, [], model.training
    for name, module in model.named_modules():
        if isinstance(module, nn.BatchNorm2d) and "downsample" not in name:

            def note(module, x, y, name=name):
                responses[name] = y.float().std().item()

            hooks.append(module.register_forward_hook(note))
    images, _ = data.part("train", count)
    model.eval()(data.standardize(images).permute(0, 3, 1, 2))
    model.train(was_training)
    for hook in hooks:
        hook.remove()
    return responses
