"""Runs that took longer than a cell may: their logs, their means, their weights, their origin.

    runs = recorded.runs(data="cifar10", network="plain-56")
    recorded.mean_std(runs, "test_error")
    print(recorded.provenance(runs))
    model = recorded.pretrained("residual-20")

Logs and weights lie in `book/recorded`, where `reproduce` has put them.
"""

import hashlib
import io
import json
import re
import statistics
import textwrap
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch

from resnet_course import resnet

# CIFAR-10 test errors after 64,000 updates, shortcuts of option A (He et al. 2015, table 6). For
# 110 layers the mean, standard deviation and best of five runs. There are no numbers for plain
# networks: figure 6 shows their curves, and says that plain-110 stays above 60 %.
PAPER = {
    "residual-20": {"test_error": 0.0875, "runs": 1},
    "residual-32": {"test_error": 0.0751, "runs": 1},
    "residual-44": {"test_error": 0.0717, "runs": 1},
    "residual-56": {"test_error": 0.0697, "runs": 1},
    "residual-110": {"test_error": 0.0661, "runs": 5, "std": 0.0016, "best": 0.0643},
}


class NotRecorded(LookupError):
    """There is no such run or network, or its file cannot be used. One sentence says which."""


@dataclass(frozen=True)
class Run:
    """One training run. Errors are fractions between 0 and 1; None where a number was not finite.

    `network` is `kind` and `depth`, like "residual-20"; `updates` counts the updates done, which
    are fewer than `config["updates"]` only if the run diverged.

    `curves` maps a name to a list with one entry per evaluation: `update`, `epoch`, `lr`,
    `train_loss`, `train_error` (running, in training mode, since the entry before),
    `train_error_eval` (evaluation mode, on `config["evaluate_train_images"]` images without
    augmentation, evenly spread over the set), `test_loss`, `test_error`.

    `final` holds the same names, measured in float32 on all images at the end (`train_loss` and
    `train_error` are the last running ones), and `train_loss_eval`. `layer_response_std` is the
    paper's figure 7: {layer: standard deviation}, empty for digits. `seconds` counts the time of
    "training" and "evaluation", `pieces` tells when and on what the run was started or went on;
    `hardware` is the machine of the last piece.

    `commit` is {"hash", "changed"} or None, `code` and `images` are digests of the modules that
    decide the numbers and of the training images in their order.
    """

    name: str
    data: str
    network: str
    kind: str
    depth: int
    shortcut: str | None
    seed: int
    updates: int
    epochs: float
    diverged: bool
    config: dict
    final: dict
    curves: dict
    layer_response_std: dict
    seconds: dict
    pieces: list
    versions: dict
    hardware: dict
    commit: dict | None
    code: str
    command: str
    started: str
    images: str
    file: str = field(default="", compare=False)


def folder():
    """Where logs and weights lie: inside an installed package, or in the book of a checkout."""
    room = Path(__file__).resolve().parent
    installed = room / "runs"
    return installed if installed.is_dir() else room.parent.parent / "book" / "recorded"


def read(path):
    """One log file -> list of `Run`. Raises `NotRecorded` for any other file."""
    path = Path(path)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["format"] != 1:
            raise NotRecorded(f"{path} has log format {content['format']}; this package reads 1")
        return [Run(**run, file=path.name) for run in content["runs"]]
    except (KeyError, TypeError, UnicodeDecodeError, json.JSONDecodeError):
        raise NotRecorded(f"{path} is not a log of resnet_course.reproduce") from None


def as_logged(run):
    """A `Run` as the dictionary that its log holds."""
    return {name: value for name, value in asdict(run).items() if name != "file"}


def every_run(folders):
    """All runs in the logs of these folders. Other JSON files are left alone."""
    files = [path for one in folders for path in sorted(Path(one).glob("*.json"))]
    return [run for path in files if '"runs"' in _beginning(path) for run in read(path)]


def _beginning(path):
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read(100)


def runs(root=None, **wanted):
    """The runs whose attributes or settings have the values given, by network, length and seed.

    `runs(data="digits", network="plain-56", epochs=8, lr=0.02)`; `root` is another folder than
    `folder()`. Raises `NotRecorded`, with what there is, when nothing fits.
    """
    every = every_run([root or folder()])
    settings = {name for run in every for name in run.config}
    for name in wanted:
        if name not in Run.__dataclass_fields__ and name not in settings:
            raise ValueError(f"a run has no {name!r}: ask for data, network, seed, epochs, lr, ...")
    asked_of = [run.config | vars(run) for run in every]
    found = [
        run
        for run, has in zip(every, asked_of, strict=True)
        if all(has.get(name) == value for name, value in wanted.items())
    ]
    if not found:
        there = sorted({f"{run.data} {run.network} ({run.epochs:g} epochs)" for run in every})
        asked = ", ".join(f"{name}={value!r}" for name, value in wanted.items()) or "any values"
        raise NotRecorded(f"no recorded run with {asked}; recorded: {', '.join(there) or 'none'}")
    return sorted(found, key=lambda run: (run.data, run.kind, run.depth, run.epochs, run.seed))


def mean_std(runs, name):
    """Mean and standard deviation (n - 1) of a final number, like "test_error" -> (mean, std).

    The deviation of a single run is None.
    """
    values = [run.final.get(name) for run in runs]
    if not values or None in values:
        raise ValueError(f"mean_std needs runs with a finite final {name!r}, got {values}")
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None


def provenance(runs):
    """Date, machine, versions, commit and commands of some runs -> lines of at most 79 characters.

    The commands can be copied into a shell as they are.
    """
    if not runs:
        raise ValueError("provenance needs at least one run, got none")
    first, last = min(run.started[:10] for run in runs), max(run.started[:10] for run in runs)
    machines = _distinct(
        run.hardware["gpu"] or f"{run.hardware['processor']} ({_threads(run)})" for run in runs
    )
    torches = _distinct(f"torch {run.versions['torch']}" for run in runs)
    commits = _distinct(
        f"commit {run.commit['hash'][:10]}{' with changes' * run.commit['changed']}"
        if run.commit
        else f"version {run.versions['resnet_course']}, code {run.code}"
        for run in runs
    )
    date = first if first == last else f"from {first} to {last}"
    origin = textwrap.wrap(f"Recorded {date} on {machines}, {torches}, {commits}:", 79)
    return "\n".join(origin + [_for_a_shell(command) for command in _commands(runs)])


def _threads(run):
    return f"{run.hardware['threads']} thread{'s' if run.hardware['threads'] != 1 else ''}"


def _distinct(words):
    return " and ".join(dict.fromkeys(words))


def _commands(runs):
    """The commands of some runs; where only networks and seeds differ, one command for all."""
    groups = {}
    for run in runs:
        rest = re.sub(r" --networks \S+ --seeds \S+", "", run.command)
        groups.setdefault(rest, []).append(run)
    return [_together(rest, group) for rest, group in groups.items()]


def _together(rest, group):
    module, *options = rest.split(" --", 1)
    if rest == group[0].command:  # a command without these options
        return rest
    networks = " ".join(dict.fromkeys(run.network for run in group))
    seeds = " ".join(str(seed) for seed in sorted({run.seed for run in group}))
    return " --".join([f"{module} --networks {networks} --seeds {seeds}", *options])


def _for_a_shell(command):
    first, rest = " " * 4, " " * 8
    lines = textwrap.wrap(
        command,
        77,  # the backslash comes on top
        initial_indent=first,
        subsequent_indent=rest,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return " \\\n".join(lines)


@dataclass(frozen=True)
class Preprocessing:
    """What a recorded network wants done to its images; `classes` names its outputs.

    Called with pixel values from 0 to 255, (N, 3, 32, 32): the mean training image is subtracted,
    and the result divided by one number, `std`.
    """

    mean: torch.Tensor
    std: float
    classes: tuple

    def __call__(self, pixels):
        if pixels.shape[-3:] != self.mean.shape:
            need = ", ".join(map(str, self.mean.shape))
            raise ValueError(
                f"images must be (N, {need}), got {tuple(pixels.shape)}: resize them first"
            )
        return (pixels.float() - self.mean.to(pixels.device)) / self.std


def pretrained(network, root=None):
    """The recorded network, like "residual-20", trained on CIFAR-10, in evaluation mode.

    Its weights are stored in half precision and computed with in float32. `preprocessing` makes
    its inputs. Raises `NotRecorded`, also when the file is damaged.
    """
    facts, content = _weights(network, root)
    kind, depth = network.split("-")
    if kind == "plain":
        model = resnet.cifar_plain(int(depth))
    else:
        model = resnet.cifar_resnet(int(depth), shortcut=facts["shortcut"])
    model.load_state_dict(content["weights"])
    return model.eval()


def preprocessing(network, root=None):
    """How images become inputs of `pretrained(network)` -> `Preprocessing`. Raises like it."""
    _, content = _weights(network, root)
    return Preprocessing(content["mean"], content["std"], tuple(content["classes"]))


def pretrained_facts(root=None):
    """What is known of each recorded network -> {network: {"test_error", "run", "sha256", ...}}."""
    index = Path(root or folder()) / "pretrained.json"
    return json.loads(index.read_text(encoding="utf-8")) if index.exists() else {}


def _weights(network, root):
    """The verified content of a weights file, and its facts -> (facts, content)."""
    known = pretrained_facts(root)
    if network not in known:
        there = ", ".join(known) or "none"
        raise NotRecorded(f"there are no recorded weights of {network!r}; recorded: {there}")
    facts = known[network]
    path = Path(root or folder()) / facts["file"]
    if not path.exists():  # a downloaded notebook carries the logs, and not what is large
        raise NotRecorded(
            f"the trained network {path.name} does not fit into this notebook: put that file, from "
            "the zip for classes or the folder book/recorded, beside the notebook, and run its "
            "first cell again"
        )
    stored = path.read_bytes()
    if hashlib.sha256(stored).hexdigest() != facts["sha256"]:
        raise NotRecorded(f"{path} is damaged: its checksum is not the one in pretrained.json")
    return facts, torch.load(io.BytesIO(stored), map_location="cpu", weights_only=True)
