"""Seconds to execute every chapter, and its longest cell.

    python benchmarks/chapters.py

Each notebook runs once, in a kernel of its own, where it lies; the file is left as it is. The time
of a chapter includes the start of its kernel.
"""

import time
from datetime import datetime
from pathlib import Path

import nbformat
from _common import describe, origin, parser, save
from nbclient import NotebookClient

BOOK = Path(__file__).resolve().parent.parent / "book"


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
    NotebookClient(notebook, timeout=600, resources=resources).execute()
    seconds = time.perf_counter() - started
    longest = max(notebook.cells, key=cell_seconds)
    return {
        "seconds": seconds,
        "longest_cell": cell_seconds(longest),
        "longest_cell_starts": longest.source.strip().splitlines()[0],
    }


def main():
    p = parser(__doc__)
    p.add_argument("chapters", nargs="*", type=Path, help="notebooks, by default all of the book")
    options = p.parse_args()
    paths = options.chapters or sorted(BOOK.glob("*.ipynb"))
    if options.quick:
        paths = sorted(paths, key=lambda path: path.stat().st_size)[:1]
    record = origin(__file__)
    print(describe(record))
    print(f"{'':32}{'seconds':>8}{'longest cell':>14}")
    record["chapters"] = {}
    for path in paths:
        found = record["chapters"][path.stem] = execute(path)
        line = f"{path.stem:32}{found['seconds']:8.1f}{found['longest_cell']:14.1f}"
        print(f"{line}  {found['longest_cell_starts'][:40]}", flush=True)
    record["seconds"] = sum(found["seconds"] for found in record["chapters"].values())
    print(f"{'together':32}{record['seconds']:8.1f}")
    if options.json:
        save(record, options.json)


if __name__ == "__main__":
    main()
