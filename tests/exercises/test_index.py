"""The index of exercises: every one is in it, once, with its kind, level and one sentence."""

import re
from pathlib import Path

import nbformat

from resnet_course.exercises.index import ABOUT, KINDS

ROOT = Path(__file__).resolve().parents[2]


def headings():
    for path in sorted((ROOT / "book").glob("[0-9]*.ipynb")):
        for cell in nbformat.read(path, as_version=4).cells:
            if cell.cell_type == "markdown":
                yield from re.findall(r"^### Exercise ([\d.]+) · (.+)$", cell.source, re.M)


def test_every_exercise_is_in_the_index_and_nothing_else():
    assert [number for number, _ in headings()] == list(ABOUT)


def test_kinds_and_levels():
    assert {kind for kind, _, _ in ABOUT.values()} == set(KINDS)
    for number, (kind, level, asks) in ABOUT.items():
        assert level in (1, 2, 3) and 20 < len(asks) < 90 and asks.endswith("."), number
        assert kind in KINDS
    for number, title in headings():  # what says so in its title is of that kind
        wanted = [kind for kind in KINDS[1:] if title.lower().startswith(kind)]
        assert not wanted or ABOUT[number][0] == wanted[0] or title.startswith("Find the bugs")
