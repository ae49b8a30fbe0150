"""Chapter 02, vanishing and exploding gradients: checks and quiz."""

import itertools
import math
import random
from functools import partial

import torch
from torch.nn import functional as F

from resnet_course.teaching.check import (
    Mistake,
    call,
    close,
    exercise,
    expect,
    fallback,
    number,
    tensor,
)
from resnet_course.teaching.quiz import Question


def _near(got, known, tolerance):
    """The words of the known wrong values that `got` is (of two, if they agree), or None."""
    words = [rest for value, *rest in known if value > 0 and abs(got / value - 1) < tolerance]
    words = list(dict.fromkeys(map(tuple, words)))
    if not words or len(words) > 2:
        return None
    return " or ".join(why for why, *_ in words), words[0][-1]


def _apart(wanted, known, tolerance):
    """Do different mistakes give different numbers, and none the right one?"""
    sorted_ones = sorted((value, why) for value, why, _ in [(wanted, "", 0), *known] if value > 0)
    pairs = itertools.pairwise(sorted_ones)
    return all(b / a - 1 > tolerance or one == other for (a, one), (b, other) in pairs)


@exercise(
    "2.1",
    expects="a function of slope and fan_in",
    right="for six slopes, 0 and 1 among them, your weights pass a signal on with the factor 1.",
)
def leaky_std(attempt):
    """A function: (slope of a leaky ReLU, fan_in) -> standard deviation of the weights."""
    for a in (None, 0.0, 1.0, 0.01, -0.5, None):
        drawn = a is None
        while True:
            if drawn:
                a = round(random.uniform(0.2, 0.9), 3)
            fan_in = random.randint(20, 2000)
            wanted = math.sqrt(2 / ((1 + a * a) * fan_in))
            known = _wrong_stds(a, fan_in)
            if not drawn or _apart(wanted, known, 5e-3):
                break
        said = "a slope between 0.2 and 0.9" if drawn else f"slope {a:g}"
        got = number(call(attempt, a, fan_in), f"the standard deviation for {said}")
        expect(got > 0, f"A standard deviation is positive; for {said} yours is not.")
        if abs(got / wanted - 1) < 1e-3:
            continue
        why = _near(got, known, 1e-5)
        if why is None:
            why, said = _unused(attempt, got, a, fan_in), "everything asked"
        if why is None:
            fallback(wanted, got, f"slope {a:g} and fan_in {fan_in}")
        raise Mistake(f"The standard deviation is not the wanted one for {said}: {why[0]}.", why[1])


def _unused(attempt, got, a, fan_in):
    """Words for an answer that does not use what it is given, and a hint, or None."""

    def same(*arguments):
        try:
            return abs(float(attempt(*arguments)) / got - 1) < 1e-9
        except Exception:
            return False

    without = [
        name
        for name, arguments in (("slope", (a + 0.07, fan_in)), ("fan_in", (a, fan_in + 7)))
        if same(*arguments)
    ]
    if len(without) == 2:
        return "neither slope nor fan_in is used: the value is always the same", 1
    if without:
        return f"`{without[0]}` is not used: whatever it is, the same value comes", 1
    return None


def _wrong_stds(a, n):
    right = math.sqrt(2 / ((1 + a * a) * n))
    squares = "the negative half is a mean of *squares*, so the slope enters squared, by itself"
    less = "the negative half takes nothing away; it adds"
    known = [
        (right**2, "that is the variance; its root was asked for", 2),
        (math.sqrt(right), "the root was taken once too often", 2),
        (
            math.sqrt(2 / (a * a * n)) if a else 0,
            "the positive half is missing: it is 1 + a², not a² alone",
            1,
        ),
        (
            math.sqrt(max(2 - abs(a), 0) / n),
            "the slope enters as 1 + a², below the line, and is not taken from the 2 above",
            1,
        ),
        (
            2 / (1 + a * a) / math.sqrt(n),
            "1 + a² and the 2 belong under the root, too, not fan_in alone",
            2,
        ),
        (math.sqrt(2 / n) / (1 + a * a), "1 + a² belongs under the root, too", 2),
        (math.sqrt(2 / n), "that is He's value for ReLU: the slope does not enter", 1),
        (math.sqrt(2 / ((1 + abs(a)) * n)), squares, 1),
        (math.sqrt(2 / n) / (1 + abs(a)), "the slope enters as 1 + a², not as (1 + a)²", 1),
        (
            math.sqrt(2 * (1 + a * a) / n),
            "a leaky ReLU lets *more* through, so the weights must be smaller, not larger",
            2,
        ),
        (1 / right, "that is the inverse", 2),
        (math.sqrt(1 / n), "that is right where nothing is lost, with slope 1", 1),
        (
            math.sqrt(1 / ((1 + a * a) * n)),
            "the one half is missing: each half of the inputs counts for one half",
            2,
        ),
        (math.sqrt(2 / (1 + a * a)), "that is the gain alone; divide by the root of fan_in", 2),
        (
            math.sqrt(2 / (1 + a * a)) / n,
            "fan_in belongs under the root, too",
            2,
        ),
        (
            math.sqrt(2 / (1 + a * a) * n),
            "it was multiplied by the root of fan_in; brackets are missing around the divisor",
            2,
        ),
        (
            math.sqrt(2 / (1 + a * a * n)),
            "fan_in multiplies the slope's square alone; brackets are missing around 1 + a²",
            2,
        ),
        (
            math.sqrt(2 / n + a * a),
            "the slope's square was added outside the fraction; brackets are missing",
            2,
        ),
        (
            math.sqrt((1 + a * a) / (2 * n)),
            "the share that gets through must stand below the line, not above",
            2,
        ),
        (
            math.sqrt(1 / ((0.5 + a * a) * n)),
            "the one half counts for both terms; it is forgotten in that of the slope",
            2,
        ),
        (
            math.sqrt(1 / (((1 + a * a) / 2 - (1 - a) ** 2 / (2 * math.pi)) * n)),
            "that takes the mean away first, as BN does; here the mean square counts",
            1,
        ),
        (
            math.sqrt(6 / ((1 + a * a) * n)),
            "that is the *bound* of a uniform distribution, not its standard deviation",
            2,
        ),
    ]
    for lost in (abs(a), a * a):
        if 0 < lost < 1:
            known.append((math.sqrt(2 / ((1 - lost) * n)), less, 1))
            known.append((math.sqrt(2 * (1 - lost) / n), less, 1))
    if 0 < abs(a) < 1:
        known.append((math.sqrt(2 / n) * (1 - abs(a)), less, 1))
    return known


@exercise(
    "2.2",
    expects="a function of out_channels, in_channels, height and width",
    right="the shape, mean 0, and the variance 2 / fan_in, for layers and kernels of many sizes.",
)
def conv_weight(attempt):
    """A function: (out, in, height, width) -> weight of that shape with variance 2 / fan_in."""
    for shape in ((3, 2, 1, 4), (1, 1, 1, 1)):
        made = getattr(call(attempt, *shape), "shape", None)
        for wrong, why in (
            ((2, 3, 1, 4), "the input channels come first in yours; the output channels do"),
            ((3, 2, 4, 1), "the width comes before the height in yours; the height goes first"),
            ((3, 8), "yours is a table; a weight has four axes"),
        ):
            expect(made != wrong, f"The weight is (out, in, height, width): {why}.")
        tensor(call(attempt, *shape), shape, f"the weight of {shape}")
    trials, cut = [], []
    for upright in (True, False):
        shape = _clear_shape(upright)
        while trials and 0.7 < math.prod(trials[0][0][1:]) / math.prod(shape[1:]) < 1.4:
            shape = _clear_shape(upright)
        weight = call(attempt, *shape)
        same_shape = isinstance(weight, torch.Tensor) and weight.shape == shape
        expect(same_shape, "For some sizes the shape is not (out, in, height, width).")
        weight = tensor(weight, shape, "the weight")
        expect(weight.var() > 0, "All numbers in the weight are equal: weights must be random.", 2)
        copies = (weight[0] - weight[1]).abs().max() < 1e-9
        expect(not copies, "All output channels got the same kernel; draw one for each.", 2)
        off = weight.mean().abs().item() / weight.std().item()
        expect(
            off < 0.1,
            "The mean of the weight is not 0: none of its numbers is negative."
            if weight.min() >= 0
            else "The mean of the weight is not 0.",
            2,
        )
        largest = weight.abs() == weight.abs().max()
        cut.append(bool(0.01 < largest.double().mean() < 1))
        trials.append((shape, weight.var().item()))
        # of independent numbers, the kernels' means vary less than the numbers by the kernel's size
        means = weight.flatten(2).mean(2).var() / weight.var() * math.prod(shape[2:])
        expect(
            means < 1.5,
            "The numbers inside a kernel are not independent of each other; draw every one.",
            2,
        )
    ((out, inputs, height, width), one), (_, other) = trials
    if abs(one / other - 1) < 0.04 < abs(one - 1):
        larger = call(attempt, 2 * out, 3 * inputs, 2 * height, width + 1)
        expect(
            abs(larger.detach().double().var().item() / one - 1) > 0.04,
            "The variance is not 2 / fan_in: it is the same whatever the sizes are.",
            1,
        )
    fits = []  # a cause is named if it explains both trials, or the one that went wrong
    for shape, variance in trials:
        wanted = 2 / math.prod(shape[1:])
        if abs(variance / wanted - 1) > 0.06:
            known = _wrong_variances(*shape)
            fits.append({why: hint for v, why, hint in known if abs(variance / v - 1) < 0.04})
            shown = wanted, variance, f"the variance of the weight of shape {shape}"
    expect(
        not fits or not all(cut),
        "The variance is not 2 / fan_in: many numbers are just as large as the largest, and "
        "cutting off what is larger takes variance away.",
        2,
    )
    if fits:
        common = [why for why in fits[0] if all(why in fit for fit in fits)]
        if len(common) != 1:
            fallback(*shown)
        raise Mistake(f"The variance is not 2 / fan_in: {common[0]}.", fits[0][common[0]])


def _clear_shape(upright):
    """Sizes for which every known mistake gives another variance."""
    while True:
        out, inputs = random.randint(60, 240), random.randint(20, 120)
        height, width = random.sample(range(2, 8), 2)
        shape = out, inputs, height, width
        enough = 60_000 < math.prod(shape) < 200_000 and (height > width) == upright
        if enough and _apart(2 / (inputs * height * width), _wrong_variances(*shape), 0.14):
            return shape


def _wrong_variances(out, inputs, height, width):
    fan_in = inputs * height * width
    wanted = 2 / fan_in
    return [
        (2 / inputs, "fan_in counts pixels too: channels × height × width", 1),
        (2 / (9 * inputs), "nine pixels were counted, whatever the size of the kernel", 1),
        (2 / (inputs * (height + width)), "height and width multiply, they do not add", 1),
        (1 / (out * height * width), "that is fan_out, and ReLU's 2 is missing", 1),
        (2 / (inputs * width), "the height of the kernel is missing in fan_in", 1),
        (2 / (inputs * height), "the width of the kernel is missing in fan_in", 1),
        (2 / (inputs * height**2), "the kernel is not square: its width is another number", 1),
        (2 / (inputs * width**2), "the kernel is not square: its height is another number", 1),
        (2 / (out * height * width), "that is fan_out: it counts the *output* channels", 1),
        (2 / (height * width), "the input channels are missing in fan_in", 1),
        (wanted / out, "all numbers of the weight were counted, for one unit's inputs", 1),
        (
            4 / (fan_in + out * height * width),
            "that is the mean of fan_in and fan_out, which Glorot and Bengio take",
            1,
        ),
        (
            2 / (fan_in + out * height * width),
            "that is Glorot and Bengio's variance, from both fans and without ReLU's 2",
            1,
        ),
        (wanted**2, "2 / fan_in was used as the standard deviation; it is the variance", 2),
        (math.sqrt(wanted), "the root was taken twice", 2),
        (1 / wanted, "it was divided by the standard deviation, not multiplied", 2),
        (1 / fan_in, "the 2, which makes up for the half that ReLU wipes out, is missing", 2),
        (1 / (3 * fan_in), "that is PyTorch's default", 2),
        (wanted / 3, "a uniform distribution between -s and s has the variance s²/3, not s²", 2),
        (1.0, "`torch.randn` was not scaled", 2),
    ]


@exercise("2.3", expects="a number, the factor you predict", right="you counted what is there.")
def predict_padding(attempt, measured):
    """The factor per layer on 2 x 2 maps, predicted, against the measured one."""
    guess = number(attempt, "the factor", unit="fraction")
    side = "smaller" if measured < guess else "larger"
    facts = f"On 2 × 2 maps the measured factor is {side} than {guess:.3g}"
    expect(guess > 0, f"A ratio of two sizes is positive, got {guess:g}.")
    expect(
        guess < 3,
        f"{facts}. If that is per cent, divide it by 100: a factor was asked for.",
    )
    expect(guess < 1.03, f"{facts}: zeros can only take away from the sum, not add.", 1)
    known = [
        (
            abs(guess - 16 / 81) < 0.006,
            "that is 4 of 9 squared; 4 of 9 is the factor of the mean square already",
            2,
        ),
        (
            abs(guess - 0.5) < 0.006,
            "one half is a share of one axis, or the root of 4 of 16, the padded map's; count the "
            "nine places under the kernel",
            1,
        ),
        (
            abs(guess - 0.23) < 0.006,
            "that is about a quarter of the factor for 8 × 8; it does not shrink with the side",
            1,
        ),
        (guess > 0.97, "it assumes that all nine inputs are there", 1),
        (
            0.885 < guess < 0.937,
            "that is about the value for 8 × 8, but here *every* pixel lies at the edge",
            1,
        ),
        (
            abs(guess - 4 / 9) < 0.02,
            "4 of 9 is the factor of the mean *square*; a factor of root mean squares was asked "
            "for",
            2,
        ),
    ]
    known.append(
        (abs(guess - math.sqrt(2 / 3)) < 0.002, "that is the root of the root mean square", 2)
    )
    known += [
        (abs(guess - inside / 9) < 0.006, f"as a mean square, that is {inside} of nine places", 1)
        for inside in (1, 2, 3, 5, 7, 8)
    ]
    known += [
        (
            abs(guess - math.sqrt(inside / 9)) < 0.006,
            f"as a root mean square, that is {inside} of nine places",
            1,
        )
        for inside in (1, 2, 3, 5, 6, 7, 8)
    ]
    known += [
        (
            abs(guess - math.sqrt(2 / 9)) < 0.006,
            "ReLU's half, which He's 2 made up for already, was counted again",
            2,
        ),
        (
            abs(guess - math.sqrt(8 / 9)) < 0.006,
            "He's 2, which makes up for ReLU's half, was counted again",
            2,
        ),
        (abs(guess - 1 / 3) < 0.006, "the share that is *lost*", 2),
    ]
    fits = [(why, hint) for holds, why, hint in known if holds]
    if fits:  # one number can come from several counts
        why = " or ".join(why for why, _ in fits)
        raise Mistake(f"{facts}: {why}.", fits[0][1])
    if abs(guess - 2 / 3) > 0.04:
        fallback(measured, guess, "the factor", 1)
    lost = (2 / 3) ** 17
    return (
        f"{guess:.3g} predicted, {measured:.3g} measured: four of nine inputs are there. The 17 "
        f"convolutions that read 2 × 2 maps leave (2/3)^17 = {lost:.1g} of a signal."
    )


@exercise(
    "2.4",
    expects="a function of training and test images that returns both",
    right="the training images' mean and standard deviation, one number each, were used for both "
    "parts, whatever the company.",
)
def standardize(attempt):
    """A function: (training images, test images) -> both, with the training mean and std."""
    side, channels = random.randint(6, 10), random.choice((1, 3))
    brightness = torch.rand(200, 1, 1, 1) + 0.2
    shape = (200, channels, side, side)
    level = 3 * torch.arange(channels).reshape(1, -1, 1, 1)
    training = (torch.rand(shape) * 6 + 8 * brightness + level).round()
    training[:, :, :, 0] = 0  # a column that is the same everywhere, as in the digits
    testing = (torch.rand(random.randint(30, 60), *shape[1:]) * 9 + 4 + level).round()
    result = call(attempt, training, testing)
    if isinstance(result, dict):
        result = list(result.values())
    pair = isinstance(result, tuple | list) and len(result) == 2
    kind = type(result).__name__
    expect(pair, f"Expected two tensors, training and test images, got one {kind}.")
    parts = (("training", result[0], training), ("test", result[1], testing))
    for name, got, before in parts:
        finite = not isinstance(got, torch.Tensor) or bool(got.isfinite().all())
        constant = (before.reshape(len(before), -1).std(0) == 0).any()
        why = (
            "a standard deviation of 0 stands where *every* image has the same pixel; take one "
            "number for all pixels"
            if constant
            else "some standard deviation was 0"
        )
        expect(finite, f"Among the {name} images are numbers that are not finite: {why}.", 2)
        expect(isinstance(got, torch.Tensor), f"Expected a tensor for the {name} images.")
        swapped = [part.shape for _, part, _ in parts] == [testing.shape, training.shape]
        expect(not swapped, "The test images came back first: the training images belong there.")
        expect(got.shape == before.shape, f"The {name} images came back in another shape.")
        tensor(got, before.shape, f"the {name} images")
    mean, std = training.double().mean(), training.double().std()
    for name, got, before in parts:
        got, before = got.detach().cpu().double(), before.double()
        wanted = (before - mean) / std
        if close(got, wanted, 2e-3):
            continue
        why = _why_standardized(name, got, before, training.double(), testing.double())
        why = why or _fixed_numbers(attempt, result, training, testing)
        if why is None:
            fallback(wanted, got, f"the {name} images", 1 if name == "test" else 2)
        raise Mistake(f"The {name} images: {why}.", 1 if name == "test" else 2)


def _fixed_numbers(attempt, result, training, testing):
    """Words for an answer that turns each pixel into the same number whatever the images."""
    try:
        again = attempt(training * 2 + 3, testing * 2 + 3)
        same = [
            _table(pixels * 2 + 3, new, pixels, old)
            for pixels, new, old in zip((training, testing), again, result, strict=True)
        ]
    except Exception:
        return None
    return (
        "with other images, the same mean and deviation are used; they must be computed from the "
        "training images that are given"
        if all(same)
        else None
    )


def _table(pixels, numbers, others, other_numbers):
    """Is one straight line behind both pairs of pixels and numbers?"""
    x = torch.cat([pixels.flatten(), others.flatten()]).double()
    y = torch.cat([numbers.flatten(), other_numbers.flatten()]).double()
    slope = ((x - x.mean()) * (y - y.mean())).mean() / x.var(correction=0)
    return close(y.mean() + slope * (x - x.mean()), y, 1e-4)


def _why_standardized(name, got, before, training, testing):
    both, own_name = torch.cat([training, testing]), f"the *{name}* images' own"
    mean, std = training.mean(), training.std()
    one = {"dim": (1, 2, 3), "keepdim": True}
    channel = {"dim": (0, 2, 3), "keepdim": True}
    low, high = training.min(), training.max()
    nudged = training.std(0)
    known = [
        ((before - both.mean()) / both.std(), "training and test images were measured together"),
        ((before / std - mean), "it was divided before the mean was subtracted"),
        (before - mean / std, "only the mean was divided: brackets are missing"),
        ((before - mean) / std**2, "it was divided by the variance instead of its root"),
        ((before - mean) * std, "it was multiplied by the standard deviation, not divided"),
        ((before + mean) / std, "the mean was added, not subtracted"),
        (
            (before - before.mean(**one)) / before.std(**one),
            "every image got its own mean and deviation, so its brightness is lost",
        ),
        (before - mean, "the mean is gone, but nothing was divided by the standard deviation"),
        (before / std, "they were divided, but the mean was not subtracted"),
        ((before - low) / (high - low), "that maps the smallest pixel to 0 and the largest to 1"),
        (before / high, "that only divides by the largest pixel"),
        ((before - training.mean(0)) / std, "each pixel got its own mean; here one is for all"),
        (
            (before - mean) / training.std(0).clamp_min(1e-6),
            "each pixel got its own standard deviation; here one is for all",
        ),
        (
            (before - training[0].mean()) / training[0].std(),
            "mean and deviation are those of the first training image alone",
        ),
        (
            (before - (mean + testing.mean()) / 2) / ((std + testing.std()) / 2),
            "the averages of both parts' means and deviations were taken; the training images' own "
            "are wanted",
        ),
        (
            (before - training.median()) / (training - training.median()).abs().mean(),
            "median and mean distance were taken; mean and standard deviation are wanted",
        ),
        (
            (before - mean) / (training - mean).abs().mean(),
            "it was divided by the mean distance from the mean; the standard deviation is wanted",
        ),
        (
            (before - mean) / training.square().mean().sqrt(),
            "it was divided by the root of the mean square; the standard deviation is taken from "
            "the mean",
        ),
        (
            (before - training.median()) / std,
            "the median was subtracted, and the mean was wanted",
        ),
        (before, "they are unchanged, as if mean 0 and deviation 1 had been taken"),
    ]
    known += [
        (
            (before - training.mean(0)) / divisor,
            "each pixel got its own mean and standard deviation; here one is for all",
        )
        for divisor in (
            nudged.where(nudged > 0, torch.ones_like(nudged)),
            nudged + 1e-8,
            nudged + 1e-6,
            nudged + 1e-5,
            nudged + 1e-3,
            nudged.clamp_min(1e-8),
            nudged.clamp_min(1e-6),
        )
    ]
    if training.shape[1] > 1:
        known.append(
            (
                (before - training.mean(**channel)) / training.std(**channel),
                "each channel got its own mean and standard deviation; here one is for all",
            )
        )
    if name == "test":
        known += [
            ((before - testing.mean()) / testing.std(), f"they got {own_name} statistics"),
            ((before - mean) / testing.std(), f"{own_name} standard deviation was used"),
            ((before - testing.mean()) / std, f"{own_name} mean was subtracted"),
        ]
    else:
        known.append(
            (
                (before - testing.mean()) / testing.std(),
                "they got the *test* images' statistics; it must be the other way round",
            )
        )
    found = [why for wrong, why in known if close(got, wrong, 2e-3)]
    return " or ".join(dict.fromkeys(found[:2])) if found else None


@exercise(
    "2.5",
    expects="a function of a list of gradients and a limit",
    right="it agrees with `clip_grad_norm_` above, at and below the limit, for one gradient and "
    "for several, for gradients of 0 too, and leaves its input alone.",
)
def clip(attempt):
    """A function: (list of gradients, limit) -> list of clipped gradients."""
    for count, limits, norms in (
        (3, (0.8, 1.5), (20, 40)),  # all known mistakes show
        (4, (0.53, 0.62), (0.7, 0.9)),  # of the norm: one tensor alone is above the limit
        (3, (1.5, 4), (0.3, 0.8)),
        (2, (10, 10), (10, 10)),
        (1, (30, 50), (5, 20)),
        (1, (1, 2), (5, 20)),
        (3, (3, 3), (0, 0)),
    ):
        limit, norm, parts = _gradients(count, limits, norms)
        try:
            result = call(attempt, parts, limit)
        except RuntimeError as error:
            sizes = (
                "The gradients have different shapes: flatten each before you put them together."
            )
            expect("to be equal size" not in str(error), sizes, 1)
            raise
        except ZeroDivisionError as error:
            raise Mistake(
                "For gradients that are all 0 it divides by 0; they are within any limit, and stay "
                "as they are.",
                2,
            ) from error
        listed = isinstance(result, tuple | list)
        expect(
            listed and len(result) == len(parts),
            "Expected a list with one tensor for each gradient, got "
            + (f"{len(result)} for {count}." if listed else f"a {type(result).__name__}."),
        )
        expect(
            norm > 0 or not any(isinstance(r, torch.Tensor) and r.isnan().any() for r in result),
            "For gradients that are all 0, NaN came back: 0/0 was computed.",
            2,
        )
        named = zip(result, parts, strict=True)
        got = [tensor(r, p.shape, "a clipped gradient") for r, p in named]
        scale = limit / norm if norm > limit else 1.0
        if all(close(g, scale * p, 1e-3) for g, p in zip(got, parts, strict=True)):
            continue
        said = {True: "above", False: "below"}[norm > limit] if norm != limit else "at"
        said = f"With a norm {said} the limit" if norm else "With gradients of 0"
        why = _why_clip(got, parts, limit, norm)
        if why is None:
            came = torch.cat([g.flatten() for g in got]).norm().item()
            what = f"the norm of all together (limit {limit:.3g})"
            if abs(came / max(scale * norm, 1e-9) - 1) < 1e-2:
                worst = max(range(count), key=lambda i: (got[i] - scale * parts[i]).abs().max())
                fallback((scale * parts[worst]).double(), got[worst], f"gradient {worst}", 1)
            fallback(scale * norm, came, what, 1)
        raise Mistake(f"{said}, {why}.", 1 if norm > limit else 2)


def _gradients(count, limits, norms):
    """A limit, a norm, and gradients of several shapes that have it together."""
    while True:
        limit, norm = random.uniform(*limits), random.uniform(*norms)
        limit *= norm if count == 4 else 1
        shapes = random.sample([(7, 3), (7,), (4, 2, 3, 3), (2, 5, 1)], count)
        parts = []
        for shape, size in zip(shapes, (1.0, 1.9, 1.4, 1.2), strict=False):
            part = torch.randn(shape).sign() * (0.5 + torch.rand(shape))
            parts.append(part / part.norm() * size)
        total = math.sqrt(sum(part.square().sum().item() for part in parts))
        parts = [part * (norm / total) for part in parts]
        known = [(value, why, 1) for value, why in _known_factors(parts, limit, norm)]
        if norm <= limit or count < 3 or _apart(limit / norm, known, 0.005):
            return limit, norm, parts


def _why_clip(got, parts, limit, norm):
    norms = [part.norm().item() for part in parts]
    flat = torch.cat([g.flatten() for g in got])
    if not norm:
        return None
    if not flat.any():
        return "all gradients became 0"
    factors = _common_factors(got, parts)
    if norm <= limit:
        if factors and max(factors) / min(factors) < 1.01 and factors[0] > 1.001:
            return (
                "nothing should change, but the gradients were scaled *up*: clipping only ever "
                "makes them smaller"
            )
        known = [(norm / limit, "it was multiplied by norm / limit, and should not change")]
        if factors and max(factors) / min(factors) < 1.01:
            return _named_factor(factors[0], known)
        return None
    if len(parts) > 1:
        own = [min(1.0, limit / n) for n in norms]
        if factors and all(abs(f / o - 1) < 5e-3 for f, o in zip(factors, own, strict=True)):
            return (
                "each tensor was clipped by its *own* norm, which turns the gradient in another "
                "direction; one scale is for all"
            )
        above = [limit / norm if n > limit else 1.0 for n in norms]
        if factors and all(abs(f / o - 1) < 5e-3 for f, o in zip(factors, above, strict=True)):
            return (
                "only the tensors whose own norm is above the limit were scaled; one scale is for "
                "all"
            )
        kept = [min(1.0, limit / n / math.sqrt(len(parts))) for n in norms]
        if factors and all(abs(f / o - 1) < 5e-3 for f, o in zip(factors, kept, strict=True)):
            return "each tensor got an equal share of the limit; one scale is for all"
    cut = [part.double().clamp(-limit, limit) for part in parts]
    if all(close(g, c, 1e-4) for g, c in zip(got, cut, strict=True)) and not factors:
        return "each *number* was cut off at the limit, which changes the gradient's direction"
    if not factors or max(factors) / min(factors) > 1.01:
        return None
    return _named_factor(factors[0], _known_factors(parts, limit, norm))


def _known_factors(parts, limit, norm):
    if not norm:
        return []
    norms = [part.norm().item() for part in parts]
    squares = sum(part.square().mean().item() for part in parts)
    spectral = [
        torch.linalg.matrix_norm(part, 2).item() if part.dim() == 2 else part.norm().item()
        for part in parts
    ]
    known = [(1 / limit, "it was divided by the limit; the scale is limit / norm")]
    if any(part.dim() == 2 for part in parts):
        words = "a matrix's largest singular value was taken; all its numbers' squares count"
        known.append((limit / math.hypot(*spectral), words))
    known += [
        (limit / math.sqrt(squares), "squares were averaged in each tensor; they add up"),
        (1.0, "the gradients came back as they were, above the limit"),
        (limit / sum(norms), "the norms were added up; squares add up, then comes the root"),
        (limit / max(norms), "the largest tensor's norm was taken, not that of all together"),
        (limit / norms[0], "the first tensor's norm was taken, not that of all together"),
        (limit / norms[-1], "the last tensor's norm was taken, not that of all together"),
        (limit * len(norms) / sum(norms), "the mean of the norms was taken"),
        (limit / norm**2, "the root of the sum of squares is missing"),
        (
            limit / sum(part.abs().sum().item() for part in parts),
            "absolute values were added up; squares add up, then comes the root",
        ),
        (
            limit / max(part.abs().max().item() for part in parts),
            "the largest *number* was taken for the norm",
        ),
        (
            limit / norm * math.sqrt(sum(p.numel() for p in parts)),
            "that is the root of the *mean* square; the norm is the root of the sum",
        ),
        (1 / norm, "the norm became 1 instead of the limit"),
        (norm / limit, "it was multiplied by norm / limit, the wrong way round"),
        (limit, "it was multiplied by the limit, without dividing by the norm"),
    ]
    return known


def _named_factor(factor, known):
    found = [why for value, why in known if abs(factor / value - 1) < 2e-3]
    return " or ".join(dict.fromkeys(found[:2])) if found else None


def _common_factors(got, parts):
    """For each tensor the number it was multiplied by; an empty list if it was not one number."""
    factors = []
    for g, p in zip(got, parts, strict=True):
        p = p.double()
        if not p.any():
            return []
        factor = ((g * p).sum() / p.square().sum()).item()
        if not bool(((g - factor * p).abs() <= 1e-3 * g.abs().max() + 1e-12).all()):
            return []
        factors.append(factor)
    return factors if all(f > 0 for f in factors) else []


ACTIVATIONS = {
    "a leaky ReLU with slope 0.2": lambda y: F.leaky_relu(y, 0.2),
    "ReLU": torch.relu,
    "the identity": lambda y: 1.0 * y,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "the absolute value": torch.abs,
}


def _sample(activation, count=200_000):
    y = torch.randn(count, dtype=torch.double, requires_grad=True)
    x = activation(y)
    (slope,) = torch.autograd.grad(x.sum(), y)
    return x.detach().float(), slope.float()


def _exact_growth(activation):
    """The factor from evenly spaced quantiles of the normal distribution: no chance in it."""
    places = (torch.arange(100_000, dtype=torch.double) + 0.5) / 100_000
    y = (math.sqrt(2) * torch.erfinv(2 * places - 1)).requires_grad_()
    x = activation(y)
    (slope,) = torch.autograd.grad(x.sum(), y)
    return math.sqrt(slope.square().mean().item() / x.var().item())


def _bent(y, low, high, shift):
    """A kinked line that is nobody's name: slopes `low` and `high`, moved up by `shift`."""
    return F.relu(y) * high - F.relu(-y) * low + shift


def _clear_sample():
    """Outputs and slopes of a kinked line for which every known mistake gives another number."""
    while True:
        low, high = random.uniform(0.2, 0.4), random.uniform(1.2, 2.5)
        line = partial(_bent, low=low, high=high, shift=-random.uniform(1.2, 2.2))
        for count in (4_000, 50_000):  # few are enough to see that most lines will not do
            x, slope = _sample(line, count)
            wanted = math.sqrt(slope.square().mean().item() / x.var().item())
            if not _apart(wanted, _wrong_growth(x, slope, wanted), 6e-3):
                break
        else:
            return x, slope


@exercise(
    "2.6",
    expects="a function of x and slope",
    right="your factor agrees with theory.",
    times=2,
)
def growth(attempt):
    """A function: (outputs, slopes at random places) -> gradient's factor per layer with BN."""
    first = _clear_sample()
    for name in ("a kinked line", *ACTIVATIONS):
        drawn = name in ACTIVATIONS
        count = random.randint(50_000, 100_000)
        x, slope = _sample(ACTIVATIONS[name], count) if drawn else first
        got = number(call(attempt, x, slope), f"the factor of {name}")
        wanted = math.sqrt(slope.square().mean().item() / x.var().item())
        if abs(got / wanted - 1) > 0.004:
            expect(
                not _paired(attempt, got, x, slope),
                "The factor is not always the wanted one: with the slopes in another order "
                "another comes; take the mean of each by itself, then divide.",
                1,
            )
            why = _near(got, _wrong_growth(x, slope, wanted), 0.002)
            if why is None:
                expect(
                    not _same_for_other(attempt, got, x, slope),
                    "The factor does not depend on `x`: outputs twice as large give the same, but "
                    "BN divides by their standard deviation.",
                    1,
                )
                fallback(wanted, got, f"the factor of {name}", 1)
            raise Mistake(f"The factor of {name} is not the wanted one: {why[0]}.", why[1])
    found = {name: _exact_growth(activation) for name, activation in ACTIVATIONS.items()}
    named = sorted(ACTIVATIONS, key=found.get)
    listed = ", ".join(f"{name} {found[name]:.2f}" for name in named)
    return f"from the calmest to the wildest: {listed}. None is below 1."


def _paired(attempt, got, x, slope):
    """Does the answer change if the slopes are put in another order?"""
    try:
        again = float(attempt(x, slope[torch.randperm(len(slope))]))
    except Exception:
        return False
    return abs(again / got - 1) > 1e-4


def _same_for_other(attempt, got, x, slope):
    """Does the answer stay the same with outputs twice as large?"""
    try:
        return abs(float(attempt(2 * x, slope)) / got - 1) < 1e-6
    except Exception:
        return False


def _wrong_growth(x, slope, wanted):
    square, mean = slope.square().mean().item(), slope.mean().item()
    variance, mean_square = x.var().item(), x.square().mean().item()
    size = slope.abs().mean().item()
    positive = x[x > 0]
    variance_of_positive = positive.var().item() if len(positive) > 9 else math.inf
    return [
        (wanted**2, "that is the factor of the *squared* norm; the root is missing", 2),
        (
            math.sqrt(square / mean_square),
            "that divides by the mean of x², but BN takes the mean of x away first",
            1,
        ),
        (
            square / mean_square,
            "that divides by the mean of x², but BN takes the mean of x away first; and the root "
            "is missing",
            1,
        ),
        (1 / wanted, "that is the inverse: the slope multiplies, BN divides", 1),
        (1 / wanted**2, "that is the inverse, and without the root", 1),
        (mean / x.std().item(), "the slopes must be squared before their mean", 2),
        (size / x.std().item(), "the slopes must be squared before their mean", 2),
        (mean**2 / variance, "the slopes must be squared before their mean, and a root taken", 2),
        (
            slope.std().item() / x.std().item(),
            "the mean of the squared slopes is needed, nothing subtracted from it",
            2,
        ),
        (
            slope.var().item() / variance,
            "the mean of the squared slopes is needed, nothing subtracted from it",
            2,
        ),
        (math.sqrt(square), "that is the slope alone; BN's division is missing", 1),
        (square, "that is the squared slope alone; BN's division is missing", 1),
        (1 / x.std().item(), "that is BN's division alone: the slope's size does not enter", 1),
        (1 / variance, "that is BN's division alone, squared: the slope's size is missing", 1),
        (
            math.sqrt(square / variance_of_positive),
            "the variance of the positive outputs alone was taken; all outputs count",
            1,
        ),
        (
            math.sqrt(square / (mean_square - x.mean().item()))
            if mean_square > x.mean().item()
            else 0,
            "a variance is the mean square minus the *square* of the mean",
            1,
        ),
        (slope.max().item() / x.std().item(), "that is the largest slope; the mean counts", 2),
        (
            slope.max().item() / variance,
            "that is the largest slope; the root of the mean square counts",
            2,
        ),
        (
            math.sqrt(square / x.std().item()),
            "under the root belongs the variance of x, not its standard deviation",
            2,
        ),
        (square / x.std().item(), "the slopes are squared, but no root is taken of them", 2),
        (math.sqrt(square) / variance, "divide by the standard deviation of x", 2),
        (math.sqrt(0.5 / variance), "the one half is ReLU's own: a mean that differs here", 2),
        (0.5 / variance, "the one half is ReLU's own: a mean that differs here", 2),
        (math.sqrt(square * variance), "BN divides by the deviation of x, you multiplied", 1),
        (math.sqrt(square * x.numel() / variance), "a sum stands where a mean is needed", 2),
        (math.sqrt(math.pi / (math.pi - 1)), "that is ReLU's factor for every function", 1),
        (
            math.sqrt(mean / variance) if mean > 0 else 0,
            "the slopes must be squared before their mean",
            2,
        ),
    ]


QUIZ = [
    Question(
        "In a sigmoid network with 20 layers, PyTorch's default weights and no BN, all activations "
        "are near 0.5, in every layer. Is the signal lost?",
        [
            (
                "No: the activations neither vanish nor explode.",
                "Their *size* does not. But what differs between the images has vanished.",
            ),
            (
                "Yes: each unit says the same for every image.",
                "A signal is what differs. Here a constant goes through the network.",
            ),
            (
                "Yes: activations have to be larger than 1 to get through.",
                "Their size alone says little; their differences carry the information.",
            ),
        ],
        right=1,
    ),
    Question(
        "A plain network has BN after every layer but the last. You multiply the weights of all "
        "layers that have a BN by 10. What happens, before any update?",
        [
            (
                "The signal grows tenfold in every layer, up to the outputs.",
                "BN divides by the size of what it gets, and that has become tenfold too.",
            ),
            (
                "The outputs stay the same, and so do these weights' gradients.",
                "The outputs do. But the same small change of a larger weight now matters less.",
            ),
            (
                "The outputs stay the same, these weights' gradients become a tenth.",
                "BN cancels the 10. A small change of a weight that is 10 times larger matters a "
                "tenth as much. This chapter measures it.",
            ),
        ],
        right=2,
    ),
    Question(
        "Fifty layers with BN and ReLU stay at guessing. With a slope of 0.5 for negative values, "
        "and nothing else changed, they learn. What does this experiment show?",
        [
            (
                "The slope decides here. By which of its effects, it does not say.",
                "One thing was changed, and it changes the gradients and the forward signal.",
            ),
            (
                "The growing gradients were what kept these networks from learning.",
                "It fits. But the slope changes how the signal is spread over the images, too, and "
                "softplus, with a factor near tanh's, does not learn.",
            ),
            (
                "With the right activation function, deep networks need no shortcuts.",
                "The experiment has 40 updates, linear layers and digits: far from all deep "
                "networks.",
            ),
        ],
        right=0,
    ),
    Question(
        "Raw pixels instead of standardized ones, in a deep ReLU network with He initialization. "
        "What changes in the profile of the signal?",
        [
            (
                "Its slope: each layer now multiplies by more than it did.",
                "The factor comes from the layers' weights and slopes, not from the input.",
            ),
            (
                "Its start, and so the whole line, by about one factor.",
                "Parallel lines. What standardizing sets is the beginning.",
            ),
            (
                "Nothing: He initialization adapts to the input's range.",
                "It is drawn without looking at any image.",
            ),
        ],
        right=1,
    ),
    Question(
        "Twenty linear layers with ReLU and far too small weights: on its way back, the gradient "
        "is multiplied by 0.08 in each layer. You put BN before every ReLU. What does the gradient "
        "do now, before any update?",
        [
            (
                "It vanishes as before: BN acts on the forward signal only.",
                "BN divides small signals by their small size. The gradient comes back through the "
                "same division, which makes up for the small weights.",
            ),
            (
                "It is level: BN sets the factor of every layer to 1.",
                "It sets the *signal's* variance to 1. Nothing does the same for the gradient; its "
                "factor comes out above 1.",
            ),
            (
                "It vanishes no longer: it grows, by 1.2 in each layer.",
                "The weights' size cancels. What remains is ReLU's own factor, "
                "whatever the weights' size.",
            ),
        ],
        right=2,
    ),
]
