"""Execute the chapters of a build: several at a time, no time limit, one calm report of a failure.

Each chapter runs in a kernel of its own with one thread of computation, since threads that wait for
each other are several times slower as soon as another program runs (`benchmarks/threads.py`). How
many run at a time is bounded by the cores and by the free memory. Finished ones go into
jupyter-cache, where Sphinx finds them; what is there already is not run again.
"""

import contextlib
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import psutil
from jupyter_cache import get_cache
from jupyter_cache.base import CacheBundleIn
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, DeadKernelError

MEMORY_GB = 1.5  # of one chapter, at most
HANGS_AFTER = 20 * 60  # seconds without computing
IDLE = 0.005  # of a processor: what a kernel uses that only waits


class ChapterFailed(Exception):
    """A chapter could not be executed. The message is a few lines for whoever builds the book."""


def cores():
    mask = getattr(os, "sched_getaffinity", None)  # only on Linux
    return len(mask(0)) if mask else os.cpu_count() or 1


def free_memory_gb():
    """Memory that this process may still take: the machine's, or what its container leaves."""
    free = psutil.virtual_memory().available
    with contextlib.suppress(OSError, ValueError):
        group = Path("/sys/fs/cgroup")
        limit = int((group / "memory.max").read_text())
        free = min(free, limit - int((group / "memory.current").read_text()))
    return free / 1e9


def at_a_time(chapters):
    """How many chapters run at the same time; RESNET_COURSE_JOBS overrules it."""
    asked = os.environ.get("RESNET_COURSE_JOBS", "")
    if asked:
        if not asked.isdecimal() or int(asked) < 1:
            raise ChapterFailed(f"RESNET_COURSE_JOBS must be a number from 1 on, got {asked!r}.")
        return int(asked)
    return max(1, min(cores(), int(free_memory_gb() / MEMORY_GB), chapters))


def minutes(seconds):
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"


class Execution:
    """One chapter in a process of its own: this very file, run as a program."""

    def __init__(self, path, folder):
        self.path, self.started = path, time.monotonic()
        self.result = folder / f"{path.stem}.executed.ipynb"
        self.output = folder / f"{path.stem}.output"
        self.computed, self.moved = 0.0, self.started
        command = [sys.executable, "-W", "ignore", __file__, str(path), str(self.result)]
        with open(self.output, "wb") as file:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                env={"OMP_NUM_THREADS": "1", **os.environ},
                start_new_session=True,  # Ctrl-C is for the build; it stops the others
            )

    @property
    def seconds(self):
        return time.monotonic() - self.started

    def hangs(self):
        """Whether the chapter has not computed for a long time. There is no limit otherwise."""
        used = 0.0
        with contextlib.suppress(psutil.Error):
            process = psutil.Process(self.process.pid)
            for one in [process, *process.children(recursive=True)]:
                used += sum(one.cpu_times()[:2])
        if used > self.computed + IDLE * (time.monotonic() - self.moved) + 1.0:
            self.computed, self.moved = used, time.monotonic()
        return time.monotonic() - self.moved > HANGS_AFTER

    def stop(self):
        """End the process and its kernel."""
        with contextlib.suppress(psutil.Error):
            process = psutil.Process(self.process.pid)
            for one in [*process.children(recursive=True), process]:
                with contextlib.suppress(psutil.Error):
                    one.kill()
        self.process.wait()


class Build:
    """The chapters that a build has to execute; `seconds` are the last known times, {name: s}."""

    def __init__(self, paths, cache, folder, seconds, say):
        known = [seconds[path.stem] for path in paths if path.stem in seconds]
        usual = sum(known) / len(known) if known else 30.0
        self.expected = {path: seconds.get(path.stem, usual) for path in paths}
        self.queue = sorted(paths, key=lambda path: -self.expected[path])  # the longest first
        self.count, self.jobs = len(paths), at_a_time(len(paths))
        self.cache, self.folder, self.say = cache, folder, say
        self.running, self.took = [], {}

    def left(self):
        """Seconds until the last chapter is done, if all take as long as last time."""
        rest = [self.expected[path] for path in self.queue]
        rest += [max(0.0, self.expected[one.path] - one.seconds) for one in self.running]
        return max([sum(rest) / self.jobs, *rest])

    def run(self):
        words = f"{self.jobs} at a time" if self.jobs > 1 else "one by one"
        chapters = f"{self.count} chapters, {words}" if self.count > 1 else "one chapter"
        self.say(f"executing {chapters}: about {minutes(self.left())}")
        try:
            while self.queue or self.running:
                while self.queue and len(self.running) < self.jobs:
                    self.running.append(Execution(self.queue.pop(0), self.folder))
                time.sleep(0.1)
                for one in list(self.running):
                    self.look_at(one)
        finally:
            for one in self.running:
                one.stop()

    def look_at(self, one):
        if one.process.poll() is None:
            if one.hangs():
                raise ChapterFailed(
                    f"{one.path.stem} hangs: for {minutes(HANGS_AFTER)} it has computed nothing.\n"
                    "Run the chapter in Jupyter to see what it waits for."
                )
            return
        self.running.remove(one)
        if one.process.returncode:
            raise ChapterFailed(self.report(one))
        self.took[one.path.stem] = seconds = one.seconds
        bundle = CacheBundleIn(
            nbformat.read(one.result, as_version=4),
            str(one.path),
            data={"execution_seconds": seconds},
        )
        self.cache.cache_notebook_bundle(bundle, check_validity=False, overwrite=True)
        one.result.unlink()
        one.output.unlink()
        left = f", about {minutes(self.left())} left" if self.queue or self.running else ""
        self.say(f"[{len(self.took)}/{self.count}] {one.path.stem}: {minutes(seconds)}{left}")

    def report(self, one):
        """Chapter, cell, the line of code, the error, what to do; the rest is in a file."""
        if not one.result.exists():
            last = one.output.read_text(errors="replace").strip().splitlines()[-1:]
            return (
                f"{one.path.stem} could not be started ({' '.join(last) or 'no reason given'}).\n"
                f"More is in {one.output}"
            )
        notebook = nbformat.read(one.result, as_version=4)
        number = current_cell(notebook)
        outputs = notebook.cells[number].get("outputs", []) if number is not None else []
        errors = [output for output in outputs if output.output_type == "error"]
        if not errors:
            return (
                f"{one.path.stem}, {where(notebook, number)}: the kernel died. Mostly the memory "
                f"is full: a chapter needs up to {MEMORY_GB} GB, {free_memory_gb():.1f} are free "
                "now.\nClose other programs, or set RESNET_COURSE_JOBS=1, and build again. "
                f"More is in {one.output}"
            )
        trace = without_colours("\n".join(errors[0].traceback))
        one.output.write_text(trace + "\n", encoding="utf-8")
        said = " ".join(f"{errors[0].ename}: {errors[0].evalue}".split())
        return (
            f"{one.path.stem}, {where(notebook, number)}, stopped at the line\n"
            f"    {failing_line(trace) or notebook.cells[number].source.splitlines()[-1]}\n"
            f"{said if len(said) <= 300 else said[:299] + '…'}\n"
            f"Run the chapter in Jupyter to look closer. The traceback is in {one.output}"
        )


def current_cell(notebook):
    """Number of the cell that failed or ran when the kernel died, or None."""
    for number, cell in enumerate(notebook.cells):
        if any(output.output_type == "error" for output in cell.get("outputs", [])):
            return number
    return notebook.metadata.get("course_cell")


def where(notebook, number):
    """A cell, as a reader finds it: its count among the code cells and the heading above it."""
    if number is None:
        return "before its first cell"
    count = sum(cell.cell_type == "code" for cell in notebook.cells[: number + 1])
    above = [cell.source for cell in notebook.cells[:number] if cell.cell_type == "markdown"]
    headings = re.findall(r"^#{1,4} +(.+)$", "\n".join(above), re.M)
    return f"code cell {count}" + (f" (under “{headings[-1]}”)" if headings else "")


def failing_line(trace):
    """The cell's own line in an IPython traceback, or ""."""
    found = re.search(r"^-+> *\d+ (.*)$", trace, re.M)
    return found[1].strip() if found else ""


def without_colours(text):
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


def execute(paths, cache_folder, recorded, say):
    """Run the notebooks that the cache lacks. Raises `ChapterFailed`, in a few lines.

    `recorded` is the file of `benchmarks/chapters.py`, for the times of a first build; later ones
    know their own.
    """
    cache = get_cache(cache_folder)
    waiting = [path for path in paths if not is_cached(cache, path)]
    if not waiting:
        return
    times = Path(cache_folder).parent / "seconds.json"
    folder = Path(cache_folder).parent.parent / "chapters"
    folder.mkdir(parents=True, exist_ok=True)
    build = Build(waiting, cache, folder, known_seconds(recorded, times), say)
    try:
        build.run()
    finally:
        kept = known_seconds(times) | build.took
        times.write_text(json.dumps(kept, indent=1, sort_keys=True) + "\n")


def is_cached(cache, path):
    try:
        cache.match_cache_notebook(nbformat.read(path, as_version=4))
    except KeyError:
        return False
    return True


def known_seconds(*files):
    """{name: seconds} from files of either form; the later file wins."""
    known = {}
    for file in files:
        with contextlib.suppress(OSError, ValueError, AttributeError):
            content = json.loads(file.read_text())
            for name, value in content.get("chapters", content).items():
                known[name] = float(value["seconds"] if isinstance(value, dict) else value)
    return known


def run_one(path, result):
    """Execute one notebook and write it, also when a cell fails -> exit code."""
    notebook, failed, started = nbformat.read(path, as_version=4), 0, []
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.execution_count, cell.outputs = None, []
    client = NotebookClient(
        notebook,
        timeout=None,
        record_timing=False,  # it would change the cells' metadata, and so their key in the cache
        resources={"metadata": {"path": str(Path(path).parent)}},
        extra_arguments=["--IPKernelApp.log_level=40"],  # errors; not what it thinks of TCP
        on_cell_start=lambda cell, cell_index: started.append(cell_index),
    )
    try:
        client.execute()
    except (CellExecutionError, DeadKernelError) as error:
        print(without_colours(str(error)))
        failed = 1
        notebook.metadata["course_cell"] = started[-1] if started else None
    nbformat.write(notebook, result)
    return failed


if __name__ == "__main__":
    sys.exit(run_one(*sys.argv[1:]))
