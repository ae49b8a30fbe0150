import json
import os
import subprocess
import sys
import xml.etree.ElementTree as ElementTree

import pytest

from resnet_course.exercises import ch01, ch06
from resnet_course.teaching import check, progress


@pytest.fixture(autouse=True)
def asked_for_nothing(monkeypatch, tmp_path):
    monkeypatch.setattr(progress, "_file", None)
    monkeypatch.setattr(progress, "_told", set())
    monkeypatch.delenv(progress.VARIABLE, raising=False)
    monkeypatch.chdir(tmp_path)


@check.exercise("6.1", expects="a number", right="fine.")
def answer(attempt):
    check.expect(attempt == 1, "Not 1.")


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_nothing_is_written_without_asking(tmp_path):
    assert answer(1).status == "right" and answer(2).status == "wrong"
    assert list(tmp_path.iterdir()) == []


def test_verdicts_are_added_when_asked_and_only_news(tmp_path, capsys):
    progress.keep("mine.json")
    for attempt in (..., 2, 2, 1, 1, 2):
        answer(attempt)
    said = [(entry["exercise"], entry["status"]) for entry in lines(tmp_path / "mine.json")]
    assert said == [("6.1", "wrong"), ("6.1", "right"), ("6.1", "wrong")]
    assert capsys.readouterr().out.count("\n") == 1
    progress.keep(None)
    answer(1)
    assert len(lines(tmp_path / "mine.json")) == 3


def test_what_was_right_once_stays_right(tmp_path):
    progress.keep("mine.json")
    answer(1), answer(2)
    assert progress.show().verdicts == {"6.1": "right"}
    assert "✓ 6.1" in repr(progress.show()) and "○ 6.2" in repr(progress.show())


def test_the_environment_can_ask(tmp_path, monkeypatch):
    monkeypatch.setenv(progress.VARIABLE, str(tmp_path / "from_outside.json"))
    answer(1)
    assert progress.show().verdicts == {"6.1": "right"}


def test_damaged_and_joined_files_are_read(tmp_path):
    path = tmp_path / "mine.json"
    progress.keep(path)
    answer(1)
    with open(path, "a") as file:
        file.write('not json\n[1]\n{"exercise": 3}\n{"exercise": "6.2", "status": "right"}\n{"exer')
    answer(2)
    assert progress.show(path).verdicts == {"6.1": "right", "6.2": "right"}
    assert '{"exer\n' in path.read_text() and path.read_text().endswith('Z"}\n')


def test_another_file_is_never_touched(tmp_path, capsys):
    other = tmp_path / "notebook.ipynb"
    other.write_text('{"cells": []}')
    progress.keep(other)
    answer(1)
    assert other.read_text() == '{"cells": []}'
    assert "holds something else, and stays as it is" in capsys.readouterr().out


@pytest.mark.skipif(not os.path.exists("/proc/version"), reason="asks for a folder of Linux")
def test_where_nothing_can_be_written_there_is_one_sentence(monkeypatch, capsys):
    progress.keep("/proc/mine.json")
    said = capsys.readouterr().out
    assert said.startswith("Verdicts are not kept: /proc/mine.json cannot be written")
    monkeypatch.setenv(progress.VARIABLE, "/proc/mine.json")
    assert answer(1).status == "right" and answer(2).status == "wrong"
    assert capsys.readouterr().out.count("\n") == 1, "said once"


def test_every_exercise_of_the_course_is_listed():
    listed = {number for _, exercises in progress.chapters() for number in exercises}
    for module in (ch01, ch06):
        numbers = {
            v.number for v in vars(module).values() if isinstance(getattr(v, "number", 0), str)
        }
        assert numbers and numbers <= listed
    assert progress.chapters()[0][0].startswith("Chapter 01, ")


def test_shown_in_a_notebook_it_is_well_formed():
    html = progress.show()._repr_html_()
    assert ElementTree.fromstring(html).findall(".//li")
    assert "Nothing is kept yet" in html


def test_the_command(tmp_path):
    progress.keep("mine.json")
    answer(1)
    command = [sys.executable, "-W", "error", "-m", "resnet_course.teaching.progress"]
    run = subprocess.run([*command, "mine.json"], capture_output=True, text=True)
    assert run.returncode == 0 and "✓ 6.1" in run.stdout, run.stderr
    run = subprocess.run([*command, "nowhere.json"], capture_output=True, text=True)
    assert run.returncode == 1 and run.stderr.startswith("There is no file nowhere.json.")
