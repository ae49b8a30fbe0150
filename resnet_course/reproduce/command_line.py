"""Repeat the paper's CIFAR-10 experiments, on any device, in pieces if need be.

    python -m resnet_course.reproduce --networks plain-20 residual-20 --seeds 0 1 --out runs

Every run leaves one log, `<name>.json`, and one checkpoint, `<name>.pt`. The same command again
goes on where the last one stopped, and leaves finished runs alone. On a CPU, a run that was cut
into pieces ends bit by bit as the unbroken one does.

This module is the command line. `run` is one run, `fast` its arithmetic, `logs` its files;
`recorded` reads the logs in notebooks.
"""

import argparse
import math
import os
import signal
import sys
import threading
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path

import torch

from resnet_course import data, resnet, train

from . import fast, logs, recorded
from .run import Config, Training, duration, kind_and_depth

# What options are when they are not given: the paper's section 4.2, and the course's digits.
RECIPES = {
    "cifar10": {"iterations": 64_000, "lr": 0.1, "schedule": "paper", "augment": True},
    "digits": {"epochs": 8, "lr": 0.02, "schedule": "constant", "augment": False, "half": "none"},
}
MOST_POINTS = 200  # of a curve


class Parser(argparse.ArgumentParser):
    def error(self, message):
        """One sentence, without the list of all options."""
        self.exit(2, f"{self.prog}: {message}\n")


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


def parser():
    count = checked(int, lambda value: value >= 1, "a whole number of at least 1")
    natural = checked(int, lambda value: 0 <= value < 2**63, "a whole number of at least 0")
    below_one = checked(float, lambda value: 0 <= value < 1, "a number from 0 to below 1")
    above = checked(float, lambda value: 0 < value < math.inf, "a number above 0")
    p = Parser(
        prog="python -m resnet_course.reproduce",
        description=__doc__.split("\n\n")[0],
        allow_abbrev=False,
    )
    add = p.add_argument_group("what to train").add_argument
    add("--networks", nargs="+", type=network, default=["residual-20"], metavar="plain-20")
    add("--shortcut", choices=list(resnet.SHORTCUTS), default="A", help="of residual networks")
    add("--slope", type=below_one, default=0.0, help="of the ReLU below 0: 0.5 is a leaky one")
    add("--seeds", nargs="+", type=natural, default=[0], metavar="SEED")
    add("--data", choices=list(RECIPES), default="cifar10")
    add("--root", help="folder or .npz file of CIFAR-10")
    add("--iterations", type=count, help="updates: 64000 unless --epochs is given")
    add("--epochs", type=count, help="digits: 8")
    add("--batch-size", type=count, default=128)
    add("--lr", type=above, help="0.1; digits: 0.02")
    add("--schedule", choices=["paper", "constant"], help="paper: / 10 after 1/2 and 3/4")
    add("--warmup", type=natural, help="updates at a tenth of the rate; 400 from depth 110 on")
    add("--augment", action=argparse.BooleanOptionalAction, help="pad by 4, crop, flip")
    add("--half", choices=["auto", *fast.HALF], help="16-bit type; auto: the native one")
    add = p.add_argument_group("how to run").add_argument
    add("--device", help="cpu, cuda, cuda:1 ...: CUDA when there is one")
    add("--threads", type=count, help="of the CPU, for each run: 1, or half the cores for one job")
    add("--jobs", type=count, help="runs side by side: one for each core; with CUDA, 1")
    add("--out", type=Path, default=Path("runs"), help="folder of logs and checkpoints")
    add("--max-minutes", type=above, default=math.inf, help="stop then, with a checkpoint")
    add("--save-minutes", type=above, default=2.0, help="between checkpoints")
    add = p.add_argument_group("instead of training").add_argument
    add("--plan", action="store_true", help="time a few steps, tell the time of the whole")
    add("--list", action="store_true", help="show finished runs beside the paper's numbers")
    add("--collect", type=Path, metavar="FILE", help="put all logs of --out in one file")
    add("--export", type=Path, metavar="FILE", help="write the weights of one finished run")
    return p


def parse(arguments):
    """Command line -> options, with the recipe of the data filled in. Exits with 2 if it is bad."""
    p = parser()
    options = p.parse_args(arguments)
    if options.iterations and options.epochs:
        p.error("--iterations and --epochs both set the length: give one of them")
    given = {"iterations", "epochs"} if options.iterations or options.epochs else set()
    for name, value in RECIPES[options.data].items():
        if name not in given and getattr(options, name) is None:
            setattr(options, name, value)
    if options.data == "digits" and options.augment:
        p.error("--augment is for cifar10, a mirrored digit is no digit: leave it out")
    if options.export and len(options.networks) * len(options.seeds) > 1:
        p.error("--export takes one network and one seed: name them with --networks and --seeds")
    if options.export and options.data != "cifar10":
        p.error("--export is for networks trained on cifar10")
    asked = options.device or train.pick_device()
    try:
        options.device = torch.zeros(0, device=asked).device
    except (RuntimeError, AssertionError):
        p.error(f"--device {asked!r} is not on this machine: leave it out, or say cpu")
    return options


def load_images(options):
    """The data set on the device. Raises `DataUnavailable` in one sentence when it is not there."""
    if options.data == "digits":
        return fast.resident_digits(data.digits(), options.device)
    return fast.resident_arrays(data.cifar10_arrays(options.root), options.device)


def configurations(options, images):
    """The `Config` of every run that the options ask for."""
    count = len(images.train_labels)
    per_epoch = count // options.batch_size
    if per_epoch == 0:
        raise logs.Refused(f"--batch-size must be at most {count}, got {options.batch_size}")
    updates = options.iterations or options.epochs * per_epoch
    half = options.half
    if half in (None, "auto"):
        native = train.native_half(options.device)
        half = next(name for name, dtype in fast.HALF.items() if dtype == native)
    return [
        Config(
            data=options.data,
            network=name,
            shortcut=options.shortcut if name.startswith("residual") else None,
            seed=seed,
            updates=updates,
            batch_size=options.batch_size,
            lr=options.lr,
            schedule=options.schedule,
            warmup=warmup_for(name) if options.warmup is None else options.warmup,
            weight_decay=1e-4,
            momentum=0.9,
            augment=options.augment,
            half=half,
            evaluate_every=per_epoch * math.ceil(updates / per_epoch / MOST_POINTS),
            evaluate_train_images=min(10_000, count),
            slope=options.slope,
        )
        for name in dict.fromkeys(options.networks)  # each once
        for seed in dict.fromkeys(options.seeds)
    ]


def warmup_for(network):
    """The paper warms up ResNet-110, for about 400 updates (section 4.2)."""
    return 400 if kind_and_depth(network)[1] >= 110 else 0


def is_finished(config, out):
    """Whether the run has a log. Raises `Refused` if that is of another configuration."""
    path = out / f"{config.name}.json"
    if not path.exists():
        return False
    run = recorded.read(path)[0]
    difference = config.differs({**run.config, **vars(run), "updates": run.config["updates"]})
    if difference:
        raise logs.Refused(f"{path} {difference}")
    return True


def train_all(configs, images, options, stop):
    """Train what is not finished, `--jobs` runs at a time -> whether all are finished now."""
    waiting = []
    for config in configs:
        if is_finished(config, options.out):
            print(f"{config.name} is finished")
        else:
            waiting.append(config)
    for first in range(0, len(waiting), options.jobs):
        group = waiting[first : first + options.jobs]
        if not train_group(group, images, options, stop):
            return False
    return True


def train_group(configs, images, options, stop):
    """Train some runs side by side -> whether all are finished."""
    failed = threading.Event()

    def go(training):
        try:
            train_one(training, options, lambda: stop() or failed.is_set(), len(configs))
        except BaseException:
            failed.set()  # the others save and stop
            raise

    with ExitStack() as locks:
        trainings = []
        for config in configs:
            checkpoint = options.out / f"{config.name}.pt"
            locks.enter_context(logs.only_one_process(checkpoint))
            trainings.append(prepare(config, images, checkpoint))
        fast.side_by_side(go, trainings)
    return all(training.finished for training in trainings)


def prepare(config, images, checkpoint):
    training = Training(config, images, checkpoint)
    if training.update:
        print(f"{config.name} goes on after update {training.update}", flush=True)
    problem = training.capture()
    if problem:
        print(problem, flush=True)
    return training


def train_one(training, options, stop, beside):
    torch.set_num_threads(options.threads)  # each thread of Python has its own number
    training.go(stop, 60 * options.save_minutes, beside)
    name = training.config.name
    if training.finished:
        logs.write_runs(options.out / f"{name}.json", [training.log()])
    else:
        print(f"{name} stopped after update {training.update}: the same command goes on")


def plan(configs, images, options):
    """Time a few steps of each run on this machine, and print what the whole will take."""
    total = 0.0
    for config in configs:
        training = Training(config, images, options.out / f"{config.name}.pt")
        done = config.updates if is_finished(config, options.out) else training.update
        step, image = time_step(training), time_image(training)
        points = math.ceil((config.updates - done) / config.evaluate_every)
        evaluated = points * (config.evaluate_train_images + len(images.test_labels))
        expected = step * (config.updates - done) + image * evaluated
        total += expected
        print(f"{config.name}: {duration(expected)} ({1000 * step:.1f} ms a step)", flush=True)
    print(f"together {duration(total)}, one after the other")


def time_step(training, steps=5):
    """Seconds for one update. The training is of no use afterwards."""
    training.capture()
    with training.updater.on_stream():
        training.draw()
        batch = training.chance[:, : training.config.batch_size]
        for _ in range(2):  # the first round warms up
            started = time.perf_counter()
            for _ in range(steps):
                training.updater.update(batch, training.config.lr)
            training.updater.take_running()  # waits for the device
    return (time.perf_counter() - started) / steps


def time_image(training, count=1000):
    """Seconds to evaluate one image."""
    started = time.perf_counter()
    half = training.updater.autocast
    fast.measure(training.updater.model, training.images, "train", count, half)
    return (time.perf_counter() - started) / count


def show_list(folders):
    """Print the finished runs in some folders, mean ± deviation over seeds, and table 6."""
    groups = {}
    for run in recorded.every_run(folders):
        if run.data in RECIPES:  # others are benchmarks
            settings = run.config | {"half": None}  # the type of numbers is the machine's affair
            key = (run.data, run.network, run.shortcut, run.updates, str(settings))
            groups.setdefault(key, []).append(run)
    head = f"{'data':8}{'network':14}{'shortcut':9}{'updates':>8}{'lr':>7}{'warm-up':>8}{'runs':>6}"
    print(f"{head}   test error")
    for runs in sorted(groups.values(), key=by_size):
        one, error = runs[0], percent(*recorded.mean_std(runs, "test_error"))
        print(
            f"{one.data:8}{one.network:14}{one.shortcut or '':9}{one.updates:8}"
            f"{one.config['lr']:7g}{one.config['warmup']:8}{len(runs):6}   {error}"
        )
    for net, numbers in recorded.PAPER.items():
        error = percent(numbers["test_error"], numbers.get("std"))
        updates, lr = RECIPES["cifar10"]["iterations"], RECIPES["cifar10"]["lr"]
        row = f"{'cifar10':8}{net:14}{'A':9}{updates:8}{lr:7g}{warmup_for(net):8}"
        row += f"{numbers['runs']:6}"
        print(f"{row}   {error}   (paper)")


def by_size(runs):
    one = runs[0]
    return (one.data, one.updates, one.kind, one.depth, one.shortcut or "", one.config["lr"])


def percent(mean, std):
    return f"{100 * mean:5.2f} %" if std is None else f"{100 * mean:5.2f} ± {100 * std:.2f} %"


def export(config, images, options):
    """Write the weights of a finished run, half precision, with all that using them takes.

    Batch norm stays float32 (it is small). The test error is measured with the rounded weights.
    """
    log = options.out / f"{config.name}.json"
    if not is_finished(config, options.out):
        raise logs.Refused(f"{log} is not there: finish the run first, with the same options")
    training = Training(config, images, options.out / f"{config.name}.pt")
    if not training.finished:
        raise logs.Refused(f"{training.checkpoint} is not the end of the run that {log} tells of")
    model = training.updater.model
    weights = {
        name: value.cpu().half() if value.dim() > 1 else value.cpu()
        for name, value in model.state_dict().items()
    }
    model.load_state_dict(weights)
    _, test_error = fast.measure(model, images, "test")
    mean = images.mean.cpu().permute(2, 0, 1).contiguous()
    classes = list(data.CIFAR10_CLASSES)
    content = {"weights": weights, "mean": mean, "std": images.std, "classes": classes}
    facts = {
        "network": config.network,
        "shortcut": config.shortcut,
        "data": config.data,
        "run": config.name,
        "log_sha256": logs.sha256(log),
        "test_error": test_error,
    }
    logs.export_weights(options.export, content, facts)
    size = options.export.stat().st_size
    print(f"{options.export}: {size / 1e6:.2f} MB, test error {test_error:.2%} with these weights")


@contextmanager
def signals():
    """SIGTERM and Ctrl-C fill the list given here, instead of ending the program at once.

    A second one does end it at once: what is on the disk is whole at any moment.
    """
    caught = []

    def catch(number, frame):
        if caught:
            os._exit(128 + number)
        caught.append(number)

    before = {number: signal.signal(number, catch) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def main(arguments=None):
    """The command line -> exit code: 0, 2 for bad input, 128 + n when signal n stopped it."""
    options = parse(arguments)
    try:
        with signals() as caught:
            start(options, caught)
    except (logs.Refused, recorded.NotRecorded, data.DataUnavailable) as error:
        sys.stderr.write(f"python -m resnet_course.reproduce: {error}\n")
        return 2
    except OSError as error:
        if error.filename is None:  # not about a file: an error of the program
            raise
        where = f"{error.filename} cannot be used ({error.strerror})"
        sys.stderr.write(f"python -m resnet_course.reproduce: {where}: name another one\n")
        return 2
    return 128 + caught[0] if caught else 0


def share(options):
    """Choose `jobs` and `threads` where they are not given (`benchmarks/threads.py` has the times).

    Two runs with one thread each are quicker than one run with two threads, and a program beside
    them hardly hurts. A single run leaves half of the cores alone: its threads wait for each other,
    and the more they wait, the fuller the machine is.
    """
    runs, cuda = len(options.networks) * len(options.seeds), options.device.type == "cuda"
    if options.jobs is None:
        options.jobs = 1 if cuda else min(runs, max(1, train.cores() // (options.threads or 1)))
    if options.threads is None:
        rest = max(1, train.cores() // options.jobs)
        options.threads = rest if options.jobs > 1 else max(1, rest // 2)


def start(options, caught):
    deadline = time.monotonic() + 60 * options.max_minutes
    if options.list:
        return show_list({options.out, recorded.folder()})
    if options.collect:
        runs = recorded.runs(options.out)
        return logs.write_runs(options.collect, [recorded.as_logged(run) for run in runs])
    share(options)
    torch.set_num_threads(options.threads)
    torch.backends.cudnn.benchmark = True  # shapes never change
    fast.keep_freed_memory()
    images = load_images(options)
    configs = configurations(options, images)
    if options.plan:
        return plan(configs, images, options)
    if options.export:
        return export(configs[0], images, options)
    return train_all(configs, images, options, lambda: caught or time.monotonic() > deadline)
