"""The recorded runs: found, averaged, told where they are from."""

import hashlib
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from resnet_course.reproduce import recorded
from resnet_course.reproduce.logs import write_runs

ROOT = Path(__file__).resolve().parents[2]


def make(network="plain-20", seed=0, **changed):
    kind, depth = network.split("-")
    run = recorded.Run(
        name=f"digits-{network}-seed{seed}",
        data="digits",
        network=network,
        kind=kind,
        depth=int(depth),
        shortcut="A" if kind == "residual" else None,
        seed=seed,
        updates=88,
        epochs=8.0,
        diverged=False,
        config={"updates": 88},
        final={"test_error": 0.1 + seed / 10, "test_loss": None},
        curves={"update": [88], "test_error": [0.1]},
        layer_response_std={},
        seconds={"training": 1.0, "evaluation": 0.5},
        pieces=[{"started": "2026-11-24T08:00:00+00:00", "update": 0}],
        versions={"torch": "2.15.0", "resnet_course": "0.1.0"},
        hardware={"processor": "A Processor", "cores": 2, "threads": 1, "gpu": None},
        commit={"hash": "0123456789abcdef", "changed": False},
        code="c0de",
        command=f"python -m resnet_course.reproduce --networks {network} --seeds {seed} --lr 0.1",
        started="2026-11-24T08:00:00+00:00",
        images="1mages",
    )
    return replace(run, **changed)


@pytest.fixture
def logs(tmp_path):
    """A folder with one log of several runs, one of a single run, and a file of another kind."""
    plain = [make(seed=seed) for seed in (2, 0, 1)]
    write_runs(tmp_path / "plain.json", map(recorded.as_logged, plain))
    write_runs(tmp_path / "other.json", [recorded.as_logged(make("residual-56"))])
    (tmp_path / "pretrained.json").write_text("{}")
    return tmp_path


def test_runs_are_found_and_ordered(logs):
    assert [run.seed for run in recorded.runs(logs, network="plain-20")] == [0, 1, 2]
    assert [run.network for run in recorded.runs(logs)] == ["plain-20"] * 3 + ["residual-56"]
    (run,) = recorded.runs(logs, kind="residual", depth=56)
    assert run == make("residual-56") and run.file == "other.json"


def test_what_is_not_there_is_named(logs, tmp_path):
    with pytest.raises(
        recorded.NotRecorded, match=r"network='plain-56'; recorded: digits plain-20"
    ):
        recorded.runs(logs, network="plain-56")
    with pytest.raises(ValueError, match="a run has no 'colour'"):
        recorded.runs(logs, colour="red")
    with pytest.raises(recorded.NotRecorded, match="recorded: none"):
        recorded.runs(tmp_path / "empty")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"format": 2, "runs": []}', "has log format 2; this package reads 1"),
        ('{"format": 1, "runs": [{"name": "x"}]}', "is not a log"),
        ('{"format": 1, "runs": [', "is not a log"),
        ("[]", "is not a log"),
    ],
)
def test_other_files_are_refused(tmp_path, text, message):
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(recorded.NotRecorded, match=message):
        recorded.read(tmp_path / "x.json")


def test_mean_std():
    runs = [make(seed=seed) for seed in range(3)]
    assert recorded.mean_std(runs, "test_error") == pytest.approx((0.2, 0.1))
    assert recorded.mean_std(runs[:1], "test_error") == (0.1, None)
    with pytest.raises(ValueError, match="finite final 'test_loss'"):
        recorded.mean_std(runs, "test_loss")
    with pytest.raises(ValueError, match=r"got \[\]"):
        recorded.mean_std([], "test_error")


def test_provenance_of_runs_that_differ_in_network_and_seed_is_one_command():
    runs = [make(network, seed) for network in ("plain-20", "plain-56") for seed in (1, 0)]
    assert recorded.provenance(runs) == (
        "Recorded 2026-11-24 on A Processor (1 thread), torch 2.15.0, commit 0123456789:\n"
        "    python -m resnet_course.reproduce --networks plain-20 plain-56 --seeds 0 \\\n"
        "        1 --lr 0.1"
    )


def test_provenance_names_every_origin():
    gpu = {"processor": "A Processor", "cores": 8, "threads": 8, "gpu": "A GPU"}
    runs = [
        make(),
        make(hardware=gpu, commit=None, started="2026-12-01T08:00:00+00:00", command="python a.py"),
        make(commit={"hash": "f" * 40, "changed": True}),
    ]
    assert recorded.provenance(runs) == (
        "Recorded from 2026-11-24 to 2026-12-01 on A Processor (1 thread) and A GPU,\n"
        "torch 2.15.0, commit 0123456789 and version 0.1.0, code c0de and commit\n"
        "ffffffffff with changes:\n"
        "    python -m resnet_course.reproduce --networks plain-20 --seeds 0 --lr 0.1\n"
        "    python a.py"
    )
    with pytest.raises(ValueError, match="at least one run"):
        recorded.provenance([])


def test_preprocessing():
    mean = torch.arange(12.0).reshape(3, 2, 2)
    prepare = recorded.Preprocessing(mean, 2.0, ("a", "b"))
    pixels = torch.full((5, 3, 2, 2), 100, dtype=torch.uint8)
    torch.testing.assert_close(prepare(pixels)[4], (100 - mean) / 2)
    with pytest.raises(ValueError, match=r"images must be \(N, 3, 2, 2\), got \(5, 3, 4, 4\)"):
        prepare(torch.zeros(5, 3, 4, 4))


def test_weights_that_are_not_there(tmp_path):
    with pytest.raises(recorded.NotRecorded, match="no recorded weights of 'residual-20'; "):
        recorded.pretrained("residual-20", tmp_path)


def test_the_paper_is_table_6():
    percent = {name: round(100 * row["test_error"], 2) for name, row in recorded.PAPER.items()}
    assert percent == {
        "residual-20": 8.75,
        "residual-32": 7.51,
        "residual-44": 7.17,
        "residual-56": 6.97,
        "residual-110": 6.61,
    }
    assert recorded.PAPER["residual-110"]["best"] == 0.0643


# What lies in the book

LOGS = sorted((ROOT / "book" / "recorded").glob("*.json"))


@pytest.mark.parametrize("path", LOGS, ids=lambda path: path.name)
def test_a_recorded_file_is_in_order(path):
    text = path.read_text()
    assert not re.search(r"(?<![\w.])/(home|root|tmp|work|Users|content)/", text)
    if path.name == "pretrained.json":
        for network, facts in json.loads(text).items():
            assert (path.parent / facts["file"]).stat().st_size < 1e6
            assert not recorded.pretrained(network, path.parent).training
            assert recorded.preprocessing(network, path.parent).mean.shape == (3, 32, 32)
        return
    if '"runs"' not in text[:100]:
        return  # a benchmark
    for run in recorded.read(path):
        lengths = {len(values) for values in run.curves.values()}
        assert len(lengths) == 1 and lengths.pop() <= 200
        assert run.diverged or run.updates == run.config["updates"]
        assert run.commit is None or re.fullmatch(r"[0-9a-f]{40}", run.commit["hash"])
        assert len(json.dumps(recorded.as_logged(run))) < 30_000
        lines = recorded.provenance([run]).splitlines()
        assert max(map(len, lines)) <= 79 and lines[0].startswith("Recorded ")
        command = " ".join(line.strip(" \\") for line in lines if line.startswith("    "))
        assert command == run.command


def test_the_folder_of_a_checkout():
    assert recorded.folder() == ROOT / "book" / "recorded"


def test_the_photographs_of_the_book_are_one_experiment():
    """Same recipe and same images at every depth: only the network, or one slope, differs."""
    runs = recorded.runs(data="cifar10", updates=16_000)
    networks = [(run.network, run.config["slope"]) for run in runs]
    assert len(set(networks)) == len(networks) == len(runs)
    needed = {f"{kind}-{depth}" for kind in ("plain", "residual") for depth in (20, 32, 56)}
    assert needed <= {network for network, slope in networks if slope == 0}
    assert ("plain-56", 0.5) in networks
    assert len({run.images for run in runs}) == len({run.seed for run in runs}) == 1
    recipes = {
        json.dumps({k: v for k, v in run.config.items() if k not in ("slope", "warmup")})
        for run in runs
    }
    assert len(recipes) == 1
    for run in runs:  # the paper warms up 110 layers, and no others
        assert (run.config["warmup"] > 0) == (run.depth == 110)
        assert len(run.layer_response_std) == run.depth - 1


def test_the_pretrained_network_is_that_of_its_log():
    (run,) = recorded.runs(data="cifar10", updates=64_000)
    facts = recorded.pretrained_facts()["residual-20"]
    assert facts["run"] == run.name and facts["network"] == run.network
    log = (ROOT / "book" / "recorded" / run.file).read_bytes()
    assert hashlib.sha256(log).hexdigest() == facts["log_sha256"]
    assert abs(facts["test_error"] - run.final["test_error"]) < 0.001  # rounded to 16 bits
