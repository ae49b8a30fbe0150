"""The benchmarks run on tiny sizes, and their arithmetic is right."""

import json
import re
import sys
from pathlib import Path

import pytest
import torch

from resnet_course.reproduce import recorded

FOLDER = Path(__file__).resolve().parent.parent / "benchmarks"


@pytest.fixture(autouse=True)
def as_script(monkeypatch):
    """A script finds what lies beside it."""
    monkeypatch.syspath_prepend(str(FOLDER))
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", False)


def main(monkeypatch, name, *arguments):
    script = __import__(name)
    monkeypatch.setattr(sys, "argv", [name, "--quick", *map(str, arguments)])
    script.main()


def small_arrays(root=None):
    import training_speed

    return training_speed.random_arrays(512)


def test_rounds_interleave_and_ratios_are_within_a_round():
    import _common

    calls = []
    speeds = {"slow": iter([9, 1, 2, 10]), "fast": iter([9, 2, 4, 30])}

    def contender(name):
        return lambda: calls.append(name) or next(speeds[name])

    values = _common.interleave({name: contender(name) for name in speeds}, rounds=3)
    assert calls == ["slow", "fast"] * 4
    assert values == {"slow": [1, 2, 10], "fast": [2, 4, 30]}
    assert _common.ratios(values, "slow") == {"slow": 1, "fast": 2}


def test_training_speed(monkeypatch, tmp_path, capsys):
    main(monkeypatch, "training_speed", "--device", "cpu", "--json", tmp_path / "x.json")
    record = json.loads((tmp_path / "x.json").read_text())
    assert record["ratio"]["DataLoader, fp32"] == 1
    assert all(speed > 0 for speed in record["images_per_second"].values())
    assert str(tmp_path) not in (tmp_path / "x.json").read_text()
    assert "reproduce, fp32" in capsys.readouterr().out


def test_same_learning(monkeypatch, tmp_path, capsys):
    import same_learning

    monkeypatch.setattr(same_learning.data, "cifar10_arrays", small_arrays)
    main(monkeypatch, "same_learning", "--json", tmp_path / "x.json")
    runs = recorded.read(tmp_path / "x.json")
    assert sorted((run.config["path"], run.seed) for run in runs) == [
        ("reproduce", 0),
        ("reproduce", 1),
        ("train.fit", 0),
        ("train.fit", 1),
    ]
    assert all(len(run.curves["train_error"]) == 1 for run in runs)
    assert "deviations apart" in capsys.readouterr().out


@pytest.mark.parametrize("group", ["noise", "table", "warmup"])
def test_norm_and_noise(monkeypatch, tmp_path, group):
    main(monkeypatch, "norm_and_noise", group, "--json", tmp_path / "log.json")
    assert recorded.read(tmp_path / "log.json")


def test_threads(monkeypatch, capsys):
    main(monkeypatch, "threads")
    assert "2 x 1 thread" in capsys.readouterr().out


def test_data_loading(monkeypatch, capsys):
    import data_loading

    monkeypatch.setattr(data_loading.data, "cifar10_arrays", small_arrays)
    main(monkeypatch, "data_loading")
    assert "torchvision" in capsys.readouterr().out


def test_torchvision_reads_the_same_images(tmp_path):
    import data_loading

    arrays = small_arrays()
    data_loading.write_batches(arrays, tmp_path)
    theirs = data_loading.Unverified(tmp_path, train=True)
    assert (theirs.data == arrays["train_images"]).all()
    assert theirs.targets == arrays["train_labels"].tolist()


def test_the_time_of_a_cell():
    import chapters
    import nbformat

    cell = nbformat.v4.new_code_cell("x")
    assert chapters.cell_seconds(cell) == 0
    cell.metadata["execution"] = {
        "iopub.status.busy": "2026-11-24T08:00:00.500000Z",
        "iopub.status.idle": "2026-11-24T08:00:02.000000Z",
    }
    assert chapters.cell_seconds(cell) == 1.5


def test_contributing_quotes_the_recorded_figures():
    text = (FOLDER.parent / "CONTRIBUTING.md").read_text()
    speed, chapters = (
        json.loads((recorded.folder() / f"{name}.json").read_text())
        for name in ("training_speed", "chapters")
    )
    rows = [line for line in text.splitlines() if line.startswith("| ") and "fp32" in line]
    rows += [line for line in text.splitlines() if "two runs side by side" in line]
    quoted = {float(n) for row in rows for n in re.findall(r"[\d.]+", row.split("|", 2)[2])}
    assert quoted == {round(n) for n in speed["images_per_second"].values()} | {
        round(n, 2) for n in speed["ratio"].values()
    }
    gpu = json.loads((recorded.folder() / "training_speed_h100.json").read_text())
    table = text.split("| on the H100 |")[1].split("\n\n")[0].splitlines()[2:]
    quoted = {float(n) for row in table for n in re.findall(r"[\d.]+", row.split("|", 2)[2])}
    assert quoted == {round(n) for n in gpu["images_per_second"].values()} | {
        round(n, 2) for n in gpu["ratio"].values()
    }
    assert f"execute in {chapters['seconds']:.0f} s together" in text
    name, slowest = max(chapters["chapters"].items(), key=lambda item: item[1]["seconds"])
    assert f"longest is {name[:2]} ({slowest['seconds']:.0f} s)" in text
    made, limit = (
        [speed["images_per_second"][f"{what}, bf16{runs}"] for runs in ("", ", 2 runs")]
        for what in ("reproduce", "convolutions alone")
    )
    one, two = (100 * a / b for a, b in zip(made, limit, strict=True))
    assert f"`reproduce` reaches {one:.0f} % of it, and {two:.0f} % with two runs" in text
    longest = max(chapter["longest_cell"] for chapter in chapters["chapters"].values())
    assert f"the longest cell takes {longest:.0f} s" in text

    learned = {}
    for run in recorded.runs(data="cifar10-short"):
        learned.setdefault(run.config["path"], []).append(run)
    ends = (recorded.mean_std(learned[path], "test_error") for path in ("train.fit", "reproduce"))
    words = " against ".join(f"{100 * mean:.2f} ± {100 * std:.2f} %" for mean, std in ends)
    assert words in text
