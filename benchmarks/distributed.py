"""Does the example for ImageNet learn the same on two processes, and after one was killed?

    python benchmarks/distributed.py --json book/recorded/distributed-two-processes.json

Four runs of examples/train_imagenet.py on a folder of small digits: one process; two with
synchronized batch norm; the same two, of which one is killed on the way; two with ordinary batch
norm. Distances between weights are relative.
"""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from _common import describe, origin, parser, save
from PIL import Image
from sklearn.datasets import load_digits

SCRIPT = Path(__file__).resolve().parent.parent / "examples" / "train_imagenet.py"
OPTIONS = [
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


def write_digits(folder):
    """Four kinds of digits as pictures of 32 x 32: 92 for training, 23 for validation."""
    seen = load_digits()
    for number, (pixels, label) in enumerate(zip(seen.images, seen.target, strict=True)):
        part = "train" if number % 5 else "val"
        if label < 4 and number < (300 if part == "train" else 200):
            place = folder / part / f"digit {label}"
            place.mkdir(parents=True, exist_ok=True)
            picture = Image.fromarray((pixels * 15).astype("uint8")).convert("RGB")
            picture.resize((32, 32)).save(place / f"{number:04}.png")


def run(folder, name, processes, *more, before=()):
    """One run -> (its checkpoint, what it printed)."""
    start = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    restarts = ["--max-restarts", "1"] if before else []
    command = [sys.executable, *(start + restarts if processes > 1 else []), *map(str, before)]
    command += [str(SCRIPT), "images", "--out", name, *OPTIONS, *more]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{name}: {done.stderr}")
    return torch.load(folder / name / "checkpoint.pt", weights_only=True), done.stdout


def distance(a, b):
    """Relative, over all weights and statistics."""
    flat = [torch.cat([v.double().flatten() for v in c["model"].values()]) for c in (a, b)]
    return ((flat[0] - flat[1]).norm() / flat[0].norm()).item()


def main():
    options = parser(__doc__).parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        write_digits(folder / "images")
        (folder / "killed.py").write_text(KILLED)
        one, _ = run(folder, "one", 1)
        ordinary, _ = run(folder, "ordinary", 2)
        whole, _ = run(folder, "whole", 2, "--sync-bn")
        before = (folder / "killed.py", folder / "mark")
        killed, said = run(folder, "killed", 2, "--sync-bn", before=before)
    equal = all(torch.equal(whole["model"][k], killed["model"][k]) for k in whole["model"])
    record = origin(__file__) | {
        "options": " ".join(OPTIONS),
        "synchronized": distance(one, whole),
        "ordinary": distance(one, ordinary),
        "restarted": "equal" if equal else f"{distance(whole, killed):.1e} apart",
        "said": re.sub(r"; \d+ images a second", "", said).strip().splitlines(),
    }
    print(describe(record))
    for name in ("synchronized", "ordinary", "restarted"):
        print(f"{name:14}{record[name]}")
    if options.json:
        save(record, options.json)


if __name__ == "__main__":
    main()
