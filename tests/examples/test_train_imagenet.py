"""The example for ImageNet on a small folder of real images: alone, in two, killed, restarted."""

import argparse
import contextlib
import importlib.util
import json
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits
from torch import nn

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "examples" / "train_imagenet.py"
spec = importlib.util.spec_from_file_location("train_imagenet", SCRIPT)
example = importlib.util.module_from_spec(spec)
spec.loader.exec_module(example)

SMALL = [
    *("--arch", "cifar8", "--image-size", "16", "--batch-size", "32", "--epochs", "3"),
    *("--warmup", "1", "--workers", "0", "--save-every", "1", "--lr", "0.1"),
]

# Process 1 kills itself after update 4, once: it leaves a mark.
KILLED = """
import os, runpy, signal, sys
from pathlib import Path
from torch.optim import SGD

mark, steps, step = Path(sys.argv.pop(1)), [], SGD.step

def counting(self, *arguments):
    result = step(self, *arguments)
    steps.append(1)
    if len(steps) == 4 and os.environ["RANK"] == "1" and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return result

SGD.step = counting
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """Four kinds of digits as pictures of 32 x 32: 92 for training, 23 for validation."""
    folder, seen = tmp_path_factory.mktemp("digits"), load_digits()
    for number, (pixels, label) in enumerate(zip(seen.images, seen.target, strict=True)):
        part = "train" if number % 5 else "val"
        if label < 4 and number < (300 if part == "train" else 200):
            place = folder / part / f"digit {label}"
            place.mkdir(parents=True, exist_ok=True)
            picture = Image.fromarray((pixels * 15).astype("uint8")).convert("RGB")
            picture.resize((32, 32)).save(place / f"{number:04}.png")
    return folder


def run(*arguments, limit=None):
    """The example in a process of its own -> (exit status, output, what it says on stderr)."""
    command = [sys.executable, *map(str, arguments)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120,
        preexec_fn=limit,
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


def torchrun(*arguments):
    start = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    return run(*start, *arguments)


@pytest.fixture
def here(monkeypatch, capsys):
    """The example in this process, so that nothing is imported anew -> (what it prints, stderr)."""

    def run_here(*arguments):
        monkeypatch.setattr(sys, "argv", ["train_imagenet.py", *map(str, arguments)])
        handler = example.signal.getsignal(example.signal.SIGTERM)
        monkeypatch.setattr(os, "_exit", sys.exit)
        try:
            with contextlib.suppress(SystemExit):
                example.main()
        finally:
            example.signal.signal(example.signal.SIGTERM, handler)
        return capsys.readouterr()

    return run_here


def checkpoint(folder):
    return torch.load(folder / "checkpoint.pt", weights_only=True)


def same(a, b):
    """Are two checkpoints equal to the last bit, in weights, momentum and log?"""
    flat = [
        {
            **c["model"],
            **{f"m{k}": v["momentum_buffer"] for k, v in c["optimizer"]["state"].items()},
        }
        for c in (a, b)
    ]
    logs = [[{**row, "images_per_second": 0} for row in c["log"]] for c in (a, b)]
    equal = all(torch.equal(flat[0][name], flat[1][name]) for name in flat[0])
    return equal and flat[0].keys() == flat[1].keys() and logs[0] == logs[1]


def away(a, b):
    """How far apart the weights and statistics of two checkpoints are, relative."""
    flat = [torch.cat([v.double().flatten() for v in c["model"].values()]) for c in (a, b)]
    return ((flat[0] - flat[1]).norm() / flat[0].norm()).item()


@pytest.fixture(scope="module")
def one_process(digits, tmp_path_factory):
    out = tmp_path_factory.mktemp("one")
    status, output, said = run(SCRIPT, digits, "--out", out, *SMALL)
    assert status == 0, said
    assert "92 images, 4 classes; 2 updates an epoch; 1 process on cpu" in output
    return checkpoint(out)


def test_two_processes_survive_and_learn_what_one_learns(digits, one_process, tmp_path):
    """With --sync-bn to rounding; a killed process is started again from the last checkpoint."""
    script, out = tmp_path / "killed.py", tmp_path / "out"
    script.write_text(KILLED)
    status, output, said = torchrun(
        "--max-restarts", "1", script, tmp_path / "mark", SCRIPT, digits, "--out", out, *SMALL,
        "--sync-bn",
    )  # fmt: skip
    assert status == 0, said
    assert f"goes on from {out / 'checkpoint.pt'} (restart 1): update 3 of 6 is done" in output
    assert "2 processes on cpu" in output and "update 6 of 6 is done" in output
    restarted = checkpoint(out)
    assert restarted["update"] == 6
    assert away(restarted, one_process) < 1e-4
    assert [r["val_error"] for r in restarted["log"]] == [
        r["val_error"] for r in one_process["log"]
    ]


def test_killed_without_restarts_and_the_same_command_again(digits, one_process, tmp_path):
    """Nothing lost: the same weights, to the last bit, as without the interruption."""
    script, out = tmp_path / "killed.py", tmp_path / "out"
    script.write_text(KILLED)
    command = [script, tmp_path / "mark", SCRIPT, digits, "--out", out, *SMALL]
    status, _, said = torchrun(*command)
    assert status != 0
    assert "SIGKILL" in said or "Signal 9" in said
    assert checkpoint(out)["update"] == 3
    status, output, said = torchrun(*command)
    assert status == 0, said
    assert f"goes on from {out / 'checkpoint.pt'}: update 3 of 6 is done" in output
    again = checkpoint(out)

    whole = tmp_path / "whole"
    command[command.index(out)] = whole
    assert torchrun(*command)[0] == 0
    assert same(again, checkpoint(whole))
    assert away(again, one_process) > 5e-3, "without --sync-bn each half has its own statistics"


def test_an_interrupted_run_ends_like_a_whole_one(digits, here, tmp_path):
    for name, options in (("whole", []), ("cut", ["--stop-after", "3"]), ("cut", [])):
        more = ["--accumulate", "2", "--amp", "--schedule", "step"]
        said = here(digits, "--out", tmp_path / name, *SMALL, *more, *options)
        assert not said.err, said
    assert "goes on" in said.out and "update 3 of 6 is done" in said.out
    assert same(checkpoint(tmp_path / "whole"), checkpoint(tmp_path / "cut"))
    log = json.loads((tmp_path / "cut" / "log.json").read_text())
    assert [row["epoch"] for row in log] == [1, 2, 3] and log == checkpoint(tmp_path / "cut")["log"]
    said = here(digits, "--out", tmp_path / "cut", *SMALL, *more)
    assert "update 6 of 6 is done" in said.out, "once more: nothing left to do"
    assert not list(tmp_path.glob("*/*.new"))


@pytest.mark.parametrize("what", ["nothing", "empty", "odd", "large", "share", "loss", "damaged"])
def test_what_cannot_work_gets_one_sentence(what, digits, here, tmp_path):
    folder, more = tmp_path / "images", []
    if what != "nothing":
        shutil.copytree(digits, folder)
    if what == "empty":
        for path in (folder / "train" / "digit 2").iterdir():
            path.unlink()
    if what == "odd":
        shutil.rmtree(folder / "val" / "digit 2")
    if what == "damaged":
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "checkpoint.pt").write_bytes(b"PK half a file")
    more = {
        "large": ["--batch-size", "128"],
        "share": ["--accumulate", "3"],
        "loss": ["--lr", "1e30"],
    }.get(what, [])
    said = here(folder, "--out", tmp_path / "out", *SMALL, *more)
    sentence = {
        "nothing": f"there is no folder {folder / 'train'}",
        "empty": "Found no valid file for the classes digit 2",
        "odd": "the class digit 2 is in one of train/ and val/ only",
        "large": "--batch-size 128 is more than all 92 images",
        "share": "make it a multiple of 3",
        "loss": "the loss is no number any more",
        "damaged": "is damaged or no checkpoint",
    }[what]
    assert sentence in said.err and said.err.count("\n") == 1, said


@pytest.mark.parametrize("workers", [0, 1])
def test_a_broken_image_is_named_also_by_a_reading_process(workers, digits, here, tmp_path):
    folder = tmp_path / "images"
    shutil.copytree(digits, folder)
    first = sorted((folder / "train" / "digit 1").iterdir())[0]
    first.write_bytes(first.read_bytes()[:60])
    command = [folder, "--out", tmp_path / "out", *SMALL, "--workers", workers]
    said = run(SCRIPT, *command)[2] if workers else here(*command).err
    assert f"the image {first} is broken" in said and said.count("\n") == 1, said


def test_an_image_that_vanishes_is_named(digits, tmp_path):
    images = example.Images(digits / "train", example.transforms(16)[0], 0)
    images.samples[5] = (str(tmp_path / "gone.png"), 0)
    with pytest.raises(example.Unusable, match=r"gone.png is not there any more"):
        images[0, 5]


def test_a_full_disk_leaves_the_last_checkpoint_whole(digits, tmp_path):
    """As on a full disk, no file may become longer than 100 KiB."""
    out = tmp_path / "out"
    out.mkdir()
    whole = out / "checkpoint.pt"
    progress = example.Progress(
        argparse.Namespace(out=out), argparse.Namespace(samples=[]), "cpu",
        *(nn.Linear(200, 200), nn.Linear(2, 2), nn.Linear(2, 2)),
    )  # fmt: skip
    progress.save()
    before = whole.read_bytes()
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100 * 1024, old[1]))
    try:
        with pytest.raises(
            example.Unusable, match=r"checkpoint.pt could not be written \(File too"
        ):
            progress.save()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
    assert whole.read_bytes() == before and not list(out.glob("*.new"))


def test_every_process_reads_its_share_whatever_their_number():
    options = argparse.Namespace(seed=1, batch_size=8, accumulate=1)
    whole = example.training_batches(options, 30, 2, 0, 0, 1)
    assert len(whole) == 3 and all(len(batch) == 8 for batch in whole)
    assert len({item for batch in whole for item in batch}) == 24
    for world, pieces in ((2, 1), (2, 2), (4, 2)):
        options.accumulate = pieces
        shares = [example.training_batches(options, 30, 2, 0, r, world) for r in range(world)]
        for update, batch in enumerate(whole):
            mine = [share[update * pieces : (update + 1) * pieces] for share in shares]
            assert sorted(n for m in mine for piece in m for n in piece) == sorted(batch)
        rest = example.training_batches(options, 30, 2, 1, 0, world)
        assert rest == shares[0][pieces:]
    options.accumulate = 1
    assert example.training_batches(options, 30, 3, 0, 0, 1) != whole


def test_the_rate_follows_the_batch_and_the_schedule():
    options = argparse.Namespace(lr=0.1, batch_size=512, warmup=5, schedule="cosine", epochs=90)
    assert example.rate(options, 0, 100) == pytest.approx(0.2 / 500)
    assert example.rate(options, 499, 100) == pytest.approx(0.2)
    assert example.rate(options, 8999, 100) == pytest.approx(0)
    options.schedule = "step"
    rates = [example.rate(options, 100 * epoch + 50, 100) for epoch in (29, 30, 59, 60, 79, 80)]
    assert rates == pytest.approx([0.2, 0.02, 0.02, 0.002, 0.002, 0.0002])


def test_alone_the_synchronized_batch_norm_is_batch_norm(tmp_path):
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1
    )
    try:
        theirs = nn.Sequential(nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5)).double()
        nn.init.uniform_(theirs[1].weight)
        ours = example.synchronized(
            nn.Sequential(nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5)), torch.device("cpu")
        )
        ours.double().load_state_dict(theirs.state_dict())
        assert type(ours[1]) is example.SyncBatchNorm
        x, factors = torch.randn(4, 3, 8, 8).double(), torch.randn(4, 5, 6, 6).double()
        for model in (ours, theirs):
            (model(x) * factors).sum().backward()
        assert (ours(x) - theirs(x)).abs().max() < 1e-5
        for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
            assert (a.grad - b.grad).abs().max() < 1e-4
        for a, b in zip(ours.buffers(), theirs.buffers(), strict=True):
            assert (a - b).abs().max() < 1e-5
        assert (ours.eval()(x) - theirs.eval()(x)).abs().max() < 1e-5
    finally:
        torch.distributed.destroy_process_group()
