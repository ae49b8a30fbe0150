"""Repeat the paper's CIFAR-10 experiments, on any device, in pieces if need be.

    python -m resnet_course.reproduce --networks plain-20 residual-20 --seeds 0 1 --out runs

Every run leaves one log, `<name>.json`, and one checkpoint, `<name>.pt`. The same command again
goes on where the last one stopped, and leaves finished runs alone. On a CPU a run that was cut
into pieces ends bit by bit as the unbroken one does.
"""

import argparse
import math
import re
import signal
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import torch

from resnet_course import _fast, _log, data, recorded, resnet, train

# What the options are when they are not given: the paper's section 4.2, and the course's digits.
RECIPES = {
    "cifar10": {"iterations": 64_000, "lr": 0.1, "schedule": "paper", "augment": True},
    "digits": {"epochs": 8, "lr": 0.02, "schedule": "constant", "augment": False, "half": "none"},
}
CURVES = ["update", "epoch", "lr", "train_loss", "train_error"]
CURVES += ["train_error_eval", "test_loss", "test_error"]
MOST_POINTS = 200  # evaluations in a run
SAVE_EVERY = 120  # seconds between checkpoints


@dataclass(frozen=True)
class Config:
    """Everything that decides the numbers of a run, besides the machine."""

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

    @property
    def name(self):
        option = f"-{self.shortcut}" if self.shortcut not in (None, "A") else ""
        return f"{self.data}-{self.network}{option}-{self.updates}-updates-seed{self.seed}"

    def rate(self, update):
        """The learning rate of update number `update`, which counts from 0."""
        schedule = train.constant
        if self.schedule == "paper":
            schedule = lambda step: train.paper_schedule(step, self.updates)  # noqa: E731
        return self.lr * train.warmup(self.warmup, schedule)(update)


def kind_and_depth(network):
    """ "residual-20" -> ("residual", 20). Raises ValueError for names that are none."""
    found = re.fullmatch(r"(plain|residual)-(\d+)", network)
    if not found:
        raise ValueError(
            f"network {network!r} is unknown: write plain-DEPTH or residual-DEPTH, like residual-20"
        )
    resnet.blocks_per_stage(int(found[2]))
    return found[1], int(found[2])


def build(network, shortcut, in_channels):
    """The network, with weights drawn from PyTorch's current seed."""
    kind, depth = kind_and_depth(network)
    if kind == "plain":
        return resnet.cifar_plain(depth, in_channels=in_channels)
    return resnet.cifar_resnet(depth, in_channels=in_channels, shortcut=shortcut)


class Training:
    """One run: where it stands, how to go on, how to save."""

    def __init__(self, config, images, checkpoint):
        self.config, self.images, self.checkpoint = config, images, Path(checkpoint)
        train.seed_everything(config.seed)
        model = build(config.network, config.shortcut, images.train_images.shape[3])
        self.updater = _fast.Updater(
            model,
            images,
            half=config.half,
            momentum=config.momentum,
            weight_decay=config.weight_decay,
        )
        self.generator = torch.Generator().manual_seed(config.seed)
        self.epoch_start = self.generator.get_state()
        self.per_epoch = len(images.train_labels) // config.batch_size
        self.update, self.diverged = 0, False
        self.curves = {name: [] for name in CURVES}
        self.seconds = {"training": 0.0, "evaluation": 0.0}
        self.pieces = []
        if self.checkpoint.exists():
            self.restore(_log.load_checkpoint(self.checkpoint))
        self.mark = time.perf_counter()
        self.pieces.append({"started": now(), "update": self.update})

    @property
    def finished(self):
        return self.update == self.config.updates or self.diverged

    def restore(self, saved):
        if not isinstance(saved, dict) or "config" not in saved:
            raise ValueError(f"{self.checkpoint} is not a checkpoint of this program: move it away")
        here = asdict(self.config)
        for name, value in here.items():
            if saved["config"].get(name) != value:
                raise ValueError(
                    f"{self.checkpoint} was made with {name} {saved['config'].get(name)}, not "
                    f"{value}: give that, or another folder with --out"
                )
        self.updater.load(saved["updater"])
        self.epoch_start = saved["generator"]
        self.generator.set_state(self.epoch_start)
        for name in ("update", "diverged", "curves", "seconds", "pieces"):
            setattr(self, name, saved[name])

    def save(self):
        self.tick("training")
        between = self.update % self.per_epoch == 0
        content = {
            "config": asdict(self.config),
            "updater": self.updater.state(),
            "generator": self.generator.get_state() if between else self.epoch_start,
        }
        for name in ("update", "diverged", "curves", "seconds", "pieces"):
            content[name] = getattr(self, name)
        _log.save_checkpoint(self.checkpoint, content)

    def tick(self, what):
        """Book the time since the last tick on "training" or "evaluation"."""
        before, self.mark = self.mark, time.perf_counter()
        self.seconds[what] += self.mark - before

    def go(self, stop=lambda: False):
        """Train until the end or until `stop()`, and save."""
        saved, reason = time.monotonic(), None
        while not self.finished and not stop():
            self.epoch_start = self.generator.get_state()
            chance = self.draw()
            if self.updater.graph is None and reason is None:
                reason = self.updater.capture(chance[:, : self.config.batch_size]) or ""
                if reason:
                    say(reason)
            while not self.finished and not stop():
                self.advance(chance)
                if time.monotonic() - saved > SAVE_EVERY:
                    self.save()
                    saved = time.monotonic()
                if self.update % self.per_epoch == 0:
                    break
        self.save()

    def draw(self):
        """Everything that chance decides in the coming epoch, on the device."""
        count = len(self.images.train_labels)
        chance = _fast.draw_epoch(count, self.generator, self.config.augment)
        return chance.to(self.images.train_labels.device)

    def advance(self, chance):
        """One update, and an evaluation where one is due."""
        first = self.update % self.per_epoch * self.config.batch_size
        batch = chance[:, first : first + self.config.batch_size]
        self.updater.update(batch, self.config.rate(self.update))
        self.update += 1
        if self.update % self.config.evaluate_every == 0 or self.update == self.config.updates:
            self.evaluate()

    def evaluate(self):
        """Add one point to the curves, in the precision of the training."""
        loss, error = self.updater.take_running()
        self.tick("training")
        model, half = self.updater.model, self.updater.autocast
        count = self.config.evaluate_train_images
        _, train_error = _fast.measure(model, self.images, "train", count, half)
        test_loss, test_error = _fast.measure(model, self.images, "test", None, half)
        rate = self.config.rate(self.update - 1)
        epoch = round(self.update / self.per_epoch, 3)
        point = (self.update, epoch, rate, loss, error, train_error, test_loss, test_error)
        for name, value in zip(CURVES, point, strict=True):
            self.curves[name].append(value)
        self.diverged = not math.isfinite(loss)
        self.tick("evaluation")
        self.report()

    def report(self):
        last = {name: values[-1] for name, values in self.curves.items()}
        spent = sum(self.seconds.values())
        left = spent / self.update * (self.config.updates - self.update)
        say(
            f"{self.config.network} seed {self.config.seed}: update {self.update} of "
            f"{self.config.updates}, training error {last['train_error']:.2%} (running) "
            f"{last['train_error_eval']:.2%} (eval), test error {last['test_error']:.2%}, "
            f"{duration(left)} left"
        )

    def log(self):
        """The finished run as a dictionary, see `recorded.Run`."""
        model, kind_depth = self.updater.model, kind_and_depth(self.config.network)
        train_loss, train_error = _fast.measure(model, self.images, "train")
        test_loss, test_error = _fast.measure(model, self.images, "test")
        responses = {}
        if self.config.data == "cifar10":
            responses = _fast.layer_responses(model, self.images)
        self.tick("evaluation")
        config = asdict(self.config)
        return {
            "name": self.config.name,
            **{name: config.pop(name) for name in ("data", "network")},
            "kind": kind_depth[0],
            "depth": kind_depth[1],
            **{name: config.pop(name) for name in ("shortcut", "seed")},
            "updates": self.update,
            "epochs": round(self.update / self.per_epoch, 3),
            "diverged": self.diverged,
            "config": config,
            "final": {
                "train_loss": self.curves["train_loss"][-1],
                "train_error": self.curves["train_error"][-1],
                "train_loss_eval": train_loss,
                "train_error_eval": train_error,
                "test_loss": test_loss,
                "test_error": test_error,
            },
            "curves": self.curves,
            "layer_response_std": responses,
            "seconds": self.seconds,
            "pieces": self.pieces,
            "versions": _log.versions(),
            "hardware": _log.hardware(self.images.train_labels.device),
            "commit": _log.commit(),
            "code": _log.code_digest(),
            "command": command(self.config, self.per_epoch),
            "started": self.pieces[0]["started"],
            "images": _log.images_digest(self.images.train_images),
        }


def command(config, per_epoch):
    """The command that repeats this run on any machine: without folders, defaults left out."""
    words = [f"--networks {config.network} --seeds {config.seed} --data {config.data}"]
    epochs, rest = divmod(config.updates, per_epoch)
    words.append(f"--iterations {config.updates}" if rest else f"--epochs {epochs}")
    if config.shortcut not in (None, "A"):
        words.append(f"--shortcut {config.shortcut}")
    words += [f"--batch-size {config.batch_size} --lr {config.lr:g} --schedule {config.schedule}"]
    words += [f"--warmup {config.warmup}" if config.warmup else "--warmup 0"]
    words += [f"--{'' if config.augment else 'no-'}augment --half {config.half}"]
    return "python -m resnet_course.reproduce " + " ".join(words)


def now():
    return datetime.now(UTC).isoformat(timespec="seconds")


def say(text):
    print(text, flush=True)


def duration(seconds):
    """Seconds as people say them."""
    minutes = round(seconds / 60)
    if minutes < 2:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 120 else f"{minutes / 60:.1f} h"


def load_images(name, root, device):
    """The data set as `Resident`. Raises ValueError in one sentence when it is not there."""
    if name == "digits":
        return _fast.resident_digits(data.digits(), device)
    try:
        return _fast.resident_arrays(data.cifar10_arrays(root), device)
    except OSError as error:
        raise ValueError(f"CIFAR-10 is not there: {error}; name its folder with --root") from None


class Parser(argparse.ArgumentParser):
    def error(self, message):
        """One sentence, no usage text."""
        sys.stderr.write(f"{self.prog}: {message}\n")
        sys.exit(2)


def checked(convert, condition, need):
    """An argparse type: `convert` the text, and refuse what fails `condition`."""

    def parse(text):
        try:
            value = convert(text)
        except ValueError:
            value = None
        if value is None or not condition(value):
            raise argparse.ArgumentTypeError(f"{text!r} is not {need}")
        return value

    return parse


def network(text):
    try:
        kind_and_depth(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text


def parse(arguments):
    positive = checked(int, lambda v: v >= 1, "a whole number of at least 1")
    whole = checked(int, lambda v: 0 <= v < 2**63, "a whole number of at least 0")
    above = checked(float, lambda v: 0 < v < math.inf, "a number above 0")
    p = Parser(prog="python -m resnet_course.reproduce", description=__doc__.split("\n")[0])
    add = p.add_argument
    add("--networks", nargs="+", type=network, default=["residual-20"], metavar="NAME")
    add("--shortcut", choices=list(resnet.SHORTCUTS), default="A", help="of residual networks")
    add("--seeds", nargs="+", type=whole, default=[0], metavar="SEED")
    add("--data", choices=list(RECIPES), default="cifar10")
    add("--root", help="folder, or .npz file, of CIFAR-10")
    add("--iterations", type=positive, help="updates; the paper's 64000 unless --epochs is given")
    add("--epochs", type=positive)
    add("--batch-size", type=positive, default=128)
    add("--lr", type=above, help="0.1; digits 0.02")
    add("--schedule", choices=["paper", "constant"], help="paper: / 10 after 1/2 and 3/4")
    add("--warmup", type=whole, help="updates at a tenth of the rate; 400 from depth 110 on")
    add("--augment", action=argparse.BooleanOptionalAction, help="pad by 4, crop, flip")
    add("--half", choices=["auto", *_fast.HALF], help="16-bit type; auto: what is native")
    add("--device", help="cpu, cuda, cuda:1; by default CUDA when there is one")
    add("--threads", type=positive, help="of the CPU")
    add("--out", type=Path, default=Path("runs"), help="folder of logs and checkpoints")
    add("--max-minutes", type=above, help="stop then, with a checkpoint")
    add("--jobs", type=positive, default=1, help="runs side by side")
    add("--plan", action="store_true", help="time a few steps, tell the time of the whole")
    add("--list", action="store_true", help="what is recorded, beside the paper's numbers")
    add("--collect", type=Path, metavar="FILE", help="all logs of --out in one file")
    options = p.parse_args(arguments)
    if options.iterations and options.epochs:
        p.error("give --iterations or --epochs, not both")
    for name, value in RECIPES[options.data].items():
        if getattr(options, name, None) is None and not (options.epochs and name == "iterations"):
            setattr(options, name, value)
    if options.data == "digits" and options.augment:
        p.error("--augment is for cifar10: a mirrored digit is another sign")
    try:
        options.device = torch.device(options.device or train.pick_device())
        torch.zeros(1, device=options.device)
    except (RuntimeError, AssertionError):
        p.error(f"device {str(options.device)!r} is not here: leave --device out, or say cpu")
    return options


def configurations(options, images):
    """The `Config` of every run the options ask for."""
    per_epoch = len(images.train_labels) // options.batch_size
    if per_epoch == 0:
        raise ValueError(
            f"--batch-size {options.batch_size} is more than the {len(images.train_labels)} "
            "training images: choose a smaller one"
        )
    updates = options.iterations or options.epochs * per_epoch
    native = {dtype: name for name, dtype in _fast.HALF.items()}[train.native_half(options.device)]
    half = native if options.half in (None, "auto") else options.half
    for name in options.networks:
        kind, depth = kind_and_depth(name)
        for seed in options.seeds:
            yield Config(
                data=options.data,
                network=name,
                shortcut=options.shortcut if kind == "residual" else None,
                seed=seed,
                updates=updates,
                batch_size=options.batch_size,
                lr=options.lr,
                schedule=options.schedule,
                warmup=(400 if depth >= 110 else 0) if options.warmup is None else options.warmup,
                weight_decay=1e-4,
                momentum=0.9,
                augment=options.augment,
                half=half,
                evaluate_every=per_epoch * math.ceil(updates / per_epoch / MOST_POINTS),
                evaluate_train_images=min(10_000, len(images.train_labels)),
            )


def run(config, images, out, stop):
    """Train one configuration to the end, or until `stop()` -> whether it is finished."""
    log, checkpoint = out / f"{config.name}.json", out / f"{config.name}.pt"
    if log.exists():
        check_same(config, recorded.read(log)[0], log)
        say(f"{config.name} is finished: {log.name}")
        return True
    training = Training(config, images, checkpoint)
    if training.update:
        say(f"{config.name} goes on after update {training.update}")
    training.go(stop)
    if not training.finished:
        say(f"{config.name} stopped after update {training.update}: the same command goes on")
        return False
    _log.write_runs(log, [training.log()])
    return True


def check_same(config, done, log):
    for name, value in asdict(config).items():
        before = done.config[name] if name in done.config else getattr(done, name)
        if before != value and not (name == "updates" and done.diverged):
            raise ValueError(
                f"{log} was made with {name} {before}, not {value}: give that, or another folder "
                "with --out"
            )


def show_list(folder):
    """Print mean and deviation of the recorded runs beside the paper's table 6."""
    try:
        every = recorded.runs(folder)
    except LookupError:
        every = []
    groups = {}
    for one in every:
        groups.setdefault((one.data, one.network, one.shortcut or "-", one.updates), []).append(one)
    say("data     network       option  updates runs  test error, %   paper, %")
    for (where, name, option, updates), found in groups.items():
        mean, std = recorded.mean_std(found, "test_error")
        spread = "      " if std is None else f" ± {100 * std:.2f}"
        paper = recorded.PAPER.get(name, {}) if where == "cifar10" else {}
        best = " ".join(f"{key} {value}" for key, value in paper.items())
        setting = f"{where:8} {name:13} {option:6} {updates:8}"
        say(f"{setting} {len(found):4}  {100 * mean:6.2f}{spread}   {best}")


def plan(configs, images):
    """Time a few steps of each run on this machine, and print what the whole will take."""
    total = 0.0
    for config in configs:
        training = Training(config, images, Path("no-such-checkpoint"))
        chance = training.draw()[:, : config.batch_size]
        training.updater.capture(chance)
        for steps in (2, 5):
            started = time.perf_counter()
            for _ in range(steps):
                training.updater.update(chance, config.lr)
            training.updater.take_running()
        step = (time.perf_counter() - started) / 5
        started = time.perf_counter()
        _fast.measure(training.updater.model, images, "test", 1000, training.updater.autocast)
        image = (time.perf_counter() - started) / 1000
        points = math.ceil(config.updates / config.evaluate_every)
        images_evaluated = points * (config.evaluate_train_images + len(images.test_labels))
        expected = step * config.updates + image * images_evaluated
        total += expected
        say(f"{config.name}: {duration(expected)} ({step * 1000:.0f} ms a step)")
    say(f"together {duration(total)}")


def side_by_side(options, arguments):
    """Start one process for each run, `--jobs` at a time -> the first exit code that is not 0."""
    waiting = [(name, seed) for name in options.networks for seed in options.seeds]
    running, worst = [], 0
    try:
        while waiting or running:
            while waiting and len(running) < options.jobs:
                name, seed = waiting.pop(0)
                one = ["--networks", name, "--seeds", str(seed), "--jobs", "1"]
                module = [sys.executable, "-m", "resnet_course.reproduce"]
                running.append(subprocess.Popen([*module, *arguments, *one]))
            time.sleep(0.2)
            worst = worst or next((p.returncode for p in running if p.poll()), 0)
            running = [p for p in running if p.poll() is None]
    finally:
        for process in running:
            process.terminate()
        for process in running:
            process.wait()
    return worst


def main(arguments=None):
    arguments = sys.argv[1:] if arguments is None else arguments
    options = parse(arguments)
    try:
        return start(options, arguments)
    except ValueError as error:
        sys.stderr.write(f"python -m resnet_course.reproduce: {error}\n")
        return 2


def start(options, arguments):
    if options.list:
        show_list(options.out if options.out.exists() else None)
        return 0
    if options.collect:
        _log.write_runs(options.collect, recorded_dictionaries(options.out))
        return 0
    if options.jobs > 1 and not options.plan:
        return side_by_side(options, arguments)
    if options.threads:
        torch.set_num_threads(options.threads)
    signals, deadline = [], time.monotonic() + 60 * (options.max_minutes or math.inf)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, frame: signals.append(number))
    torch.backends.cudnn.benchmark = True
    images = load_images(options.data, options.root, options.device)
    configs = list(configurations(options, images))
    if options.plan:
        plan(configs, images)
        return 0
    for config in configs:
        if not run(config, images, options.out, lambda: signals or time.monotonic() > deadline):
            return 128 + signals[0] if signals else 0
    return 0


def recorded_dictionaries(folder):
    found = [asdict(one) for one in recorded.runs(folder)]
    return [{k: v for k, v in one.items() if k != "file"} for one in found]


if __name__ == "__main__":
    sys.exit(main())
