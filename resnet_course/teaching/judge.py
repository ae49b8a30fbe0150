"""What examinations are made of: each function raises `Mistake`, one true sentence, or returns.

What an answer *is* (`call`, `number`, `row`, `tensor`, `choice`) is asked first; a sentence about
it names no hint, since hints are about the content. Then what it is *worth*: `judge` compares with
the right value, and names a cause only when a known mistake gives just what came.
"""

import contextlib
import copy
import math
import numbers
import re
from decimal import Decimal

import numpy
import torch

from .unchanged import difference


class Mistake(Exception):
    """One sentence for the learner, and the hint that helps: its number in the chapter, or None.

    `named`: the sentence says what the mistake is. A fallback, which only shows what was expected
    and what came, does not.
    """

    def __init__(self, sentence, hint=None, named=True):
        super().__init__(sentence)
        self.hint, self.named = hint, named


def expect(condition, sentence, hint=None):
    """The sentence, unless the condition holds."""
    if not condition:
        raise Mistake(sentence, hint)


def fallback(wanted, got, what="the answer", hint=None):
    """Never returns: what was expected and what came, in figures. It claims no cause."""
    if isinstance(wanted, torch.Tensor) and isinstance(got, torch.Tensor) and wanted.numel() > 1:
        raise Mistake(_worst_place(wanted, got, what), hint, named=False)
    wanted, got = _apart(wanted, got)
    raise Mistake(f"Expected {wanted} for {what}, got {got}.", hint, named=False)


def _worst_place(wanted, got, what):
    wanted, got = wanted.detach().cpu().double(), got.detach().cpu().double()
    if wanted.shape != got.shape:
        return f"Expected shape {tuple(wanted.shape)} for {what}, got {tuple(got.shape)}."
    gap = (wanted - got).abs().nan_to_num(math.inf)
    place = [int(i) for i in numpy.unravel_index(int(gap.argmax()), tuple(gap.shape))]
    a, b = _apart(wanted[tuple(place)].item(), got[tuple(place)].item())
    return f"Expected {a} at {place} of {what}, where the gap is largest, got {b}."


def _apart(wanted, got):
    """Both in as few digits as tell them apart; texts as they are."""
    pair = wanted, got
    if all(isinstance(value, float | int) and not isinstance(value, bool) for value in pair):
        if all(value == int(value) and abs(value) < 1e15 for value in pair if math.isfinite(value)):
            return tuple(f"{value:,.0f}" for value in pair)
        for digits in (4, 6, 9, 12, 17):
            texts = tuple(f"{value:,.{digits}g}" for value in pair)
            if len(set(texts)) == 2:
                return texts
    return tuple(value if isinstance(value, str) else show(value) for value in pair)


_alike = None  # a list while `alike` watches


@contextlib.contextmanager
def alike():
    """Collects known mistakes that a case could not tell apart, for the tests: sets of words."""
    global _alike
    _alike = found = []
    try:
        yield found
    finally:
        _alike = None


def cause(got, known, tolerance=1e-4):
    """Words for the known mistake that gives `got`, for both if two do, or None.

    `known` lists (value, words); a value None is skipped.
    """
    known = [(value, words) for value, words in known if value is not None]
    if _alike is not None:
        for value, words in known:
            others = {w for v, w in known if w != words and same(v, value, tolerance)}
            _alike.extend([{words, *others}] if others else [])
    words = list(dict.fromkeys(w for value, w in known if same(got, value, tolerance)))
    if len(words) > 2:
        return None
    return " or ".join(words) or None


def judge(got, wanted, what, known=(), hint=None, tolerance=1e-4, figures=False):
    """Returns if `got` is `wanted`; else says which of the known mistakes it is, or both values.

    `known` lists (value, words) or (value, words, hint). The sentence holds the two values too if
    `figures`: for an exercise without drawn arguments.
    """
    if same(got, wanted, tolerance):
        return
    reasons = [(value, words) for value, words, *_ in known]
    why = cause(got, [*reasons, (wanted, "nothing: it is right")], tolerance)
    if why is None:
        fallback(wanted, got, what, hint)
    own = next((rest[0] for value, words, *rest in known if rest and words in why), hint)
    right, came = _apart(wanted, got)
    values = f"{right} for {what}, got {came}" if figures else f"something else for {what}"
    raise Mistake(f"Expected {values}: {why}.", own)


def proportion(got, wanted, tolerance=1e-4):
    """Words if all values are wrong by one and the same factor, other than 0; or None."""
    got, wanted = (torch.as_tensor(value).detach().cpu().double() for value in (got, wanted))
    if got.shape != wanted.shape or wanted.numel() < 2 or not wanted.any():
        return None
    factor = ((got * wanted).sum() / wanted.square().sum()).item()
    if abs(factor) < 0.01 or not same(got / factor, wanted, tolerance):
        return None
    if abs(abs(factor) - 1) < tolerance:
        return "every value has the other sign" if factor < 0 else None
    size = "large" if abs(factor) > 1 else "small"
    sign = ", and has the other sign" if factor < 0 else ""
    return f"every value is too {size} by one and the same factor{sign}"


def same(a, b, tolerance=1e-4):
    """Two numbers or two tensors: equal in shape, and in value up to `tolerance`?"""
    a, b = torch.as_tensor(a), torch.as_tensor(b)
    return a.shape == b.shape and close(a, b, tolerance)


def close(value, wanted, tolerance=1e-4):
    """Are they equal up to `tolerance` times the largest wanted number (at least 1)?"""
    value = torch.as_tensor(value).detach().cpu().double()
    wanted = torch.as_tensor(wanted).detach().cpu().double()
    if not wanted.numel():
        return value.shape == wanted.shape
    scale = max(1.0, wanted.abs().max().item())
    return bool(((value - wanted).abs() <= tolerance * scale).all())


def gradients(output, things, factors):
    """Gradients of `(output * factors).sum()` for a module's parameters or a dict of tensors.

    Returns {name: gradient, or None where there is none}. With the same random factors, two blocks
    that compute the same have the same gradients.
    """
    if isinstance(things, torch.nn.Module):
        things = dict(things.named_parameters())
    found = torch.autograd.grad(
        (output * factors).sum(), list(things.values()), retain_graph=True, allow_unused=True
    )
    return dict(zip(things, found, strict=True))


def differing(got, wanted, tolerance=1e-4):
    """The first name at which two dicts of tensors (gradients, states) differ, or None."""
    for name, value in wanted.items():
        other = got.get(name)
        if (value is None) != (other is None):
            return name
        if value is not None and not same(other, value, tolerance):
            return name
    return next((name for name in got if name not in wanted), None)


def show(value):
    """A value in a sentence, short."""
    if isinstance(value, torch.Tensor) and value.numel() > 4:
        return f"a tensor of shape {tuple(value.shape)}"
    if isinstance(value, numpy.ndarray) and value.size > 4:
        return f"an array of shape {value.shape}"
    if isinstance(value, torch.nn.Module):
        return f"a {type(value).__name__} module"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list | tuple | dict | set):
        inside = value.values() if isinstance(value, dict) else value
        if any(isinstance(part, torch.Tensor | torch.nn.Module | list | tuple) for part in inside):
            return f"a {type(value).__name__} of {len(value)}"
    if callable(value) and hasattr(value, "__name__"):
        kind = "class" if isinstance(value, type) else "function"
        return f"the {kind} `{value.__name__}`" if value.__name__ != "<lambda>" else "a function"
    try:
        text = " ".join(repr(value).split())
    except Exception:
        text = f"a {type(value).__name__}"
    return text if len(text) <= 60 else text[:59] + "…"


def call(function, *arguments, hint=None, leave=None):
    """`function(*arguments)`, refusing what cannot be called, `None`, and changed arguments.

    Values of tensors, tables and modules must be as before. With `leave` (a list of arguments, or
    "all") these must be as before in *everything*: modes of all submodules, dtypes,
    `requires_grad`, gradients, hooks.
    """
    expect(callable(function), f"Expected a function, got {show(function)}.")
    kept = [copied(argument) for argument in arguments]
    result = function(*arguments)
    expect(result is not None, "The function returned None: does it end with `return`?")
    for before, after in zip(kept, arguments, strict=True):
        strict = leave == "all" or any(after is one for one in leave or [])
        as_before(before, after, hint, strict)
    return result


def as_before(before, after, hint=None, strict=True):
    """Refuses a caller's object that is not what its copy `before` (of `copied`) says."""
    found = difference(before, after, strict)
    if found == "value" and not isinstance(after, torch.nn.Module):
        raise Mistake(
            "The function changed its input in place: a caller who uses it again gets a "
            "different one; make a new object instead.",
            hint,
        )
    if found == "value":
        raise Mistake(
            "The function changed its input in place: the weights or running statistics of the "
            "network it was given are not what they were.",
            hint,
        )
    expect(found is None, f"The function left its input changed: {found}.", hint)


def copied(thing):
    """A deep copy where there can be one (not of generators, nor of tensors inside a graph).

    Gradients come along: the copy that PyTorch makes of a parameter has none.
    """
    seen = {}
    try:
        made = copy.deepcopy(thing, seen)
        for one in seen.get(id(seen), []):  # all the originals
            if isinstance(one, torch.nn.Parameter) and one.grad is not None:
                seen[id(one)].grad = one.grad.detach().clone()
        return made
    except Exception:
        return thing


def number(value, what="the answer", hint=None, unit=None):
    """A finite float from any kind of number, a tensor with one element among them.

    `unit`, "fraction" or "per cent", is what the exercise asks for, if it asks for one.
    """
    if isinstance(value, torch.Tensor | numpy.ndarray | numpy.generic):
        count = value.numel() if isinstance(value, torch.Tensor) else value.size
        expect(count == 1, f"Expected one number for {what}, got {show(value)}.", hint)
        value = value.item()
    if isinstance(value, str | tuple):
        raise Mistake(_other_form(value, what, unit))
    good = isinstance(value, numbers.Real | Decimal) and not isinstance(value, bool)
    expect(good, f"Expected a number for {what}, got {show(value)}.", hint)
    try:
        value = float(value)
    except OverflowError:
        value = math.inf
    expect(math.isfinite(value), f"Expected a finite number for {what}, got {value}.", hint)
    return value


# How people write numbers that Python does not read. Each has one reading only.
PLAIN = r"[-+]?\d+(?:_\d+)*(?:\.\d*)?(?:e[-+]?\d+)?|[-+]?\.\d+(?:e[-+]?\d+)?"
THOUSANDS = r"[-+]?[1-9]\d{0,2}(?:,\d{3}){2,}(?:\.\d+)?|[-+]?[1-9]\d{0,2}(?:,\d{3})+\.\d+"
SPACED = r"[-+]?[1-9]\d{0,2}(?:[ \u00a0\u202f]\d{3})+(?:\.\d+)?"
DECIMAL_COMMA = r"[-+]?(?:0,\d+|\d+,\d{4,})"  # but 1,000 and 35,35 can be two things


def _other_form(value, what, unit):
    """One sentence for a text or a tuple where a number belongs."""
    start = f"Expected a number for {what}, got {show(value)}"
    if isinstance(value, tuple):
        whole = all(type(part) is int for part in value)
        point = "; a decimal point is written `.`, and thousands get no mark" if whole else ""
        return (
            f"{start}" + bool(value) * f": in Python a comma makes a tuple of values{point}" + "."
        )
    found = re.fullmatch(r"\s*(.*?)\s*(%|per ?cent)?\s*", value, re.S | re.I)
    text, percent = found.group(1, 2)
    text = text.replace("\u2212", "-")  # a typographer's minus
    read = _read(text)
    if percent and read:
        share = f"{float(read) / 100:.6g}"
        meant = {"fraction": f"{share}, a fraction", "per cent": f"{read}, in per cent"}
        both = f"{share} if a fraction is asked for, {read} if per cent"
        return f"{start}: write a number alone, without quotes or sign; {meant.get(unit, both)}."
    if read:
        return f"{start}: write {read}, without quotes{'' if read == text else ' and marks'}."
    if re.fullmatch(r"[-+]?\d[\d.,]*", text):
        return f"{start}: write it without quotes, a decimal point as `.`, thousands without marks."
    if re.match(r"[-+]?[\d.]", text):
        return f"{start}, a text: write a number alone, without quotes and units."
    return f"{start}."


def _read(text):
    """The one number that a text can mean, as Python writes it, or None."""
    if re.fullmatch(PLAIN, text, re.I):
        return text
    if re.fullmatch(THOUSANDS, text) or re.fullmatch(SPACED, text):
        return re.sub(r"[,\s]", "", text)
    return text.replace(",", ".") if re.fullmatch(DECIMAL_COMMA, text) else None


def row(value, length, what="the answer", hint=None, names=None):
    """`length` finite floats from a list, tuple, range, tensor or array.

    `names` says what each number is, for the sentences.
    """
    if isinstance(value, torch.Tensor | numpy.ndarray):
        value = value.tolist()
    good = isinstance(value, list | tuple | range)
    expect(good, f"Expected a list of {length} numbers for {what}, got {show(value)}.", hint)
    expect(
        len(value) == length,
        f"Expected {length} numbers for {what}, got {len(value)}: {show(value)}.",
        hint,
    )
    names = names or [f"place {i} of {what}" for i in range(length)]
    return [number(part, name, hint) for part, name in zip(value, names, strict=True)]


def tensor(value, shape, what="the result", hint=None):
    """A finite tensor of this shape, as float64 on the CPU, detached."""
    good = isinstance(value, torch.Tensor)
    expect(good, f"Expected a tensor for {what}, got {show(value)}.")
    expect(
        tuple(value.shape) == tuple(shape),
        f"Expected shape {tuple(shape)} for {what}, got {tuple(value.shape)}.",
        hint,
    )
    expect(not value.is_complex(), f"Expected real numbers for {what}, got complex ones.")
    value = value.detach().cpu().double()
    bad = "NaN" if value.isnan().any() else "infinity" if value.isinf().any() else ""
    expect(not bad, f"Expected finite numbers for {what}, but {bad} is among them.", hint)
    return value


def choice(value, options, what="the answer", hint=None):
    """One of the options, in any case of letters."""
    wanted = value.strip().lower() if isinstance(value, str) else value
    for option in options:
        if isinstance(wanted, str) and wanted == option.lower():
            return option
    allowed = ", ".join(f'"{option}"' for option in options)
    raise Mistake(f"Expected one of {allowed} for {what}, got {show(value)}.", hint)


def choices(attempt, letters, options, what):
    """A dictionary with one of the options for each letter -> the same, options spelt as here.

    `what` is what a letter stands for, such as "patient".
    """
    expect(
        isinstance(attempt, dict),
        f'Expected a dictionary, like {{"{letters[0]}": "..."}}, got {show(attempt)}.',
    )
    missing = [letter for letter in letters if letter not in attempt]
    values = [value for value in attempt.values() if isinstance(value, str)]
    expect(
        not missing or not any(letter in values for letter in letters),
        "The letters are the keys, and the words their values, not vice versa.",
    )
    expect(
        not missing or not all(letter.lower() in attempt for letter in missing),
        f"The letters are capitals, {letters[0]} to {letters[-1]}.",
    )
    absent = ", ".join(missing[:-1]) + " and " * (len(missing) > 1) + "".join(missing[-1:])
    verb = "is" if len(missing) == 1 else "are"
    expect(
        not missing,
        f"Expected a word for each of {letters[0]} to {letters[-1]}; {absent} {verb} missing."
        + " The letters are the keys." * (len(missing) == len(letters)),
    )
    return {letter: choice(attempt[letter], options, f"{what} {letter}") for letter in letters}
