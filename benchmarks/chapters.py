"""Seconds to execute the chapters as the build does, alone and beside a busy neighbour.

    python benchmarks/chapters.py [--neighbours 0 1]

Each notebook runs in a kernel of its own with one thread of computation, several at a time where
there are cores and memory for it; the files are left as they are. The time of a chapter includes
the start of its kernel. A neighbour is a program that computes without end on one core.
"""

import contextlib
import os
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from datetime import datetime
from pathlib import Path

import nbformat
from _common import describe, origin, parser, save
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools" / "sphinx"))
import run_chapters  # noqa: E402


def cell_seconds(cell):
    """How long a cell was busy, from the messages of the kernel; 0 for text."""
    times = cell.metadata.get("execution", {})
    start, end = times.get("iopub.status.busy"), times.get("iopub.status.idle")
    if not start or not end:
        return 0.0
    return (datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds()


def execute(path):
    """Run a notebook -> {"seconds", "longest_cell", "longest_cell_starts"}."""
    notebook = nbformat.read(path, as_version=4)
    started = time.perf_counter()
    resources = {"metadata": {"path": str(path.parent)}}
    quiet = ["--IPKernelApp.log_level=40"]
    NotebookClient(notebook, timeout=None, resources=resources, extra_arguments=quiet).execute()
    seconds = time.perf_counter() - started
    longest = max(notebook.cells, key=cell_seconds)
    return {
        "seconds": seconds,
        "longest_cell": cell_seconds(longest),
        "longest_cell_starts": longest.source.strip().splitlines()[0],
    }


@contextlib.contextmanager
def neighbours(count):
    """`count` programs that compute without end, while the block runs."""
    command = [sys.executable, "-c", "while True: pass"]
    busy = [subprocess.Popen(command) for _ in range(count)]
    try:
        yield
    finally:
        for process in busy:
            process.kill()
            process.wait()


def execute_all(paths, jobs):
    """Run the notebooks, `jobs` at a time -> {name: what `execute` says}; prints a table."""
    found = {}
    with ProcessPoolExecutor(jobs) as pool:
        for path, one in zip(paths, pool.map(execute, paths), strict=True):
            found[path.stem] = one
            line = f"{path.stem:32}{one['seconds']:8.1f}{one['longest_cell']:14.1f}"
            print(f"{line}  {one['longest_cell_starts'][:40]}", flush=True)
    return found


def main():
    p = parser(__doc__)
    p.add_argument("--neighbours", nargs="+", type=int, default=[0], help="0 1: alone, then busy")
    p.add_argument("chapters", nargs="*", type=Path, help="notebooks, by default all of the book")
    options = p.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"  # of the kernels, as in the build
    paths = options.chapters or sorted((ROOT / "book").glob("*.ipynb"))
    if options.quick:
        paths = sorted(paths, key=lambda path: path.stat().st_size)[:1]
    known = run_chapters.known_seconds(ROOT / "book" / "recorded" / "chapters.json")
    paths.sort(key=lambda path: -known.get(path.stem, 60.0))  # the longest first
    record = origin(__file__)
    record["command"] += f" --neighbours {' '.join(map(str, options.neighbours))}"
    record["at_a_time"] = jobs = run_chapters.at_a_time(len(paths))
    record["threads_each"], record["seconds_beside_neighbours"] = 1, {}
    print(f"{describe(record)}, {jobs} at a time with one thread each")
    for count in options.neighbours:
        print(f"{f'beside {count} busy neighbours':32}{'seconds':>8}{'longest cell':>14}")
        started = time.perf_counter()
        with neighbours(count):
            found = execute_all(paths, jobs)
        took = record["seconds_beside_neighbours"][str(count)] = time.perf_counter() - started
        print(f"{'from the first to the last':32}{took:8.1f}")
        if count == options.neighbours[0]:
            record["chapters"], record["seconds"] = dict(sorted(found.items())), took
    if options.json:
        save(record, options.json)


if __name__ == "__main__":
    main()
