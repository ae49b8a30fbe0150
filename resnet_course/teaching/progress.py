"""Which exercises pass: kept in a small file, and only when asked.

    from resnet_course.teaching import progress
    progress.keep("my_progress.json")   # from now on each check adds a line to this file
    progress.show()

The environment variable RESNET_COURSE_PROGRESS asks, too. `python -m
resnet_course.teaching.progress my_progress.json` shows the same. The file is one line of JSON a
verdict, only ever added to, so it may be read, joined with another (`cat`) or sent.
"""

import ast
import json
import os
import re
import sys
import time
from html import escape
from importlib.resources import files
from pathlib import Path

VARIABLE = "RESNET_COURSE_PROGRESS"
LOOK = {"right": ("✓", "right"), "wrong": ("✗", "not yet"), "open": ("○", "not attempted")}

_file = None  # what `keep` was asked for
_told = set()  # files of which was said that they cannot be written


def keep(path="my_progress.json"):
    """From now on checks add their verdicts to this file; `None` stops it. Prints one sentence."""
    global _file
    if path is None:
        _file = None
        print("Verdicts are no longer kept.")
        return
    path = Path(path).expanduser().absolute()
    trouble = _trouble(path)
    if trouble:
        print(f"Verdicts are not kept: {trouble}.")
        return
    _file = path
    print(f"Verdicts are kept in {path}, a line each.")


def _trouble(path):
    """Why this file cannot be added to, or None. Creates it if it is not there."""
    try:
        if path.exists() and path.stat().st_size and not list(_lines(path)):
            return f"{path} holds something else, and stays as it is"
        with open(path, "a", encoding="utf-8"):
            return None
    except (OSError, ValueError) as error:
        return f"{path} cannot be written ({getattr(error, 'strerror', None) or error})"


def note(number, status):
    """Adds one verdict to the file, if one was asked for and it says something new."""
    path = _file or (os.environ.get(VARIABLE) and Path(os.environ[VARIABLE]).expanduser())
    if not path or status == "open":
        return
    path = Path(path).absolute()
    trouble = None if path in _told else _trouble(path)
    if path in _told or trouble:
        if trouble:
            print(f"This verdict is not kept: {trouble}.")
        _told.add(path)
        return
    entries = list(_lines(path))
    if next((e["status"] for e in reversed(entries) if e["exercise"] == number), None) == status:
        return
    when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    line = json.dumps({"exercise": number, "status": status, "when": when}) + "\n"
    torn = path.stat().st_size and not path.read_bytes().endswith(b"\n")
    try:
        with open(path, "ab") as file:  # one write to the end: two notebooks do not mix lines
            file.write(("\n" * bool(torn) + line).encode())
    except OSError as error:
        print(f"This verdict is not kept: {path} cannot be written ({error.strerror or error}).")
        _told.add(path)


def _lines(path):
    """The verdicts in a file, in order. What is no verdict is passed over."""
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            entry = json.loads(line)
            if entry["status"] in LOOK and re.fullmatch(r"\d+\.\d+", entry["exercise"]):
                yield entry
        except (ValueError, TypeError, KeyError):
            continue


class Progress:
    """What `show` returns: a list in a notebook or page, lines in a terminal."""

    def __init__(self, path, chapters, verdicts):
        self.path, self.chapters, self.verdicts = path, chapters, verdicts

    def _count(self, numbers):
        return sum(self.verdicts.get(number) == "right" for number in numbers)

    def __repr__(self):
        lines = []
        for title, exercises in self.chapters:
            right = self._count(exercises)
            marks = (f"{LOOK[self.verdicts.get(n, 'open')][0]} {n}" for n in exercises)
            lines += [f"{title}: {right} of {len(exercises)} right", "    " + "  ".join(marks)]
        return "\n".join([*lines, self._where()])

    def _where(self):
        marks = ", ".join(f"{mark} {words}" for mark, words in LOOK.values())
        source = f"Read from {self.path}." if self.path else f"Nothing is kept yet. {HOW}"
        return f"{marks}. {source}"

    def _repr_html_(self):
        rows = ""
        for title, exercises in self.chapters:
            marks = ""
            for number, name in exercises.items():
                mark, words = LOOK[self.verdicts.get(number, "open")]
                said = escape(f"{number} {name}: {words}")
                marks += f'<span title="{said}" style="white-space:nowrap">{mark} {number}</span> '
            count = f"{self._count(exercises)} of {len(exercises)} right"
            rows += f"<li><b>{escape(title)}</b>: {count}. {marks}</li>"
        where = escape(self._where())
        return f'<div class="course-output"><ul>{rows}</ul><p>{where}</p></div>'


HOW = "`progress.keep()` in a notebook begins; it writes my_progress.json there."


def show(path=None):
    """Which exercises pass, chapter by chapter; without `path` from the file that is kept.

    An exercise that was right once counts as right: nothing is lost by trying again.
    """
    path = path or _file or os.environ.get(VARIABLE) or "my_progress.json"
    path = Path(path).expanduser().absolute()
    verdicts = {}
    try:
        for entry in _lines(path):
            if verdicts.get(entry["exercise"]) != "right":
                verdicts[entry["exercise"]] = entry["status"]
    except OSError:
        path = None
    return Progress(path, chapters(), verdicts)


def chapters():
    """[(title, {number: name})] of the installed course, read from the checks' sources."""
    found = []
    folder = files("resnet_course") / "exercises"
    for source in sorted(folder.iterdir(), key=lambda file: file.name):
        if not re.fullmatch(r"ch\d+\.py", source.name):
            continue
        tree = ast.parse(source.read_text(encoding="utf-8"))
        title = re.sub(
            r":? checks and quiz\.?$", "", (ast.get_docstring(tree) or "").split("\n")[0]
        )
        exercises = {}
        for node in tree.body:
            for mark in getattr(node, "decorator_list", []):
                if isinstance(mark, ast.Call) and getattr(mark.func, "id", "") == "exercise":
                    exercises[mark.args[0].value] = node.name.replace("_", " ")
        found.append((title, dict(sorted(exercises.items()))))
    return found


def main(arguments):
    """The command: an optional file."""
    if len(arguments) > 1 or arguments[:1] in (["-h"], ["--help"]):
        print("python -m resnet_course.teaching.progress [my_progress.json]\n" + __doc__)
        return 0
    if arguments and not Path(arguments[0]).expanduser().is_file():
        print(f"There is no file {arguments[0]}. {HOW}", file=sys.stderr)
        return 1
    print(show(*arguments))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
