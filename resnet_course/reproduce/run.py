"""One run of `reproduce`: what decides it, how it goes on after a stop, what it reports."""

import math
import re
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

import torch

from resnet_course import resnet, train

from . import fast, logs

CURVES = ["update", "epoch", "lr", "train_loss", "train_error"]
CURVES += ["train_error_eval", "test_loss", "test_error"]


@dataclass(frozen=True)
class Config:
    """Everything that decides the numbers of a run, besides the machine.

    `warmup` and `evaluate_every` count updates. `evaluate_train_images` is the number of training
    images, evenly spread over the set, behind the `train_error_eval` of the curves.
    """

    data: str
    network: str
    shortcut: str | None
    seed: int
    updates: int
    batch_size: int
    lr: float
    schedule: str
    warmup: int
    weight_decay: float
    momentum: float
    augment: bool
    half: str
    evaluate_every: int
    evaluate_train_images: int
    slope: float = 0.0  # of the ReLU below 0; no run before version 1.0 has another

    @property
    def name(self):
        option = f"-{self.shortcut}" if self.shortcut not in (None, "A") else ""
        option += f"-slope{self.slope:g}" if self.slope else ""
        return f"{self.data}-{self.network}{option}-{self.updates}-updates-seed{self.seed}"

    def rate(self, update):
        """The learning rate of update number `update`, which counts from 0."""

        def schedule(step):
            return train.paper_schedule(step, self.updates) if self.schedule == "paper" else 1.0

        return self.lr * train.warmup(self.warmup, schedule)(update)

    def differs(self, before):
        """One sentence on the first difference to `before`, a dictionary, or None."""
        for name, value in asdict(self).items():
            then = before.get(name, 0.0 if name == "slope" else None)
            if then != value:
                return (
                    f"was made with {name} {then}, not {value}: give the same, or "
                    "another folder with --out"
                )
        return None


def kind_and_depth(network):
    """The name "residual-20" -> ("residual", 20). Raises ValueError for other names and depths."""
    found = re.fullmatch(r"(plain|residual)-(\d{1,5})", network)
    if not found:
        raise ValueError(
            f"network {network!r} is unknown: write plain-DEPTH or residual-DEPTH, like residual-20"
        )
    resnet.blocks_per_stage(int(found[2]))
    return found[1], int(found[2])


def build(network, shortcut, slope, in_channels):
    """The network, with weights drawn from PyTorch's current seed."""
    kind, depth = kind_and_depth(network)
    if kind == "plain":
        model = resnet.cifar_plain(depth, in_channels=in_channels)
    else:
        model = resnet.cifar_resnet(depth, in_channels=in_channels, shortcut=shortcut)
    resnet.leak_(model, slope)
    return model


class Training:
    """One run: where it stands, going on, saving.

    `images` is a `Resident`. An existing `checkpoint` (a path) is where the run goes on; `Refused`
    is raised if it belongs to another configuration.
    """

    SAVED = ("update", "diverged", "curves", "seconds", "pieces")

    def __init__(self, config, images, checkpoint):
        self.config, self.images, self.checkpoint = config, images, checkpoint
        train.seed_everything(config.seed)
        model = build(config.network, config.shortcut, config.slope, images.train_images.shape[3])
        self.updater = fast.Updater(
            model,
            images,
            half=config.half,
            momentum=config.momentum,
            weight_decay=config.weight_decay,
        )
        self.generator = torch.Generator().manual_seed(config.seed)
        self.chance = None  # what chance decides in this epoch; drawn again after a stop
        self.per_epoch = len(images.train_labels) // config.batch_size
        self.update, self.diverged = 0, False
        self.curves = {name: [] for name in CURVES}
        self.seconds = {"training": 0.0, "evaluation": 0.0}
        self.pieces = []
        if checkpoint.exists():
            self.restore(logs.load_checkpoint(checkpoint))

    @property
    def finished(self):
        return self.update == self.config.updates or self.diverged

    def restore(self, saved):
        difference = self.config.differs(saved["config"])
        if difference:
            raise logs.Refused(f"{self.checkpoint} {difference}")
        self.updater.load(saved["updater"])
        self.generator.set_state(saved["generator"])
        for name in self.SAVED:
            setattr(self, name, saved[name])

    def save(self):
        """Write the checkpoint. Within an epoch it holds the generator as the epoch began."""
        self.tick("training")
        between = self.update % self.per_epoch == 0
        content = {
            "config": asdict(self.config),
            "updater": self.updater.state(),
            "generator": self.generator.get_state() if between else self.epoch_start,
            **{name: getattr(self, name) for name in self.SAVED},
        }
        logs.save_checkpoint(self.checkpoint, content)

    def tick(self, what):
        """Book the time since the last tick as "training" or "evaluation"."""
        before, self.mark = self.mark, time.perf_counter()
        self.seconds[what] += self.mark - before

    def capture(self):
        """On CUDA, make one graph of the step -> None, or why that was not possible."""
        rows = 4 if self.config.augment else 1
        shape = (rows, self.config.batch_size)
        with self.updater.on_stream():
            zeros = torch.zeros(shape, dtype=torch.int64, device=self.updater.device)
            return self.updater.capture(zeros)

    def go(self, stop, save_every, beside=1):
        """Train until the end, or until `stop()`, and save, also every `save_every` seconds.

        `beside` is the number of runs that share the device, for the log.
        """
        machine = logs.hardware(self.updater.device)
        here = {"device": machine["gpu"] or machine["processor"]}
        here |= {"threads": machine["threads"], "jobs": beside}
        self.pieces.append({"started": now(), "update": self.update, **here})
        self.mark, saved = time.perf_counter(), time.monotonic()
        with self.updater.on_stream():
            while not (self.finished or stop()):
                self.advance()
                if time.monotonic() - saved > save_every:
                    self.save()
                    saved = time.monotonic()
            self.save()

    def advance(self):
        """One update, and an evaluation where one is due."""
        position = self.update % self.per_epoch
        if position == 0 or self.chance is None:
            self.draw()
        size = self.config.batch_size
        batch = self.chance[:, position * size : (position + 1) * size]
        self.updater.update(batch, self.config.rate(self.update))
        self.update += 1
        if self.update % self.config.evaluate_every == 0 or self.update == self.config.updates:
            self.evaluate()

    def draw(self):
        self.epoch_start = self.generator.get_state()
        labels = self.images.train_labels
        chance = fast.draw_epoch(len(labels), self.generator, self.config.augment)
        self.chance = chance.to(labels.device)

    def evaluate(self):
        """Add one point to the curves, computed in the precision of the training."""
        loss, error = self.updater.take_running()
        self.tick("training")
        model, half = self.updater.model, self.updater.autocast
        count = self.config.evaluate_train_images
        _, train_error = fast.measure(model, self.images, "train", count, half)
        test_loss, test_error = fast.measure(model, self.images, "test", None, half)
        rate = self.config.rate(self.update - 1)
        epoch = round(self.update / self.per_epoch, 3)
        point = (self.update, epoch, rate, loss, error, train_error, test_loss, test_error)
        for name, value in zip(CURVES, point, strict=True):
            self.curves[name].append(value)
        self.diverged = not math.isfinite(loss)
        self.tick("evaluation")
        print(self.progress(), flush=True)

    def progress(self):
        """The last point of the curves, and the time left, as one line."""
        last = {name: values[-1] for name, values in self.curves.items()}
        left = sum(self.seconds.values()) / self.update * (self.config.updates - self.update)
        end = "it diverged, and ends here" if self.diverged else f"{duration(left)} left"
        return (
            f"{self.config.network} seed {self.config.seed}: update {self.update} of "
            f"{self.config.updates}, training error {last['train_error']:.2%} (running) "
            f"{last['train_error_eval']:.2%} (eval), test error {last['test_error']:.2%}, {end}"
        )

    def log(self):
        """The finished run as a dictionary, see `recorded.Run`; measures the final numbers."""
        self.mark = time.perf_counter()
        with self.updater.on_stream():
            final, responses = self.final(), {}
            if self.config.data == "cifar10":
                responses = fast.layer_responses(self.updater.model, self.images)
        self.tick("evaluation")
        config, (kind, depth) = asdict(self.config), kind_and_depth(self.config.network)
        return {
            "name": self.config.name,
            **{name: config.pop(name) for name in ("data", "network")},
            "kind": kind,
            "depth": depth,
            **{name: config.pop(name) for name in ("shortcut", "seed")},
            "updates": self.update,
            "epochs": round(self.update / self.per_epoch, 3),
            "diverged": self.diverged,
            "config": config,
            "final": final,
            "curves": self.curves,
            "layer_response_std": responses,
            "seconds": self.seconds,
            "pieces": self.pieces,
            "versions": logs.versions(),
            "hardware": logs.hardware(self.updater.device),
            "commit": logs.commit(),
            "code": logs.code_digest(),
            "command": command(self.config, self.per_epoch),
            "started": self.pieces[0]["started"],
            "images": logs.images_digest(self.images.train_images),
        }

    def final(self):
        """The numbers at the end: float32, all images, besides the last running figures."""
        train_loss, train_error = fast.measure(self.updater.model, self.images, "train")
        test_loss, test_error = fast.measure(self.updater.model, self.images, "test")
        return {
            "train_loss": self.curves["train_loss"][-1],
            "train_error": self.curves["train_error"][-1],
            "train_loss_eval": train_loss,
            "train_error_eval": train_error,
            "test_loss": test_loss,
            "test_error": test_error,
        }


def command(config, per_epoch):
    """The command that repeats this run on any machine: no folders, every choice written out."""
    epochs, rest = divmod(config.updates, per_epoch)
    words = [
        f"--networks {config.network} --seeds {config.seed} --data {config.data}",
        f"--iterations {config.updates}" if rest else f"--epochs {epochs}",
        f"--shortcut {config.shortcut}" if config.shortcut not in (None, "A") else "",
        f"--slope {config.slope:g}" if config.slope else "",
        f"--batch-size {config.batch_size} --lr {config.lr:g} --schedule {config.schedule}",
        f"--warmup {config.warmup}",
        f"--{'' if config.augment else 'no-'}augment --half {config.half}",
    ]
    return " ".join(["python -m resnet_course.reproduce", *filter(None, words)])


def now():
    return datetime.now(UTC).isoformat(timespec="seconds")


def duration(seconds):
    """Seconds as people say them."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
