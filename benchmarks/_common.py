"""What the benchmarks share: interleaved rounds, ratios, where they ran, and logs of runs."""

import argparse
import gc
import json
import math
import statistics
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import torch
from torch.nn import functional as F

from resnet_course import data, train
from resnet_course.reproduce import logs
from resnet_course.reproduce.run import CURVES, kind_and_depth

BATCH = 128


def parser(description):
    p = argparse.ArgumentParser(description=description.split("\n")[0])
    p.add_argument("--quick", action="store_true", help="tiny sizes: does it still run?")
    p.add_argument("--rounds", type=int, default=7)
    p.add_argument("--json", type=Path, metavar="FILE", help="write the result there, too")
    return p


def interleave(contenders, rounds):
    """Call every contender once a round, in turn -> {name: [value of each round]}.

    In turn, so that whatever else the machine does hits them all. A round before warms up.
    """
    values = {name: [] for name in contenders}
    for number in range(rounds + 1):
        for name, measure in contenders.items():
            gc.collect()
            value = measure()
            if number:
                values[name].append(value)
    return values


def ratios(values, base):
    """Median over the rounds of the ratio to `base` in the same round -> {name: ratio}."""
    return {
        name: statistics.median(a / b for a, b in zip(each, values[base], strict=True))
        for name, each in values.items()
    }


def origin(script, device="cpu"):
    """Machine, versions, commit, command and date, for the JSON file."""
    return {
        "benchmark": Path(script).stem,
        "command": f"python benchmarks/{Path(script).name}",
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "hardware": logs.hardware(device),
        "versions": logs.versions(),
        "commit": logs.commit(),
    }


def describe(record):
    """One line on the machine, above a table."""
    hardware = record["hardware"]
    threads = f"{hardware['threads']} thread{'s' if hardware['threads'] > 1 else ''}"
    machine = hardware["gpu"] or f"{hardware['processor']}, {threads}"
    return f"{record['benchmark']} on {machine}, torch {record['versions']['torch']}"


def save(record, path):
    """The record as JSON, one entry a line."""
    lines = [f'"{k}": {json.dumps(v, allow_nan=False)}' for k, v in logs.rounded(record).items()]
    text = "{\n" + ",\n".join(lines) + "\n}\n"
    logs.write_atomically(path, lambda file: file.write(text.encode()))
    print(f"written: {path}")


def fit_with(optimizer, model, digits, epochs, step=None):
    """`train.fit` with an optimizer of one's own -> `train.History`.

    `step(done)`, if given, is called in the place of `optimizer.step()`, with the number of updates
    done before.
    """
    model.to(digits.train_images.device, memory_format=torch.channels_last)
    order, history, done = torch.Generator().manual_seed(0), train.History(), 0
    for _ in range(epochs):
        model.train()
        started, loss_sum, wrong, seen = time.perf_counter(), 0.0, 0, 0
        for images, labels in digits.batches(BATCH, order):
            logits = model(images.contiguous(memory_format=torch.channels_last))
            loss = F.cross_entropy(logits, labels)
            optimizer.zero_grad()
            loss.backward()
            step(done) if step else optimizer.step()
            done += 1
            seen += len(labels)
            loss_sum += loss.item() * len(labels)
            wrong += (logits.argmax(1) != labels).sum().item()
        history.train_loss.append(loss_sum / seen)
        history.train_error.append(wrong / seen)
        history.seconds.append(time.perf_counter() - started)
        for part, errors in (("train", history.train_error_eval), ("test", history.test_error)):
            images, labels = (getattr(digits, f"{part}_{what}") for what in ("images", "labels"))
            errors.append(train.evaluate(model, images, labels)[1])
    return history


@dataclass(frozen=True)
class Log:
    """Runs of networks that learn digits, as `book/recorded` keeps them."""

    script: str
    group: str
    digits: data.ImageData
    # of the code that runs, whatever is committed meanwhile
    commit: dict | None = field(default_factory=logs.commit)

    def entry(self, variant, seed, history, *, started, words, config, final):
        """One run as `recorded.Run` describes it.

        `words` make its name, `config` and `final` add to what every run has in them. `variant` has
        a network and a rate, and perhaps the shortcut.
        """
        epochs, per_epoch = len(history.train_loss), self.digits.batches_per_epoch(BATCH)
        kind, depth = kind_and_depth(variant.network)
        curves = {name: getattr(history, name, [None] * epochs) for name in CURVES}
        curves["update"] = [per_epoch * epoch for epoch in range(1, epochs + 1)]
        curves["epoch"] = [float(epoch) for epoch in range(1, epochs + 1)]
        curves["lr"] = [variant.lr] * epochs
        usual = {"updates": per_epoch * epochs, "batch_size": BATCH, "lr": variant.lr}
        usual |= {"schedule": "constant", "warmup": 0, "weight_decay": 1e-4, "momentum": 0.9}
        images = self.digits.train_images
        return {
            "name": "-".join(filter(None, [f"digits-{self.group}", *words, f"seed{seed}"])),
            "data": f"digits-{self.group}",
            "network": variant.network,
            "kind": kind,
            "depth": depth,
            "shortcut": getattr(variant, "shortcut", "A" if kind == "residual" else None),
            "seed": seed,
            "updates": per_epoch * epochs,
            "epochs": float(epochs),
            "diverged": not math.isfinite(history.train_loss[-1]),
            "config": usual | {"half": "none"} | config,
            "final": {name: curve[-1] for name, curve in curves.items() if "_" in name} | final,
            "curves": curves,
            "layer_response_std": {},
            "seconds": {"training": sum(history.seconds), "evaluation": None},
            "pieces": [{"started": started, "update": 0, "threads": torch.get_num_threads()}],
            "versions": logs.versions(),
            "hardware": logs.hardware(images.device),
            "commit": self.commit,
            "code": logs.code_digest(),
            "command": f"python benchmarks/{Path(self.script).name} {self.group}",
            "started": started,
            "images": logs.images_digest(images),
        }


def record_all(record, variants, seeds, path=None):
    """Call `record(variant, seed)` for all of them; write the log, if asked to, after each seed."""
    runs = []
    for seed in seeds:  # outermost: a log that is cut short has every variant
        runs += [record(variant, seed) for variant in variants]
        if path:
            logs.write_runs(path, sorted(runs, key=lambda run: run["name"]))
            print(f"written: {path}", flush=True)
