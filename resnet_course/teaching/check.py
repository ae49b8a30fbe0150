"""Exercises that answer back: one sentence for every attempt, never a traceback.

An exercise is a function that examines what the learner made and raises `Mistake` at the first
thing that is wrong. `exercise` turns it into a check that shows a `Verdict`. The chapters'
exercises are in `resnet_course/exercises`; what they examine with is in `judge`, and comes along
from here.
"""

import contextlib
import dis
import functools
import io
import random
import traceback
import warnings
from dataclasses import dataclass
from html import escape
from pathlib import Path

import numpy
import torch

from . import progress
from .judge import (
    Mistake,
    as_before,
    call,
    cause,
    choice,
    choices,
    close,
    copied,
    differing,
    expect,
    fallback,
    gradients,
    judge,
    number,
    proportion,
    row,
    same,
    show,
    tensor,
)
from .markup import marked

__all__ = [
    "Mistake",
    "Verdict",
    "as_before",
    "call",
    "cause",
    "choice",
    "choices",
    "close",
    "copied",
    "differing",
    "exercise",
    "expect",
    "fallback",
    "gradients",
    "judge",
    "number",
    "proportion",
    "row",
    "same",
    "show",
    "tensor",
    "untouched",
]

LOOK = {  # status: (mark, words, colour of the bar; contrast 3 : 1 on light and dark ground)
    "open": ("○", "not attempted yet", "#808080"),
    "wrong": ("✗", "not yet", "#D55E00"),
    "right": ("✓", "right", "#009E73"),
}


@dataclass(frozen=True)
class Verdict:
    """What a check says. `status` is "open", "wrong" or "right".

    `named`: the sentence names the mistake; a fallback shows only what was expected and what came.
    """

    number: str
    status: str
    sentence: str
    named: bool = True

    def __repr__(self):
        return f"Exercise {self.number}, {LOOK[self.status][1]}: {self.sentence}"

    def _repr_html_(self):
        mark, words, colour = LOOK[self.status]
        return (
            '<div class="course-output course-check" role="status" '
            f'style="border-left:4px solid {colour};padding:.3em .8em;margin:.5em 0">'
            f'<b><span aria-hidden="true">{mark}</span> Exercise {escape(self.number)}, '
            f"{words}.</b> {marked(self.sentence)}</div>"
        )


def exercise(number, expects, right, times=3):
    """Decorator: `examine(attempt, *given)` becomes a check that returns a `Verdict`.

    `expects` says in a few words what an attempt is ("a function of depth"). `right` is the
    sentence for a right answer: what it was checked against; `examine` may return a better one.
    It runs `times` times, each with random numbers of its own, and all must be content. Attempts
    and given objects are copied first, and random numbers, gradient mode and the like are put back
    afterwards: a check leaves nothing behind.
    """

    def decorate(examine):
        @functools.wraps(examine)
        def check(attempt, *given):
            verdict = _untried(number, attempt) or Verdict(number, "right", "")
            for turn in range(times):
                if verdict.status == "right":  # what a learner's code prints, it prints once
                    quiet = contextlib.redirect_stdout(io.StringIO())
                    with untouched(), quiet if turn else contextlib.nullcontext():
                        again = _examined(number, expects, right, examine, attempt, given)
                    verdict = again if turn == 0 or again.status != "right" else verdict
            progress.note(number, verdict.status)
            return verdict

        check.number = number
        return check

    return decorate


def _examined(number, expects, right, examine, attempt, given):
    """One verdict of one examination, whatever the learner's code does."""
    try:
        return Verdict(number, "right", examine(*map(copied, (attempt, *given))) or right)
    except Mistake as mistake:
        pointer = f" See hint {mistake.hint}." if mistake.hint else ""
        return Verdict(number, "wrong", f"{mistake}{pointer}", mistake.named)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # exit() too
        if _is_stub(error):
            sentence = "The cell above still says `raise NotImplementedError`: put an answer there."
            return Verdict(number, "open", sentence)
        return Verdict(number, "wrong", _explain(error, expects))


def _untried(number, attempt):
    """The open verdict for `...`, and for a table that holds nothing else."""
    inside = attempt.values() if type(attempt) is dict else attempt
    table = type(attempt) in (dict, list, tuple) and len(attempt) > 0
    if attempt is ... or (table and all(_untried(number, part) for part in inside)):
        return Verdict(number, "open", "Fill in the cell above and run this one again.")
    return None


def _is_stub(error):
    """Was it the learner's own `raise NotImplementedError`? PyTorch raises that error too."""
    if type(error) is not NotImplementedError:
        return False
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    at = error.__traceback__
    while at.tb_next:
        at = at.tb_next
    raised = dis.opname[frame.f_code.co_code[at.tb_lasti]] == "RAISE_VARARGS"
    return raised and not _is_outside(frame.f_code.co_filename)


def _is_outside(filename):
    """Is this a file of the package, of a library or of Python, and not the learner's?"""
    package, python = Path(__file__).parent.parent, Path(traceback.__file__).parent
    places = (str(package), "site-packages", "dist-packages", str(python))
    return filename.startswith("<frozen") or any(place in filename for place in places)


@contextlib.contextmanager
def untouched():
    """Random states, gradient mode, default type and warning filters are as before afterwards.

    Inside, random numbers are fresh ones, so that no answer can be right by remembering.
    """
    states = (torch.get_rng_state(), numpy.random.get_state(), random.getstate())
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else None
    kind, grad, threads = (
        torch.get_default_dtype(),
        torch.is_grad_enabled(),
        torch.get_num_threads(),
    )
    random.seed()
    torch.manual_seed(random.getrandbits(63))
    numpy.random.seed(random.getrandbits(32))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        torch.set_rng_state(states[0])
        numpy.random.set_state(states[1])
        random.setstate(states[2])
        if cuda is not None:
            torch.cuda.set_rng_state_all(cuda)
        torch.set_default_dtype(kind)
        torch.set_grad_enabled(grad)
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)


def _explain(error, expects):
    """One sentence for an exception: what, and at which line of the learner's cell."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if not _is_outside(frame.filename)]
    try:
        said = " ".join(str(error).split())
    except Exception:
        said = ""
    said = said if len(said) <= 200 else said[:199] + "…"
    what = type(error).__name__ + (f": {said}" if said else "")
    if not own:
        return f"Expected {expects}, and the check could not use what came ({what})."
    line = f" at the line `{own[-1].line}`" if own[-1].line else ""
    return f"Expected {expects}, but the code stopped{line} ({what})."
