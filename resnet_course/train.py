"""Training, written to be read: device, seeds, schedules, `evaluate` and one loop, `fit`."""

import math
import os
import time
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field

import torch
from torch.nn import functional as F
from tqdm.auto import tqdm


def pick_device():
    """`cuda` when there is one, else `cpu`."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def cores():
    """Cores that this process may use."""
    mask = getattr(os, "sched_getaffinity", None)  # only on Linux
    return len(mask(0)) if mask else os.cpu_count() or 1


def share_the_cpu(most=2):
    """Compute with half of the cores, at most `most` -> the number of threads.

    More threads are quicker on a machine that does nothing else, and several times slower as soon
    as another program runs: threads that have finished their part spin until the last one has, and
    that one waits for a core (`benchmarks/threads.py`). OMP_NUM_THREADS overrules it.
    """
    if not os.environ.get("OMP_NUM_THREADS"):
        torch.set_num_threads(max(1, min(most, cores() // 2)))
    return torch.get_num_threads()


def seed_everything(seed):
    """Seed PyTorch on every device: weights drawn after this call are the same in each run."""
    torch.manual_seed(seed)


def native_half(device):
    """The 16-bit number type this hardware computes in natively, or None: then stay with float32.

    A CPU counts only with bf16 instructions (without them bf16 is emulated, and slow). A GPU from
    Ampere on has bf16; older ones with tensor cores (Colab's T4) have fp16, which needs a scaler.
    """
    device = torch.device(device)
    if device.type == "cuda":
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return torch.bfloat16
        return torch.float16 if torch.cuda.get_device_capability(device) >= (7, 0) else None
    if device.type == "cpu":
        ask = getattr(torch.cpu, "get_capabilities", dict)  # only newer versions of torch tell
        found = ask()
        return torch.bfloat16 if found.get("avx512_bf16") or found.get("amx_bf16") else None
    return None


# Schedules: functions from the number of updates done to a factor on the learning rate


def constant(step):
    """The same learning rate throughout."""
    return 1.0


def paper_schedule(step, total=64_000):
    """Divide by 10 after 1/2 and 3/4 of `total` updates: 32k and 48k of 64k (section 4.2)."""
    return 1.0 if step < total // 2 else 0.1 if step < total * 3 // 4 else 0.01


def warmup(steps, schedule=constant, start=0.1):
    """`schedule` with its first `steps` updates at `start` times the rate.

    The paper trains ResNet-110 at 0.01 instead of 0.1 until the error falls below 80 %, about 400
    updates (section 4.2).
    """
    return lambda step: schedule(step) * (start if step < steps else 1.0)


@dataclass
class History:
    """What `fit` measured, one entry per epoch. Errors are fractions between 0 and 1.

    `train_loss`, `train_error`: the running figures, in training mode, over the epoch while the
    weights change. `train_error_eval`, `test_error`: in evaluation mode on all images after the
    epoch; NaN for epochs that were not evaluated. `seconds`: training time without evaluation.
    """

    train_loss: list = field(default_factory=list)
    train_error: list = field(default_factory=list)
    train_error_eval: list = field(default_factory=list)
    test_error: list = field(default_factory=list)
    seconds: list = field(default_factory=list)

    def to_dict(self):
        return asdict(self)


@torch.no_grad()
def evaluate(model, images, labels, batch_size=1000):
    """Mean cross-entropy and error (a fraction) in evaluation mode -> (loss, error).

    The model's mode is put back afterwards.
    """
    was_training = model.training
    model.eval()
    loss = wrong = 0.0
    for x, y in zip(images.split(batch_size), labels.split(batch_size), strict=True):
        logits = model(x).float()
        loss += F.cross_entropy(logits, y, reduction="sum").item()
        wrong += (logits.argmax(1) != y).sum().item()
    model.train(was_training)
    return loss / len(labels), wrong / len(labels)


def fit(
    model,
    data,
    epochs,
    lr,
    *,
    batch_size=128,
    schedule=constant,
    weight_decay=1e-4,
    augment=None,
    half=None,
    evaluate_every=1,
    seed=0,
    label=None,
):
    """Train `model` in place with SGD and momentum 0.9 -> `History`.

    `data` is an `ImageData`; the model moves to its device. `seed` decides the order of the
    batches (not the weights: those are drawn when the model is built). `half` is a 16-bit type for
    autocast, see `native_half`. `evaluate_every` counts epochs; the last one is always evaluated.
    `label` names the progress bar, which shows only while somebody watches a terminal or notebook.
    """
    if epochs < 1:
        raise ValueError(f"epochs must be at least 1, got {epochs}")
    if not lr > 0:
        raise ValueError(f"lr must be a positive learning rate, got {lr}")
    device = data.train_images.device
    model.to(device, memory_format=torch.channels_last)  # faster for convolutions, same numbers
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9, weight_decay=weight_decay)
    autocast = torch.autocast(device.type, dtype=half) if half else nullcontext()
    scaler = torch.amp.GradScaler(device.type, enabled=half == torch.float16)
    order = torch.Generator().manual_seed(seed)
    history, step = History(), 0
    bar = tqdm(total=epochs * data.batches_per_epoch(batch_size), desc=label, disable=None)

    for epoch in range(1, epochs + 1):
        model.train()
        started, loss_sum, wrong, seen = time.perf_counter(), 0.0, 0, 0
        for images, labels in data.batches(batch_size, order, augment):
            optimizer.param_groups[0]["lr"] = lr * schedule(step)
            images = images.contiguous(memory_format=torch.channels_last)
            with autocast:
                logits = model(images)
                loss = F.cross_entropy(logits, labels)
            optimizer.zero_grad()
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
            step += 1
            seen += len(labels)
            loss_sum += loss.detach() * len(labels)
            wrong += (logits.detach().argmax(1) != labels).sum()
            bar.update()
        history.train_loss.append(float(loss_sum) / seen)
        history.train_error.append(float(wrong) / seen)
        history.seconds.append(time.perf_counter() - started)

        evaluated = epoch % evaluate_every == 0 or epoch == epochs
        both = [(data.train_images, data.train_labels), (data.test_images, data.test_labels)]
        errors = [evaluate(model, *part)[1] if evaluated else math.nan for part in both]
        history.train_error_eval.append(errors[0])
        history.test_error.append(errors[1])
        bar.set_postfix_str(f"training error {history.train_error[-1]:.1%}")
    bar.close()
    return history
