"""Exercises that answer back: one sentence for every attempt, never a traceback.

An exercise is a function that examines what the learner made and raises `Mistake` at the first
thing that is wrong. `exercise` turns it into a check that shows a `Verdict`. The chapters'
exercises are in `resnet_course/exercises`.
"""

import contextlib
import copy
import functools
import math
import numbers
import random
import re
import traceback
import warnings
from dataclasses import dataclass
from html import escape
from pathlib import Path

import numpy
import torch

from .markup import marked

LOOK = {  # status: (mark, words, colour of the bar; contrast 3 : 1 on light and dark ground)
    "open": ("○", "not attempted yet", "#808080"),
    "wrong": ("✗", "not yet", "#D55E00"),
    "right": ("✓", "right", "#009E73"),
}


class Mistake(Exception):
    """One sentence for the learner, and the hint that helps: its number in the chapter, or None."""

    def __init__(self, sentence, hint=1):
        super().__init__(sentence)
        self.hint = hint


@dataclass(frozen=True)
class Verdict:
    """What a check says. `status` is "open", "wrong" or "right"."""

    number: str
    status: str
    sentence: str

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


def exercise(number, expects, right):
    """Decorator: `examine(attempt, *given)` becomes a check that returns a `Verdict`.

    `expects` says in a few words what an attempt is ("a function of depth"). `right` is the
    sentence for a right answer: what it was checked against; `examine` may return a better one.
    Attempts and given objects are copied first, and random numbers, gradient mode and the like are
    put back afterwards: a check leaves nothing behind.
    """

    def decorate(examine):
        @functools.wraps(examine)
        def check(attempt, *given):
            if attempt is ...:
                return _open(number)
            with untouched():
                try:
                    parts = [_copied(part) for part in (attempt, *given)]
                    sentence = examine(*parts) or right
                except Mistake as mistake:
                    pointer = f" See hint {mistake.hint}." if mistake.hint else ""
                    return Verdict(number, "wrong", f"{mistake}{pointer}")
                except NotImplementedError:
                    return _open(number)
                except KeyboardInterrupt:
                    raise
                except BaseException as error:  # whatever a learner's code may do, exit() too
                    return Verdict(number, "wrong", _explain(error, expects))
            return Verdict(number, "right", sentence)

        check.number = number
        return check

    return decorate


def _open(number):
    return Verdict(number, "open", "Fill in the cell above and run this one again.")


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


def _copied(thing):
    try:
        return copy.deepcopy(thing)
    except Exception:  # not everything can be copied: generators, tensors inside a graph
        return thing


def _explain(error, expects):
    """One sentence for an exception: what, and at which line of the learner's cell."""
    package, python = Path(__file__).parent.parent, Path(traceback.__file__).parent
    outside = (str(package), "site-packages", str(python))
    frames = traceback.extract_tb(error.__traceback__)
    own = [f for f in frames if not f.filename.startswith("<frozen")]
    own = [f for f in own if not any(place in f.filename for place in outside)]
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


# What examinations are made of. Each raises `Mistake`.


def expect(condition, sentence, hint=1):
    """The sentence, unless the condition holds."""
    if not condition:
        raise Mistake(sentence, hint)


def show(value):
    """A value in a sentence, short."""
    if isinstance(value, torch.Tensor) and value.numel() > 4:
        return f"a tensor of shape {tuple(value.shape)}"
    if isinstance(value, torch.nn.Module):
        return f"a {type(value).__name__} module"
    if isinstance(value, float):
        return f"{value:.4g}"
    try:
        text = " ".join(repr(value).split())
    except Exception:
        text = f"a {type(value).__name__}"
    return text if len(text) <= 60 else text[:59] + "…"


def call(function, *arguments, hint=1):
    """`function(*arguments)`, refusing what cannot be called, `None`, and changed arguments."""
    expect(callable(function), f"Expected a function, got {show(function)}.", None)
    kept = [_copied(argument) for argument in arguments]
    result = function(*arguments)
    expect(result is not None, "The function returned None: does it end with `return`?", None)
    for before, after in zip(kept, arguments, strict=True):
        expect(
            _same(before, after),
            "The function changed its input in place: a caller who uses it again gets a "
            "different one; make a new object instead.",
            hint,
        )
    return result


def _same(before, after):
    if isinstance(before, torch.Tensor):
        return torch.equal(before.nan_to_num(), after.nan_to_num())
    if isinstance(before, torch.nn.Module):
        old, new = before.state_dict(), after.state_dict()
        return old.keys() == new.keys() and all(torch.equal(old[k], new[k]) for k in old)
    if isinstance(before, list | tuple):
        return len(before) == len(after) and all(map(_same, before, after))
    if isinstance(before, dict):
        return list(before) == list(after) and all(_same(before[k], after[k]) for k in before)
    if isinstance(before, int | float | str | set | numpy.ndarray):
        return bool(numpy.all(before == after))
    return True


def number(value, what="the answer", hint=1):
    """A finite float from any kind of number, a tensor with one element among them."""
    if isinstance(value, torch.Tensor | numpy.ndarray | numpy.generic):
        count = value.numel() if isinstance(value, torch.Tensor) else value.size
        expect(count == 1, f"Expected one number for {what}, got {show(value)}.", hint)
        value = value.item()
    good = isinstance(value, numbers.Real) and not isinstance(value, bool)
    meant = None if good else _number_in(value)
    expect(
        meant is None,
        f"Expected a number for {what}, got {show(value)}: write {meant}, without quotes, commas "
        "and units.",
        None,
    )
    expect(good, f"Expected a number for {what}, got {show(value)}.", hint)
    expect(math.isfinite(value), f"Expected a finite number for {what}, got {value}.", hint)
    return float(value)


def _number_in(value):
    """What "1,116,416", "12 %" or 1,000 (to Python the tuple (1, 0)) was meant to be, or None."""
    if isinstance(value, tuple) and len(value) > 1 and all(type(part) is int for part in value):
        first, *others = value
        thousands = all(0 <= part < 1000 for part in others)
        return str(first) + "".join(f"{part:03}" for part in others) if thousands else None
    if not isinstance(value, str):
        return None
    found = re.fullmatch(r"\s*([-+]?\d[\d,_ ]*(\.\d+)?)\D{0,20}", value[:60])
    return re.sub(r"[,_ ]", "", found[1]) if found else None


def tensor(value, shape, what="the result", hint=1):
    """A finite tensor of this shape, as float64 on the CPU, detached."""
    good = isinstance(value, torch.Tensor)
    expect(good, f"Expected a tensor for {what}, got {show(value)}.", hint)
    expect(
        tuple(value.shape) == tuple(shape),
        f"Expected shape {tuple(shape)} for {what}, got {tuple(value.shape)}.",
        hint,
    )
    value = value.detach().cpu().double()
    bad = "NaN" if value.isnan().any() else "infinity" if value.isinf().any() else ""
    expect(not bad, f"Expected finite numbers for {what}, but {bad} is among them.", hint)
    return value


def choice(value, options, what="the answer", hint=1):
    """One of the options, in any case of letters."""
    wanted = value.strip().lower() if isinstance(value, str) else value
    for option in options:
        if wanted == option.lower():
            return option
    allowed = ", ".join(f'"{option}"' for option in options)
    raise Mistake(f"Expected one of {allowed} for {what}, got {show(value)}.", hint)


def close(value, wanted, tolerance=1e-4):
    """Are they equal up to `tolerance` times the largest wanted number (at least 1)?"""
    value, wanted = torch.as_tensor(value).double(), torch.as_tensor(wanted).double()
    scale = max(1.0, wanted.abs().max().item())
    return bool(((value - wanted).abs() <= tolerance * scale).all())
