"""Runs that took longer than a cell may: their logs, their means, and where they are from.

    runs = recorded.runs(data="cifar10", network="plain-56")
    recorded.mean_std(runs, "test_error")
    print(recorded.provenance(runs))

The logs are the JSON files in `book/recorded`; `reproduce` writes them.
"""

import json
import statistics
from dataclasses import dataclass, field
from pathlib import Path

# CIFAR-10 test error in percent (He et al. 2015, table 6). `best` of five runs for 110.
PAPER = {
    "residual-20": {"best": 8.75},
    "residual-32": {"best": 7.51},
    "residual-44": {"best": 7.17},
    "residual-56": {"best": 6.97},
    "residual-110": {"best": 6.43, "mean": 6.61, "std": 0.16},
}


@dataclass(frozen=True)
class Run:
    """One training run. Errors are fractions between 0 and 1; None where a number was not finite.

    `network` is `kind` and `depth`, like "residual-20"; `curves` maps a name to a list, one entry
    per evaluation: `update`, `epoch`, `lr`, `train_loss`, `train_error` (running, training mode),
    `train_error_eval` (evaluation mode, images as they are), `test_loss`, `test_error`. `final` is
    measured in float32 at the end, on all images. `updates` counts the updates done.
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
    """Where the logs lie: beside an installed package, or in the book of a checkout."""
    package = Path(__file__).resolve().parent
    places = (package / "_recorded", package.parent / "book" / "recorded")
    return next((place for place in places if place.is_dir()), places[1])


def read(path):
    """One log file -> list of `Run`. Raises ValueError in one sentence for any other file."""
    try:
        content = json.loads(Path(path).read_text())
        if content["format"] != 1:
            raise ValueError(f"{path} has log format {content['format']}, this package reads 1")
        return [Run(**run, file=Path(path).name) for run in content["runs"]]
    except (KeyError, TypeError, json.JSONDecodeError):
        raise ValueError(f"{path} is not a log of resnet_course.reproduce") from None


def runs(root=None, **wanted):
    """The recorded runs whose attributes have these values, ordered by network and seed.

    `runs(data="cifar10", network="plain-56", seed=0)`; `root` is another folder or file to search.
    Raises LookupError, with what there is, when nothing fits.
    """
    unknown = set(wanted) - set(Run.__dataclass_fields__)
    if unknown:
        raise ValueError(f"a run has no {sorted(unknown)[0]!r}: choose from data, network, seed, …")
    root = Path(root or folder())
    files = [root] if root.is_file() else sorted(root.glob("*.json"))
    every = [run for path in files if _is_log(path) for run in read(path)]
    found = [run for run in every if all(getattr(run, k) == v for k, v in wanted.items())]
    if not found:
        there = ", ".join(sorted({f"{run.data} {run.network}" for run in every})) or "nothing"
        raise LookupError(f"no recorded run has {wanted}; recorded: {there}")
    return sorted(found, key=lambda run: (run.data, run.kind, run.depth, run.updates, run.seed))


def _is_log(path):
    """Other programs keep other JSON files in the same folder; theirs have no list of runs."""
    with open(path, "rb") as file:
        return b'"runs"' in file.read(100)


def mean_std(runs, name):
    """Mean and sample standard deviation of a final number, like "test_error" -> (mean, std).

    The deviation of a single run is None.
    """
    values = [run.final[name] for run in runs]
    if not values or None in values:
        raise ValueError(f"mean_std needs runs with a finite {name}, got {values}")
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None


def provenance(runs):
    """Command, seeds, machine, versions, commit and date of some runs -> one sentence."""
    if not runs:
        raise ValueError("provenance needs at least one run")
    first = runs[0]
    seeds = sorted({run.seed for run in runs})
    networks = sorted({run.network for run in runs}, key=lambda n: (n.split("-")[0], len(n), n))
    gpu, threads = first.hardware["gpu"], first.hardware["threads"]
    machine = gpu or f"{first.hardware['processor']}, {threads} thread{'s'[: threads != 1]}"
    commit = f"commit {first.commit['hash'][:10]}" if first.commit else f"code {first.code}"
    return (
        f"Recorded {first.started[:10]} with `{first.command}` "
        f"({', '.join(networks)}; seed{'s'[: len(seeds) != 1]} {', '.join(map(str, seeds))}) on "
        f"{machine}, torch {first.versions['torch']}, resnet_course "
        f"{first.versions['resnet_course']}, {commit}."
    )
