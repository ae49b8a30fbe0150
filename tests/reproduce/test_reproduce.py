"""The command line that repeats the paper: what it computes, and that nothing breaks it."""

import ctypes
import errno
import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from resnet_course import data, resnet, train
from resnet_course.reproduce import command_line, fast, logs, recorded
from resnet_course.reproduce.run import Training

ROOT = Path(__file__).resolve().parents[2]
RECIPE = ["--networks", "residual-8", "--batch-size", "50", "--half", "none"]
RECIPE += ["--threads", "1", "--device", "cpu"]

TINY = '''
import numpy as np
def arrays(root=None):
    """300 + 100 small images in the layout of CIFAR-10; the label is the mean brightness."""
    chance = np.random.default_rng(0)
    found = {}
    for name, count in (("train", 300), ("test", 100)):
        labels = chance.integers(0, 10, count)
        images = chance.integers(0, 100, (count, 16, 16, 3)) + 15 * labels[:, None, None, None]
        found[f"{name}_images"] = images.astype(np.uint8)
        found[f"{name}_labels"] = labels.astype(np.int64)
    return found
'''
PROGRAM = f"""{TINY}
import sys
from resnet_course import data
from resnet_course.reproduce import command_line
data.cifar10_arrays = arrays
sys.exit(command_line.main(sys.argv[1:]))
"""


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def tiny(monkeypatch):
    """CIFAR-10 is 300 images in this process -> `Resident`"""
    namespace = {}
    exec(TINY, namespace)
    for place in (data, data.images):
        monkeypatch.setattr(place, "cifar10_arrays", namespace["arrays"])
    return fast.resident_arrays(namespace["arrays"]())


def config_of(*arguments):
    """The one configuration of a command line, for the tiny data."""
    options = command_line.parse([*RECIPE, *arguments])
    return command_line.configurations(options, command_line.load_images(options))[0]


def run(out, *arguments):
    return command_line.main([*RECIPE, "--out", str(out), *arguments])


@pytest.fixture
def start():
    """`run` in a process of its own, which does not outlive the test."""
    with ExitStack() as stack:

        def start(out, *arguments):
            command = [sys.executable, "-c", PROGRAM, *RECIPE, "--out", str(out), *arguments]
            process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
            stack.enter_context(process)
            stack.callback(process.kill)
            return process

        yield start


def wait_for_update(out, update):
    """Wait until a checkpoint holds this many updates."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        for path in out.glob("*.pt"):
            if torch.load(path, weights_only=True)["update"] >= update:
                return
        time.sleep(0.05)
    raise AssertionError("no checkpoint in a minute")


def the(out, ending):
    (path,) = out.glob(f"*.{ending}")
    return path


def assert_same_end(one, other):
    """Two folders hold the same run, bit by bit; times aside."""
    ends = [torch.load(the(out, "pt"), weights_only=True) for out in (one, other)]
    for part in ("model", "momentum"):
        first, second = (end["updater"][part] for end in ends)
        assert first.keys() == second.keys()
        assert all(torch.equal(first[name], second[name]) for name in first)
    assert torch.equal(ends[0]["generator"], ends[1]["generator"])
    first, second = (json.loads(the(out, "json").read_text())["runs"][0] for out in (one, other))
    for times in ("seconds", "pieces", "started"):
        first.pop(times), second.pop(times)
    assert first == second


# Pieces


def test_a_killed_run_ends_as_the_unbroken_one(tiny, tmp_path, start, monkeypatch, capsys):
    """Killed in the middle of an epoch, then stopped by SIGTERM, then finished."""
    whole, pieces, length = tmp_path / "whole", tmp_path / "pieces", ["--iterations", "47"]
    process = start(pieces, *length, "--save-minutes", "1e-9")
    wait_for_update(pieces, 8)
    process.kill()
    process.wait()
    killed_at = torch.load(the(pieces, "pt"), weights_only=True)["update"]
    assert 8 <= killed_at < 47 and not list(pieces.glob("*.json"))

    real = Training.advance

    def advance(self):
        real(self)
        if self.update == 40:
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(Training, "advance", advance)
        assert run(pieces, *length) == 128 + signal.SIGTERM
    output = capsys.readouterr().out
    assert f"goes on after update {killed_at}\n" in output
    assert re.search(r"stopped after update 4\d: the same command goes on\n$", output)

    assert run(pieces, *length) == 0
    assert run(whole, *length) == 0
    assert_same_end(whole, pieces)
    assert not list(pieces.glob("*.tmp")) and not list(pieces.glob(".*.tmp"))
    (log,) = recorded.runs(pieces)
    assert len(log.pieces) == 3
    assert [piece["update"] for piece in log.pieces][:2] == [0, killed_at]


def test_a_finished_run_is_left_alone(tiny, tmp_path, capsys):
    run(tmp_path, "--epochs", "1")
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("cifar10*")}
    capsys.readouterr()
    assert run(tmp_path, "--epochs", "1") == 0
    assert capsys.readouterr().out == "cifar10-residual-8-6-updates-seed0 is finished\n"
    assert before == {path: path.stat().st_mtime_ns for path in tmp_path.glob("cifar10*")}


def test_stops_after_the_minutes_given(tiny, tmp_path, capsys):
    assert run(tmp_path, "--epochs", "1000", "--max-minutes", "0.01") == 0
    assert "the same command goes on" in capsys.readouterr().out
    assert the(tmp_path, "pt") and not list(tmp_path.glob("*.json"))


def test_runs_side_by_side_are_the_same_runs(tiny, tmp_path):
    length = ["--networks", "plain-8", "residual-8", "--iterations", "8"]
    run(tmp_path / "one", *length, "--jobs", "1")
    run(tmp_path / "two", *length, "--jobs", "2")
    for name in ("plain-8", "residual-8"):
        one, two = (recorded.runs(tmp_path / n, network=name)[0] for n in ("one", "two"))
        assert one.curves == two.curves
        assert (one.pieces[0]["jobs"], two.pieces[0]["jobs"]) == (1, 2)


def test_a_failure_stops_the_run_beside(tiny, tmp_path, monkeypatch):
    real = Training.advance

    def advance(self):
        if self.config.network == "plain-8" and self.update == 2:
            raise OSError("the disk is gone")
        real(self)

    monkeypatch.setattr(Training, "advance", advance)
    with pytest.raises(OSError, match="the disk is gone"):
        run(tmp_path, "--networks", "plain-8", "residual-8", "--jobs", "2", "--epochs", "1000")
    assert "residual-8" in the(tmp_path, "pt").name


# What is on the disk


@pytest.mark.parametrize("changed", [["--lr", "0.05"], ["--no-augment"], ["--warmup", "3"]])
def test_another_configuration_is_refused(tiny, tmp_path, capsys, changed):
    run(tmp_path, "--epochs", "1000", "--max-minutes", "0.001")
    before = the(tmp_path, "pt").read_bytes()
    assert run(tmp_path, "--epochs", "1000", *changed) == 2
    assert_one_sentence(capsys.readouterr().err, "was made with", "another folder with --out")
    assert the(tmp_path, "pt").read_bytes() == before


def test_another_configuration_than_the_log_is_refused(tiny, tmp_path, capsys):
    run(tmp_path, "--iterations", "2")
    before = the(tmp_path, "json").read_bytes()
    assert run(tmp_path, "--iterations", "2", "--schedule", "constant") == 2
    assert_one_sentence(capsys.readouterr().err, "schedule paper, not constant")
    assert the(tmp_path, "json").read_bytes() == before


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 torn", b"hello"])
def test_a_damaged_checkpoint_is_refused(tiny, tmp_path, capsys, content):
    path = tmp_path / f"{config_of('--epochs', '1').name}.pt"
    path.write_bytes(content)
    assert run(tmp_path, "--epochs", "1") == 2
    assert_one_sentence(capsys.readouterr().err, "is not a checkpoint", "move it away")
    assert path.read_bytes() == content


def test_a_foreign_checkpoint_is_refused(tmp_path):
    torch.save([1, 2], tmp_path / "x.pt")
    with pytest.raises(ValueError, match="it holds something else"):
        logs.load_checkpoint(tmp_path / "x.pt")


def test_writing_is_atomic(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def fail(file):
        file.write(b"ha")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        logs.write_atomically(path, fail)
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]
    logs.write_atomically(path, lambda file: file.write(b"new"))
    assert path.read_bytes() == b"new" and list(tmp_path.iterdir()) == [path]


def test_a_second_process_is_refused_and_leftovers_go(tiny, tmp_path, capsys):
    name = config_of("--epochs", "1").name
    with logs.only_one_process(tmp_path / f"{name}.pt"):
        assert run(tmp_path, "--epochs", "1") == 2
        assert_one_sentence(capsys.readouterr().err, "another process is writing")
    (tmp_path / f".{name}.pt-abc.tmp").write_bytes(b"left by a killed process")
    assert run(tmp_path, "--epochs", "1") == 0
    assert not list(tmp_path.glob(".*.tmp"))


def test_a_folder_that_is_none_gets_one_sentence(tiny, capsys):
    assert run("/dev/null/x") == 2
    assert_one_sentence(capsys.readouterr().err, "/dev/null/x", "Not a directory", "--out")


@pytest.mark.parametrize(
    "failure",
    [
        NotImplementedError("FileSystem does not appear to support flock"),  # filelock 3.13
        OSError(errno.ENOLCK, "No locks available"),
    ],
)
def test_a_folder_without_locks_gets_one_sentence(tiny, tmp_path, monkeypatch, capsys, failure):
    import filelock

    def acquire(*args, **options):
        raise failure

    monkeypatch.setattr(filelock.FileLock, "acquire", acquire)
    assert run(tmp_path) == 2
    assert_one_sentence(capsys.readouterr().err, str(tmp_path), "cannot be locked", "--out")


def fill(path):
    with open(path, "wb", buffering=0) as file:
        file.write(b"x")


def test_a_full_disk_and_a_file_for_a_folder_get_one_sentence(tiny, tmp_path, capsys, monkeypatch):
    (tmp_path / "file").write_text("")
    assert run(tmp_path / "file" / "x") == 2
    assert_one_sentence(capsys.readouterr().err, "Not a directory", "--out")
    with pytest.raises(logs.Refused, match="No space left on device"):
        logs.write_atomically(tmp_path / "new", lambda file: fill("/dev/full"))


def test_the_log(tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run("runs", "--root", str(tmp_path), "--iterations", "14", "--seeds", "3")
    path = the(tmp_path / "runs", "json")
    text = path.read_text()
    assert str(tmp_path) not in text and str(ROOT) not in text and "NaN" not in text
    (entry,) = json.loads(text)["runs"]
    assert set(entry) == set(recorded.Run.__dataclass_fields__) - {"file"}
    log = recorded.read(path)[0]
    assert (log.kind, log.depth, log.seed, log.updates) == ("residual", 8, 3, 14)
    assert log.curves["update"] == [6, 12, 14] and log.curves["epoch"] == [1, 2, 2.333]
    assert log.curves["lr"] == [0.1, 0.001, 0.001]
    assert all(len(values) == 3 for values in log.curves.values())
    assert log.curves["test_error"][-1] == pytest.approx(log.final["test_error"])
    assert list(log.layer_response_std)[:3] == ["bn1", "layer1.0.bn1", "layer1.0.bn2"]
    assert len(log.layer_response_std) == 7
    assert log.command == (
        "python -m resnet_course.reproduce --networks residual-8 --seeds 3 --data cifar10 "
        "--iterations 14 --batch-size 50 --lr 0.1 --schedule paper --warmup 0 --augment --half none"
    )
    assert log.versions["torch"] == torch.__version__ and log.hardware["threads"] == 1


@pytest.mark.parametrize(
    "arguments",
    [
        "--epochs 2 --shortcut C --warmup 5",
        "--networks plain-14 --seeds 7 --iterations 13 --lr 0.003 --no-augment",
        "--data digits --networks residual-110 --epochs 3",
    ],
)
def test_the_command_in_the_log_gives_the_same_configuration(tiny, arguments):
    from resnet_course.reproduce.run import command

    options = command_line.parse([*RECIPE, *arguments.split()])
    images = command_line.load_images(options)
    config = command_line.configurations(options, images)[0]
    written = command(config, len(images.train_labels) // config.batch_size)
    again = command_line.parse([*written.split()[3:], "--device", "cpu"])
    assert command_line.configurations(again, images) == [config]


def test_a_diverged_run_says_so(tiny, tmp_path, capsys):
    assert run(tmp_path, "--epochs", "5", "--lr", "1e30", "--schedule", "constant") == 0
    assert "it diverged" in capsys.readouterr().out
    (log,) = recorded.runs(tmp_path)
    assert log.diverged and log.updates == 6 and log.config["updates"] == 30
    assert log.curves["train_loss"] == [None] and log.final["test_loss"] is None
    assert run(tmp_path, "--epochs", "5", "--lr", "1e30", "--schedule", "constant") == 0
    assert capsys.readouterr().out.endswith("is finished\n")


def test_a_long_run_has_a_small_log(tmp_path):
    """64,000 updates of ResNet-110: 165 points, 109 layers, and not more than 30 kB."""
    options = command_line.parse(["--networks", "residual-110", "--half", "none"])
    labels = torch.zeros(50_000)
    images = fast.Resident(None, labels, None, labels[:10_000], None, 1.0)
    config = command_line.configurations(options, images)[0]
    points = math.ceil(config.updates / config.evaluate_every)
    assert points == 165
    one = dict.fromkeys(recorded.Run.__dataclass_fields__, 0.123456789)
    one["curves"] = {name: [0.123456789] * points for name in "abcdefgh"}
    one["layer_response_std"] = {f"layer3.{i}.bn1": 0.123456789 for i in range(109)}
    logs.write_runs(tmp_path / "x.json", [one])
    assert (tmp_path / "x.json").stat().st_size < 30_000


def test_collect(tiny, tmp_path):
    run(tmp_path / "runs", "--iterations", "2", "--seeds", "0", "1")
    assert run(tmp_path / "runs", "--collect", str(tmp_path / "all.json")) == 0
    assert recorded.read(tmp_path / "all.json") == recorded.runs(tmp_path / "runs")


# The command line


def assert_one_sentence(text, *parts):
    assert text.count("\n") == 1 and "Traceback" not in text
    for part in parts:
        assert part in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--networks residual-21", "depth must be 6n + 2 with n >= 1, got 21: choose 20 or 26"),
        ("--networks resnet-20", "'resnet-20' is unknown: write plain-DEPTH or residual-DEPTH"),
        ("--networks plain-99999999", "'plain-99999999' is unknown"),
        ("--shortcut D", "invalid choice: 'D'"),
        ("--seeds -1", "'-1' is not a whole number of at least 0"),
        ("--data mnist", "invalid choice: 'mnist'"),
        ("--iterations 0", "'0' is not a whole number of at least 1"),
        ("--iterations 1 --epochs 1", "give one of them"),
        ("--lr 0", "'0' is not a number above 0"),
        ("--lr nan", "'nan' is not a number above 0"),
        ("--lr fast", "'fast' is not a number above 0"),
        ("--batch-size 1.5", "'1.5' is not a whole number"),
        ("--batch-size 1000", "--batch-size must be at most 300, got 1000"),
        ("--schedule cosine", "invalid choice: 'cosine'"),
        ("--half fp8", "invalid choice: 'fp8'"),
        ("--device tpu9", "--device 'tpu9' is not on this machine"),
        ("--max-minutes 0", "'0' is not a number above 0"),
        ("--jobs 0", "'0' is not a whole number of at least 1"),
        ("--data digits --augment", "leave it out"),
        ("--export x --seeds 0 1", "takes one network and one seed"),
        ("--export x --iterations 2", "finish the run first"),
        ("--collect x.json", "no recorded run with any values; recorded: none"),
        ("--nonsense", "unrecognized arguments: --nonsense"),
    ],
)
def test_bad_arguments_get_one_sentence(tiny, tmp_path, capsys, arguments, message):
    try:
        code = run(tmp_path, *arguments.split())
    except SystemExit as stop:
        code = stop.code
    assert code == 2
    assert_one_sentence(capsys.readouterr().err, message)
    assert not list(tmp_path.glob("cifar10*"))


def test_missing_data_gets_one_sentence(tmp_path, capsys):
    assert run(tmp_path, "--root", str(tmp_path / "none.npz")) == 2
    assert_one_sentence(capsys.readouterr().err, "none.npz")


def test_list_shows_runs_beside_the_paper(tiny, tmp_path, capsys):
    run(tmp_path, "--networks", "plain-8", "residual-8", "--iterations", "2", "--seeds", "0", "1")
    capsys.readouterr()
    assert run(tmp_path, "--list") == 0
    lines = capsys.readouterr().out.splitlines()
    mean, std = recorded.mean_std(recorded.runs(tmp_path, network="residual-8"), "test_error")
    expected = f"{100 * mean:.2f} ± {100 * std:.2f} %"
    (line,) = [line for line in lines if re.match("cifar10 +residual-8 ", line)]
    settings = ["cifar10", "residual-8", "A", "2", "0.1", "0", "2"]
    assert line.split() == [*settings, *expected.split()]
    paper = [line.split() for line in lines if "(paper)" in line]
    assert [line[1] for line in paper] == [f"residual-{n}" for n in (20, 32, 44, 56, 110)]
    assert paper[0][-3:] == ["8.75", "%", "(paper)"]
    assert paper[-1][6:-1] == ["5", "6.61", "±", "0.16", "%"]


def test_plan_tells_the_time_and_starts_nothing(tiny, tmp_path, capsys):
    assert run(tmp_path, "--epochs", "10", "--plan") == 0
    assert "ms a step" in capsys.readouterr().out
    assert not list(tmp_path.glob("*"))


def test_the_recipes_are_the_papers_and_the_courses():
    options = command_line.parse(["--half", "none", "--device", "cpu"])
    assert (options.iterations, options.batch_size, options.lr) == (64_000, 128, 0.1)
    assert options.augment and options.schedule == "paper" and options.epochs is None
    options = command_line.parse(["--data", "digits"])
    assert (options.epochs, options.lr, options.schedule) == (8, 0.02, "constant")
    assert not options.augment and options.half == "none" and options.iterations is None


def test_schedule(tiny):
    config = replace(config_of(), updates=64_000)
    assert [config.rate(s) for s in (0, 31_999, 32_000, 48_000)] == pytest.approx(
        [0.1, 0.1, 0.01, 0.001]
    )
    deep = config_of("--networks", "residual-110")
    assert [deep.rate(s) for s in (0, 399, 400)] == pytest.approx([0.01, 0.01, 0.1])
    assert config_of("--schedule", "constant", "--iterations", "9").rate(8) == 0.1


# The arithmetic


def test_crop_and_flip_equals_the_slow_way():
    chance = torch.Generator().manual_seed(0)
    images = torch.randn(40, 8, 6, 3, generator=chance)
    _, top, left, flip = fast.draw_epoch(40, chance, augment=True)
    ours = fast.crop_and_flip(images, top, left, flip)
    padded = np.pad(images.numpy(), ((0, 0), (4, 4), (4, 4), (0, 0)))
    for n in range(40):
        slow = padded[n, top[n] : top[n] + 8, left[n] : left[n] + 6]
        assert np.array_equal(ours[n], slow[:, ::-1] if flip[n] else slow)
    assert {*top.tolist(), *left.tolist()} == set(range(9)) and {*flip.tolist()} == {0, 1}


def test_every_epoch_has_every_image_once():
    chance = torch.Generator().manual_seed(0)
    first, second = (fast.draw_epoch(100, chance, True) for _ in range(2))
    assert sorted(first[0].tolist()) == sorted(second[0].tolist()) == list(range(100))
    assert not torch.equal(first, second)


def test_batches_equal_those_of_the_teaching_path(tiny):
    """From uint8 on the device the same numbers as `data.cifar10` and its images."""
    teaching = data.cifar10()
    chosen = torch.tensor([5, 299, 17])
    images, labels = fast.make_batch(tiny, chosen[None])
    assert images.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(images, teaching.train_images[chosen], rtol=1e-4, atol=1e-4)
    assert torch.equal(labels, teaching.train_labels[chosen])

    crops = fast.draw_epoch(300, torch.Generator().manual_seed(1), augment=True)[:, :50]
    ours, _ = fast.make_batch(tiny, crops)

    def randint(low, high, size, generator):
        return crops[1:3] if len(size) == 2 and size[0] == 2 else crops[3][:, None]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "randint", randint)
        theirs = data.crop_and_flip(teaching.train_images[crops[0]], None)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_a_digits_run_is_the_run_of_fit(tmp_path):
    """Same seed, same weights, same batches: the teaching loop and this one agree."""
    digits = data.digits()
    options = command_line.parse(
        ["--data", "digits", "--networks", "plain-8", "--seeds", "2", "--epochs", "3"]
    )
    config = command_line.configurations(options, command_line.load_images(options))[0]
    training = Training(config, fast.resident_digits(digits), tmp_path / "x.pt")
    training.go(lambda: False, save_every=1000)
    train.seed_everything(2)
    model = resnet.cifar_plain(8, in_channels=1)
    history = train.fit(model, digits, 3, 0.02, seed=2)
    for name in ("train_loss", "train_error", "train_error_eval", "test_error"):
        assert training.curves[name] == pytest.approx(getattr(history, name), abs=0.01)
    for ours, theirs in zip(training.updater.model.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-2, atol=1e-3)


@pytest.mark.skipif(not hasattr(ctypes.pythonapi, "mallopt"), reason="the setting is glibc's")
def test_memory_that_was_freed_is_used_again():
    """Twenty tensors of 64 MB, one after the other: none asks the system for new pages."""
    program = """
import resource, torch
from resnet_course.reproduce import fast
fast.keep_freed_memory()
def make(count):
    for _ in range(count):
        torch.ones(2**24)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
before = make(40)
print((make(20) - before) * resource.getpagesize() / 2**26)
"""
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT)
    assert float(ran.stdout) < 2, ran.stderr


def test_overfits_one_batch(tiny):
    train.seed_everything(0)
    updater = fast.Updater(resnet.cifar_resnet(8), tiny)
    chance = torch.arange(50)[None]
    losses = []
    for _ in range(40):
        updater.update(chance, 0.05)
        losses.append(updater.take_running()[0])
    assert losses[-1] < 0.1 < losses[0]


def test_half_precision_learns_too(tiny):
    half = train.native_half("cpu")
    if half is None:
        pytest.skip("this processor has no bf16 instructions")
    train.seed_everything(0)
    updater = fast.Updater(resnet.cifar_resnet(8), tiny, half="bf16")
    losses = []
    for _ in range(15):
        updater.update(torch.arange(50)[None], 0.05)
        losses.append(updater.take_running()[0])
    assert losses[-1] < losses[0] / 2
    assert all(p.dtype == torch.float32 for p in updater.model.parameters())


def test_measure_equals_evaluate(tiny):
    train.seed_everything(0)
    model = resnet.cifar_resnet(8)
    ours = fast.measure(model, tiny, "test")
    teaching = data.cifar10()
    theirs = train.evaluate(model, teaching.test_images, teaching.test_labels)
    assert ours == pytest.approx(theirs, rel=1e-4) and model.training


def test_a_part_is_spread_evenly():
    labels = torch.arange(10).repeat_interleave(10)  # a copy of the data sorted by class
    images = fast.Resident(labels, labels, labels, labels, None, 1.0)
    assert images.part("train", 50)[1].bincount().tolist() == [5] * 10
    assert len(images.part("test", 30)[1]) == 30 and len(images.part("test")[1]) == 100


def test_layer_responses_are_the_papers(tiny):
    """Recomputed by hand for one block: after its batch norms, before ReLU and the addition."""
    train.seed_everything(0)
    model = resnet.cifar_resnet(14).eval()
    with torch.no_grad():
        x = tiny.standardize(tiny.train_images).permute(0, 3, 1, 2)
        x = model.layer1(model.relu(model.bn1(model.conv1(x))))
        block = model.layer2[0]
        first = block.bn1(block.conv1(x))
        second = block.bn2(block.conv2(torch.relu(first)))
    found = fast.layer_responses(model, tiny, 300)
    assert len(found) == 13  # all but the linear layer
    assert found["layer2.0.bn1"] == pytest.approx(first.std().item(), rel=1e-4)
    assert found["layer2.0.bn2"] == pytest.approx(second.std().item(), rel=1e-4)
    assert not model.bn1._forward_hooks


def test_state_goes_round(tiny):
    """A state put into a fresh network continues exactly; the state itself does not change."""
    train.seed_everything(0)
    one = fast.Updater(resnet.cifar_resnet(8), tiny)
    two = fast.Updater(resnet.cifar_resnet(8), tiny)
    batches = fast.draw_epoch(300, torch.Generator().manual_seed(0), True).split(50, 1)
    one.update(batches[0], 0.1)
    two.update(batches[3], 0.1)
    state = one.state()
    two.load(state)
    for batch in batches[1:3]:
        one.update(batch, 0.1)
        two.update(batch, 0.1)
    assert one.take_running() == two.take_running()
    assert not torch.equal(state["model"]["fc.weight"], one.model.fc.weight)
    fresh = fast.Updater(resnet.cifar_resnet(8), tiny).state()
    two.load(fresh)
    assert all(not b.any() for b in two.state()["momentum"].values())


# Weights


def test_exported_weights_come_back(tiny, tmp_path, capsys):
    out, book = tmp_path / "runs", tmp_path / "book"
    run(out, "--epochs", "4")
    assert run(out, "--epochs", "4", "--export", str(book / "residual-8.pt")) == 0
    model = recorded.pretrained("residual-8", book)
    prepare = recorded.preprocessing("residual-8", book)
    assert not model.training and prepare.classes == data.CIFAR10_CLASSES
    arrays = data.cifar10_arrays()
    pixels = torch.from_numpy(arrays["test_images"]).permute(0, 3, 1, 2)
    with torch.no_grad():
        wrong = model(prepare(pixels)).argmax(1) != torch.from_numpy(arrays["test_labels"])
    facts = recorded.pretrained_facts(book)["residual-8"]
    assert wrong.float().mean().item() == pytest.approx(facts["test_error"], abs=1e-6)
    assert facts["log_sha256"] == logs.sha256(the(out, "json"))
    assert facts["run"] == the(out, "json").stem
    trained = torch.load(the(out, "pt"), weights_only=True)["updater"]["model"]
    torch.testing.assert_close(model.fc.weight, trained["fc.weight"], rtol=1e-3, atol=1e-4)
    assert "MB, test error" in capsys.readouterr().out
    with open(book / "residual-8.pt", "r+b") as file:
        file.seek(3000)
        file.write(b"\xff")
    with pytest.raises(recorded.NotRecorded, match="is damaged"):
        recorded.pretrained("residual-8", book)


# CUDA

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")


@needs_cuda
@pytest.mark.parametrize("half", ["none", "bf16"])
def test_a_graph_computes_what_the_steps_compute(tiny, half):
    images = replace(
        tiny,
        **{n: v.cuda() for n, v in vars(tiny).items() if torch.is_tensor(v)},
    )
    batches = fast.draw_epoch(300, torch.Generator().manual_seed(0), True).cuda().split(50, 1)
    ends = []
    for graph in (False, True):
        train.seed_everything(0)
        updater = fast.Updater(resnet.cifar_resnet(8), images, half=half)
        if graph:
            with updater.on_stream():
                assert updater.capture(torch.zeros_like(batches[0])) is None
            assert updater.graph is not None
        with updater.on_stream():
            for batch, lr in zip(batches, (0.1, 0.1, 0.1, 0.01, 0.01, 0.0), strict=True):
                updater.update(batch, lr)
            ends.append((updater.take_running(), updater.state()["model"]))
    assert ends[0][0] == pytest.approx(ends[1][0], rel=0.05)
    assert ends[1][1]["bn1.num_batches_tracked"] == 6
    torch.testing.assert_close(
        ends[0][1]["fc.weight"], ends[1][1]["fc.weight"], rtol=0.1, atol=0.01
    )


@needs_cuda
def test_cuda_runs_side_by_side(tiny, tmp_path):
    for jobs in ("1", "2"):
        arguments = ["--seeds", "0", "1", "--epochs", "5", "--jobs", jobs, "--device", "cuda"]
        assert run(tmp_path / jobs, *arguments) == 0
    losses = [recorded.runs(tmp_path / jobs, seed=1)[0].final["train_loss"] for jobs in "12"]
    assert losses[0] == pytest.approx(losses[1], rel=0.2)


# Subsets of data that may be sorted by class


@pytest.mark.parametrize(("total", "count"), [(50_000, 12_800), (50_000, 10_000), (300, 299)])
def test_a_subset_is_spread_over_the_whole_set(total, count):
    chosen = fast.spread(total, count)
    assert len(set(chosen.tolist())) == count and chosen[0] == 0
    labels = torch.arange(total) * 10 // total  # sorted by class
    shares = torch.bincount(labels[chosen], minlength=10) / count
    assert (shares - torch.bincount(labels, minlength=10) / total).abs().max() < 10 / count


@pytest.mark.parametrize("count", [0, 11])
def test_a_subset_larger_than_the_set_is_refused(count):
    with pytest.raises(ValueError, match=f"between 1 and 10, got {count}"):
        fast.spread(10, count)


@pytest.mark.parametrize(
    ("cores", "arguments", "jobs", "threads"),
    [
        (2, "--networks plain-8 residual-8", 2, 1),
        (2, "--networks plain-8", 1, 1),
        (16, "--networks plain-8", 1, 8),
        (16, "--networks plain-8 --seeds 0 1", 2, 8),
        (1, "--networks plain-8 --seeds 0 1", 1, 1),
        (2, "--networks plain-8 residual-8 --jobs 1", 1, 1),
        (2, "--networks plain-8 residual-8 --threads 2", 1, 2),
    ],
)
def test_the_cores_are_shared(monkeypatch, cores, arguments, jobs, threads):
    monkeypatch.setattr(train, "cores", lambda: cores)
    options = command_line.parse([*arguments.split(), "--device", "cpu"])
    command_line.share(options)
    assert (options.jobs, options.threads) == (jobs, threads)
