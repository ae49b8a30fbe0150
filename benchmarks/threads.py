"""How many threads should a small network get, on a quiet machine and beside busy programs?

    python benchmarks/threads.py

Seconds of one epoch of plain-56 on the digits, and milliseconds of an update of residual-20 on
32 x 32 images, for one and two threads, for two threads that sleep while they wait, and for two
trainings side by side with one thread each (their time per training: half of what they took).
Busy neighbours are programs that compute without end. Everything is taken in one run, in turn.
"""

import json
import os
import statistics
import subprocess
import sys
import time

from _common import describe, origin, parser, save

SETTINGS = {  # name: (environment, trainings side by side)
    "1 thread": ({"OMP_NUM_THREADS": "1"}, 1),
    "2 threads": ({"OMP_NUM_THREADS": "2"}, 1),
    "2 threads, passive": ({"OMP_NUM_THREADS": "2", "OMP_WAIT_POLICY": "passive"}, 1),
    "2 x 1 thread": ({"OMP_NUM_THREADS": "1"}, 2),
}
WORK = {
    "digits": """
data = data.digits()
train.seed_everything(0)
model = resnet.cifar_plain(56, in_channels=1)
train.fit(model, data, 1, 0.02, evaluate_every=9)
started = time.perf_counter()
history = train.fit(model, data, @ROUNDS@, 0.02, evaluate_every=99)
print(json.dumps(history.seconds))
""",
    "photographs": """
import numpy as np
from resnet_course.reproduce import fast
fast.keep_freed_memory()
chance = np.random.default_rng(0)
arrays = {"train_images": chance.integers(0, 256, (1280, 32, 32, 3), dtype=np.uint8)}
arrays["train_labels"] = chance.integers(0, 10, 1280)
arrays["test_images"], arrays["test_labels"] = arrays["train_images"], arrays["train_labels"]
resident = fast.resident_arrays(arrays)
half = "bf16" if train.native_half("cpu") else "none"
updater = fast.Updater(resnet.cifar_resnet(20), resident, half=half)
batches = fast.draw_epoch(1280, torch.Generator(), augment=True).split(128, 1)
for batch in batches[:2]:
    updater.update(batch, 0.01)
seconds = []
for _ in range(@ROUNDS@):
    started = time.perf_counter()
    for batch in batches[2:]:
        updater.update(batch, 0.01)
    updater.take_running()
    seconds.append((time.perf_counter() - started) / len(batches[2:]))
print(json.dumps(seconds))
""",
}
HEAD = "import json, time\nimport torch\nfrom resnet_course import data, resnet, train\n"


def measure(work, setting, rounds):
    """Median seconds of one epoch or update, divided by the number of trainings side by side."""
    environment, trainings = SETTINGS[setting]
    code = HEAD + WORK[work].replace("@ROUNDS@", str(rounds))
    command = [sys.executable, "-c", code]
    started = [
        subprocess.Popen(command, env=os.environ | environment, stdout=subprocess.PIPE, text=True)
        for _ in range(trainings)
    ]
    printed = [process.communicate()[0] for process in started]
    medians = [statistics.median(json.loads(text.splitlines()[-1])) for text in printed]
    return statistics.fmean(medians) / trainings


def main():
    p = parser(__doc__)
    p.add_argument("--neighbours", type=int, nargs="+", default=[0, 1, 2])
    options = p.parse_args()
    rounds = 1 if options.quick else 2
    neighbours = options.neighbours[:1] if options.quick else options.neighbours
    record = origin(__file__)
    record["seconds"] = {}
    print(describe(record))
    print(f"{'':34}" + "".join(f"{n} busy".rjust(10) for n in neighbours))
    for work in WORK:
        rows = record["seconds"][work] = {name: {} for name in SETTINGS}
        for count in neighbours:
            busy = [
                subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)
            ]
            try:
                time.sleep(0.5)
                for name in SETTINGS:
                    rows[name][str(count)] = measure(work, name, rounds)
            finally:
                for process in busy:
                    process.kill()
                    process.wait()
        for name, row in rows.items():
            print(
                f"{work + ', ' + name:34}" + "".join(f"{v:10.3f}" for v in row.values()), flush=True
            )
    if options.json:
        save(record, options.json)


if __name__ == "__main__":
    main()
