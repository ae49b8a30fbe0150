"""Chapter 01, convolutions and feature maps: checks and quiz."""

import itertools
import random
from functools import partial

import numpy
import torch
from torch import nn
from torch.nn import functional as F

from resnet_course.teaching.check import (
    Mistake,
    call,
    close,
    exercise,
    expect,
    fallback,
    number,
    row,
    show,
    tensor,
)
from resnet_course.teaching.quiz import Question


def _call(attempt, *arguments, sentence, hint):
    """`call`, with this sentence (or what the function gives) where PyTorch complains of shapes."""
    try:
        return call(attempt, *arguments)
    except (RuntimeError, IndexError) as error:
        said = str(error)
        expect(
            not said.startswith("view"),
            "`view` stopped, which needs numbers that lie one after the other in memory; after a "
            "`permute` or `transpose` they do not, and `reshape` copies them.",
            hint,
        )
        if any(word in said for word in ("size", "shape", "broadcast")):
            raise Mistake(sentence() if callable(sentence) else sentence, hint) from None
        raise


def _tried(attempt, *arguments):
    """What an answer gives for other arguments, to find out what is wrong with it, or None."""
    try:
        got = attempt(*arguments)
    except Exception:
        return None
    return got if isinstance(got, torch.Tensor) and not got.is_complex() else None


def _is(got, wanted):
    return got is not None and got.shape == wanted.shape and close(got, wanted)


def _different(values):
    """Is none of them another one? So a wrong answer tells which mistake it is."""
    return all(a != b for a, b in itertools.combinations(values, 2))


def _said(why):
    """The words of the known mistakes that fit, of two at most; None if there are others."""
    why = list(dict.fromkeys(why))
    return " or ".join(why) if 0 < len(why) < 3 else None


@exercise(
    "1.1",
    expects="a function of image, weight, stride and padding",
    right="it agrees with `F.conv2d` for kernels of 1 to 5, strides 1 to 3, with and without "
    "padding, for one channel and for several.",
)
def shifted_images(attempt):
    """A function: x (N, C_in, H, W), weight (C_out, C_in, k, k), stride, padding -> maps."""
    for kernels, stride, padding, channels in (
        ((3,), random.choice((2, 3)), random.choice((1, 2)), True),  # every mistake shows
        ((4, 5), random.choice((2, 3)), random.randint(0, 3), True),
        ((2, 3), 1, random.randint(0, 1), True),
        ((1,), random.randint(1, 3), 0, True),
        ((3,), 2, 1, False),
    ):
        k = random.choice(kernels)
        c_in, c_out = random.sample(range(2, 6), 2) if channels else (1, 1)
        height, width = _clear_sides(k, stride, padding)
        x = torch.randn(random.randint(2, 4), c_in, height, width)
        weight = torch.randn(c_out, c_in, k, k)
        wanted = F.conv2d(x, weight, stride=stride, padding=padding)
        what = f"kernel {k}, stride {stride}, padding {padding}"
        sentence = partial(_why_shapes, attempt, k, stride, padding)
        got = _call(attempt, x, weight, stride, padding, sentence=sentence, hint=2)
        kind = type(got).__name__
        expect(isinstance(got, torch.Tensor), f"Expected a tensor of maps, got a {kind}.")
        if got.shape != wanted.shape:
            shapes = _wrong_shapes(height, width, k, stride, padding)
            why = _said(why for sides, why in shapes if got.shape == (*wanted.shape[:2], *sides))
            raise Mistake(
                "The result has another shape than `F.conv2d` gives"
                + (f": {why}." if why else "; it is (N, C_out, rows, columns), by the size rule."),
                named=why is not None,
            )
        got = tensor(got, wanted.shape, what)
        if not close(got, wanted):
            why = _why_not_conv(got, x, weight, stride, padding)
            if why is None:
                fallback(wanted, got, f"the maps for {what}", 2)
            raise Mistake(f"The numbers are not those of `F.conv2d`: {why}.", 2)


def _clear_sides(k, stride, padding):
    """Sides of an image for which every known mistake with the size gives another one."""
    while True:
        height, width = random.sample(range(12, 20), 2)
        right = [(n + 2 * padding - k) // stride + 1 for n in (height, width)]
        known = [sides for sides, _ in _wrong_shapes(height, width, k, stride, padding)]
        if _different([tuple(right), *known]):
            return height, width


def _wrong_shapes(height, width, k, stride, padding):
    """Rows and columns that come out by the typical mistakes, each with its own words."""

    def sides(rows_added, columns_added, step=stride):
        added = (height, rows_added), (width, columns_added)
        return tuple((n + more - k) // step + 1 for n, more in added)

    known = []
    if padding:
        known += [
            (sides(0, 0), "the padding is missing"),
            (sides(0, 2 * padding), "only columns were added; the padding lies on all four sides"),
            (sides(2 * padding, 0), "only rows were added; the padding lies on all four sides"),
        ]
    if stride > 1:
        known.append((sides(2 * padding, 2 * padding, 1), "the stride is missing in it"))
    return known


def _why_shapes(attempt, k, stride, padding):
    """What is wrong where the shapes do not fit, from cases in which they might."""

    def given(channels, height, width):
        c_out, c_in = channels
        return torch.randn(2, c_in, height, width), torch.randn(c_out, c_in, k, k)

    x, weight = given((3, 3), 13, 16)
    turned = F.conv2d(x, weight.transpose(0, 1), stride=stride, padding=padding)
    why = "`y`, and what each weight adds to it, must have the shape (N, C_out, rows, columns)"
    if _is(_tried(attempt, x, weight, stride, padding), turned):
        why = "`weight[:, :, i, j]` was transposed; its rows are the *output* channels"
    x, weight = given((4, 2), 15, 15)
    right = F.conv2d(x, weight, stride=stride, padding=padding)
    if _is(_tried(attempt, x, weight, stride, padding), right):
        why = "square images come out right; rows and columns have their own numbers"
    x, weight = given((4, 2), 13, 16)
    right = F.conv2d(x, weight, padding=padding)
    if stride > 1 and _is(_tried(attempt, x, weight, 1, padding), right):
        why = (
            "with stride 1 it comes out right; every `stride`-th row is taken, `rows` of them, so "
            "a slice reaches up to i + stride * rows"
        )
    return f"The shapes do not fit: {why}."


def _why_not_conv(got, x, weight, stride, padding):
    def conv(kernel, image=x):
        return F.conv2d(image, kernel, stride=stride, padding=padding)

    def only(rows, columns):
        kernel = torch.zeros_like(weight)
        kernel[:, :, rows, columns] = weight[:, :, rows, columns]
        return conv(kernel)

    k = weight.shape[-1]
    padded, (rows, columns) = F.pad(x, [padding] * 4), got.shape[2:]
    right, reach = conv(weight), max(rows, columns) * stride
    early = torch.zeros_like(right)
    early[:, :, : -(-rows // stride), : -(-columns // stride)] = 1
    larger = F.pad(padded, [0, reach + k * stride] * 2)
    spread = F.conv2d(larger, weight, stride=stride, dilation=stride)[:, :, :rows, :columns]
    corner = torch.zeros_like(weight)
    corner[:, :, 0, 0] = weight.sum((2, 3))
    dense = F.conv2d(padded, weight)[:, :, :rows, :columns]
    crossed = conv(weight.sum(1, keepdim=True) / weight.shape[1], x.sum(1, keepdim=True))
    moved = F.conv2d(F.pad(padded[:, :, 1:, 1:], [0, 1, 0, 1]), weight, stride=stride)
    known = [
        (torch.zeros_like(got), "they are all 0, nothing was added to `y`"),
        (
            conv(weight.flip(2, 3)),
            "weight and picture run in opposite directions, as if the kernel were turned by 180 "
            "degrees; PyTorch does not turn it",
        ),
        (
            conv(weight.transpose(2, 3)),
            "rows and columns are exchanged; i counts rows and j columns, in kernel and picture",
        ),
        (
            only(-1, -1),
            "only the last weight is left, as if `y` were overwritten instead of added to",
        ),
        (only(0, 0), "only the first weight was used, as if the function returned in the loop"),
        (
            only(0, slice(None)),
            "only the kernel's first row was used, as if the function returned in the loop",
        ),
        (conv(corner), "all weights read the same picture; it must start at row i and column j"),
        (dense, "the stride does not thin out the picture; a slice has a third number"),
        (conv(weight) / k**2, "it is the mean over the kernel's places, and a sum is wanted"),
        (
            conv(weight) / weight.shape[1],
            "it is the mean over the input channels, and a sum is wanted",
        ),
        (crossed, "every channel got the same weight; channels have their own weights"),
        (
            crossed * weight.shape[1],
            "every channel got the same weight, their sum; channels have their own weights",
        ),
        (
            spread,
            "the picture for row i starts at i * stride; it starts at i, and only its steps are "
            "`stride` long",
        ),
        (
            right * early,
            "only the first rows and columns of `y` were filled; a slice must reach up to "
            "i + stride * rows",
        ),
        (conv(weight, x[:1].expand_as(x)), "every image got the share of the first one"),
        (only(slice(-1), slice(None)) if k > 1 else None, "the kernel's last row was left out"),
        (only(slice(None), slice(-1)) if k > 1 else None, "the kernel's last column was left out"),
        (
            only(slice(-1), slice(-1)) if k > 1 else None,
            "the kernel's last row and column were left out",
        ),
        (
            only(slice(1, None), slice(1, None)) if k > 1 else None,
            "the kernel's first row and column were left out",
        ),
        (
            conv(weight[:, :1], x[:, :1]),
            "only the first input channel was used; all of them add up",
        ),
        (moved, "every picture starts one row and one column too late"),
        (
            conv(weight.abs()),
            "the weights lost their signs",
        ),
    ]
    if padding:
        known += [
            (
                F.conv2d(F.pad(x, [padding] * 4, mode=mode), weight, stride=stride),
                "the border was filled with copies of pixels; the padding is zeros",
            )
            for mode in ("replicate", "reflect", "circular")
        ]
    return _said(why for value, why in known if value is not None and close(got, value))


@exercise(
    "1.2",
    expects="a function of output size, kernel, stride and padding",
    right="for many layers your list held every size that PyTorch turns into the wanted one, and "
    "no other. There are as many as the stride, where none is below 1.",
)
def input_sizes(attempt):
    """A function: (out, kernel, stride, padding) -> list of all input sizes."""
    for strides in ((4, 8), (4, 8), (1, 1), (2, 2), (3, 3)):
        while True:
            k, s, p = random.randint(2, 15), random.randint(*strides), random.randint(1, 6)
            out = random.randint(6, 40)
            smallest = (out - 1) * s + k - 2 * p
            wanted = list(range(smallest, smallest + s))
            known = _wrong_sizes(out, k, s, p)
            clear = s < 4 or _different([wanted, *(sizes for sizes, *_ in known)])
            if 2 * p <= k + 1 and smallest >= k and clear:
                break
        _judge_sizes(attempt, out, k, s, p, known)
    k = random.randint(2, 7)  # and no padding, and an output of 1
    _judge_sizes(attempt, random.randint(2, 9), k, 3, 0, _wrong_sizes(5, k, 3, 0)[:0])
    _judge_sizes(attempt, 1, k, random.randint(1, 4), 0, [])
    k = random.randint(3, 7)  # and images smaller than the kernel, which fit with the padding
    p = random.randint(1, (k - 1) // 2)
    s = 2 * p + random.randint(1, 2)
    small = "those smaller than the kernel are missing; with the padding they fit"
    known = [([n for n in range(k - 2 * p, k - 2 * p + s) if n >= k], small, 1)]
    _judge_sizes(attempt, 1, k, s, p, known)


def _judge_sizes(attempt, out, k, s, p, known):
    layer = f"kernel {k}, stride {s}, padding {p} and output {out}"
    got = _whole_numbers(call(attempt, out, k, s, p))
    smallest = (out - 1) * s + k - 2 * p
    wanted = set(range(smallest, smallest + s))
    if set(got) != wanted:
        why = _said(why for sizes, why, _ in known if set(sizes) == set(got))
        hint = next((hint for sizes, _, hint in known if set(sizes) == set(got)), 1)
        if why is None and set(got) < wanted and _right_if_small(attempt):
            why, hint = "small images are all there, larger ones are not; look further", None
        expect(len(got) > 0 or why, "The list is empty, but some images fit.")
        if why is None and out == 1 and set(got) > wanted and max(got) == max(wanted):
            why, hint = "on the smallest of them the kernel does not fit, not even once", 1
        if why is None:
            fallback(_span(wanted), _span(got), layer, hint)
        raise Mistake(f"The list is not the wanted one: {why}.", hint)
    expect(len(got) == len(wanted), "A size stands in the list more than once.")


def _right_if_small(attempt):
    """Is the answer right for images of 9 to 12 pixels?"""
    try:
        return all(
            sorted(map(int, attempt(*layer))) == sizes
            for *layer, sizes in ((5, 3, 2, 1, [9, 10]), (4, 3, 3, 1, [10, 11, 12]))
        )
    except Exception:
        return False


def _span(sizes):
    if len(set(sizes)) == 1:
        return Text(f"one size, {min(sizes)}")
    return Text(f"{len(set(sizes))} sizes between {min(sizes)} and {max(sizes)}")


class Text(str):
    """A text that stands in a sentence without quotes."""

    __repr__ = str.__str__


def _wrong_sizes(out, k, s, p):
    """The typical mistakes, each with its own words."""
    smallest = (out - 1) * s + k - 2 * p
    wanted = range(smallest, smallest + s)
    other_way = "it begins with the output *for* an input of this size; go the other way"
    both_sides = "the padding lies on both sides, so it must be subtracted twice"
    known = [
        ([smallest], "the smallest size is right; a few pixels more give the same output", 2),
        ([wanted[-1]], "that is the largest size alone; smaller ones give the same output", 2),
        ([smallest + s], "that size gives one more; the last pixel before it is the largest", 2),
        (wanted[:-1], "the largest is missing; `range` stops *before* its end", 2),
        (wanted[1:], "the smallest is missing, the one with nothing left over", 1),
        (
            range(smallest, smallest + s + 1),
            "the largest is one too many: there another step fits",
            2,
        ),
        (
            range(smallest, smallest + 2),
            "two sizes are not all; as many pixels can be added as leave no room for a step",
            2,
        ),
        (
            range(smallest - s + 1, smallest + 1),
            "pixels were taken away from the smallest size; they can only be added",
            2,
        ),
        ([n + 1 for n in wanted], "all are one too large", 1),
        ([n - 1 for n in wanted], "all are one too small", 1),
        (
            [smallest, wanted[-1]],
            "those are the smallest and the largest; all sizes between them fit, too",
            2,
        ),
        (
            range(smallest, smallest + k),
            "as many sizes as the kernel has pixels; how many fit depends on the step",
            2,
        ),
        (
            range(smallest, smallest + s * s),
            "as many as the stride squared; a side has one direction only",
            2,
        ),
        (
            range((out - 1) * 2 + k - 2 * p, out * 2 + k - 2 * p),
            "the stride was taken as 2, whatever it is",
            1,
        ),
        ([s], "that is how many there are; the sizes themselves were asked for", 2),
        ([(out + 2 * p - k) // s + 1], other_way, 1),
        (range((out + 2 * p - k) // s + 1, (out + 2 * p - k) // s + 1 + s), other_way, 1),
        ([n + p for n in wanted], both_sides, 1),
        ([smallest + p], both_sides, 1),
        ([n + 2 * p for n in wanted], "the padding was not subtracted; it enlarges the image", 1),
        ([n + 4 * p for n in wanted], "the padding was added; it must be subtracted", 1),
        ([n + 3 * p for n in wanted], "the padding was added; it must be subtracted, twice", 1),
        ([n + s for n in wanted], "the first output pixel needs no step, so out - 1 steps", 1),
        ([n - k for n in wanted], "the kernel's own size is missing", 1),
        (
            [n - k + s for n in wanted],
            "the kernel's own size is missing, and the first output pixel needs no step",
            1,
        ),
        (
            [n - k + 2 * p + 1 for n in wanted],
            "neither the kernel nor the padding was counted",
            1,
        ),
    ]
    return [(list(sizes), why, hint) for sizes, why, hint in known]


def _whole_numbers(value):
    if isinstance(value, torch.Tensor | numpy.ndarray):
        value = value.reshape(-1).tolist()
    if isinstance(value, int | float | numpy.generic) and not isinstance(value, bool):
        value = [value]
    good = isinstance(value, list | tuple | set | frozenset | range)
    expect(good, f"Expected a list of sizes, got {show(value)}.")
    found = [number(entry, "each size") for entry in value]
    for entry in found:
        expect(entry == int(entry), "Expected whole numbers of pixels; not all of yours are whole.")
    return [int(entry) for entry in found]


@exercise(
    "1.3",
    expects="a function of a convolution, height and width",
    right="both numbers agree with PyTorch's own counts for many layers, with and without bias, "
    "stride, padding and groups.",
    times=2,
)
def convolution_bill(attempt):
    """A function: (nn.Conv2d, height, width) -> (parameters, multiply-adds)."""
    shown = nn.Conv2d(4, 10, 3, stride=2, padding=3), 17, 24
    for number_of_layer, (bias, groups, strides, paddings) in enumerate(
        (
            (True, False, (2, 4), (1, 3)),
            (True, False, (2, 4), (1, 3)),
            (False, False, (2, 4), (1, 3)),
            (False, True, (2, 4), (1, 3)),
            (True, True, (1, 1), (0, 1)),
            (True, False, (1, 2), (0, 0)),
            (False, None, (2, 2), (1, 1)),  # one group for each channel
        )
    ):
        layer = _layer(bias, groups, strides, paddings) if number_of_layer else shown
        conv, height, width = layer
        try:
            got = call(attempt, conv, height, width)
        except RuntimeError as error:
            sentence = "A bias is a tensor, neither true nor false: ask `conv.bias is None`."
            expect("Boolean value of Tensor" not in str(error), sentence, 1)
            raise
        names = "the parameters", "the multiply-adds"
        parameters, work = row(got, 2, "parameters and multiply-adds", names=names)
        wanted, known = _parameters(conv)
        busy, wrong_work = _work(conv, height, width)
        swapped = (parameters, work) == (busy, wanted)
        expect(not swapped, "The two numbers are exchanged: parameters come first.")
        _judge_count(parameters, wanted, known, "parameters", _named(conv))
        facts = f"{_named(conv)}, on {height} × {width} pixels"
        _judge_count(work, busy, wrong_work, "multiply-adds", facts)


def _layer(bias, groups, strides, paddings):
    """A convolution and an image for which every known mistake gives another number."""
    while True:
        k, s, p = (
            random.choice((2, 3, 4, 5, 7)),
            random.randint(*strides),
            random.randint(*paddings),
        )
        g = 1 if groups is False else random.choice((3, 4, 5))
        c_in, c_out = (g * n for n in random.sample(range(3, 12), 2))
        if groups is None:
            c_in = c_out = g = random.randint(6, 24)
        conv = nn.Conv2d(c_in, c_out, k, stride=s, padding=p, groups=g, bias=bias)
        if groups is None:
            return conv, *random.sample(range(11, 30), 2)
        for _ in range(40 if _clear(*_parameters(conv)) else 0):
            height, width = random.sample(range(11, 30), 2)
            if _clear(*_work(conv, height, width)):
                return conv, height, width


def _clear(wanted, known):
    """Of two known mistakes with the same number, only such as have the same words."""
    words = {wanted: None}
    pairs = [(value, why) for value, why, applies in known if applies]
    return all(words.setdefault(value, why) == why for value, why in pairs)


def _named(conv):
    parts = [f"{conv.in_channels} to {conv.out_channels} channels", f"kernel {conv.kernel_size[0]}"]
    parts += [f"stride {conv.stride[0]}", f"padding {conv.padding[0]}", f"groups {conv.groups}"]
    return ", ".join(parts) + (", no bias" if conv.bias is None else ", with bias")


def _judge_count(got, wanted, known, what, facts):
    why = _said(why for value, why, shows in known if shows and abs(value - got) < 1e-6)
    if got != wanted and why is None:
        fallback(wanted, got, f"the {what} of a convolution ({facts})", 2)
    expect(got == wanted, f"The number of {what} is not right: {why}.", 2)


def _parameters(conv):
    """The right number, and (wrong number, words, does it show in this layer?)."""
    weights, c_out, k = conv.weight.numel(), conv.out_channels, conv.kernel_size[0]
    groups, biased = conv.groups, conv.bias is not None
    biases = c_out if biased else 0
    split = groups > 1
    return weights + biases, [
        (weights, "the bias is missing, one number for each output channel", biased),
        (weights + c_out, "this layer has no bias; `conv.bias` is None", not biased),
        (
            weights * groups + biases,
            "each kernel reads only its own group's input channels",
            split,
        ),
        (weights * groups, "groups and bias are both missing", split and biased),
        (
            weights // groups + biases,
            "divide by the groups once; all output channels have kernels",
            split,
        ),
        (weights // k + biases, "a kernel has k * k places, not k", True),
        (
            weights + c_out // groups,
            "there is one bias for each output channel, with groups too",
            split and biased,
        ),
        (weights // k**2 + biases, "the k * k places of a kernel are missing", True),
        (weights + 1, "there is one bias for *each* output channel, if there is any", True),
        (
            weights + conv.in_channels,
            "the biases are counted by *output* channels, and only if there are any",
            True,
        ),
        (c_out * k * k + biases, "each kernel has a layer for every input channel", True),
        (
            conv.in_channels * k * k + biases,
            "each output channel has a kernel of its own",
            True,
        ),
    ]


def _work(conv, height, width):
    weights = conv.weight.numel()
    s, k, p = conv.stride[0], conv.kernel_size[0], conv.padding[0]

    def area(size):
        return weights * size(height) * size(width)

    rows, columns = ((n + 2 * p - k) // s + 1 for n in (height, width))
    wanted, split, padded = weights * rows * columns, conv.groups > 1, p > 0
    places = (conv.out_channels if conv.bias is not None else 0) * rows * columns
    known = [
        (weights * height * width, "count the *output* pixels; the input has others", True),
        (2 * wanted, "one multiplication with its addition counts once", True),
        (wanted + places, "the additions of the bias do not count", places > 0),
        (
            2 * wanted + places,
            "one multiplication with its addition counts once, that of a bias not at all",
            places > 0,
        ),
        (wanted * conv.groups, "with groups, each kernel meets fewer input channels", split),
        (wanted // conv.groups, "divide by the groups once", split),
        (weights * rows, "each weight is used at all rows *and* columns of the output", True),
        (weights * rows * rows, "the image is not square; the output has its own width", True),
        (weights * columns**2, "the image is not square; the output has its own height", True),
        (
            area(lambda n: n // s),
            "the output's sides are not the input's, divided by the stride; use the size rule",
            s > 1,
        ),
        (area(lambda n: n + 2 * p), "those are the pixels of the *padded* input", padded),
        (
            wanted * conv.out_channels,
            "the output channels count twice: the weights hold them already",
            True,
        ),
        (
            wanted * conv.in_channels,
            "the input channels count twice: the weights hold them already",
            True,
        ),
        (
            wanted // conv.weight.shape[1],
            "each output number reads *all* input channels of its group",
            True,
        ),
        (wanted // conv.out_channels, "that is the work for one output channel", True),
        (wanted // k**2, "each output number needs k * k places of each channel", True),
        (area(lambda n: (n + 2 * p - k) / s + 1), "the output size must be rounded down", s > 1),
        (
            int(area(lambda n: (n + 2 * p - k) / s + 1)),
            "the output size must be rounded down",
            s > 1,
        ),
        (area(lambda n: -(-(n + 2 * p - k) // s) + 1), "it must be rounded *down*", s > 1),
        (area(lambda n: (n + p - k) // s + 1), "the padding lies on both sides, so twice", padded),
        (area(lambda n: (n - k) // s + 1), "the padding is missing in the size rule", padded),
        (area(lambda n: (n + 2 * p - k) // s), "the + 1 of the size rule is missing", True),
        (area(lambda n: n + 2 * p - k + 1), "the stride is missing in the size rule", s > 1),
        (weights, "those are the weights; each works at every output pixel", True),
        (rows * columns, "those are the output pixels; all weights work at each of them", True),
    ]
    rounded_up = area(lambda n: -(-n // s))  # often the same as by another mistake
    if rounded_up not in [wanted, *(value for value, *_ in known)]:
        words = "the output's sides are not the input's, divided by the stride; use the size rule"
        known.append((rounded_up, words, s > 1))
    return wanted, known


@exercise(
    "1.4",
    expects="a function of two shifts",
    right="all 25 kernels moved a random image to the right place.",
)
def shift_kernel(attempt):
    """A function: (right, down), each -2 to 2 -> kernel (5, 5)."""
    shifts = [(2, -1), (-1, 2), (1, -2), (-2, 1), (1, 2)]  # in these, every mistake shows
    shifts += [(right, down) for right in range(-2, 3) for down in range(-2, 3)]
    image = torch.rand(9, 11, dtype=torch.double) + 0.5
    elsewhere = {}
    for right, down in shifts:
        where = f"For right = {right}, down = {down}"
        try:
            kernel = call(attempt, right, down)
        except IndexError as error:
            outside = f"{where}, an index lies outside the kernel; its middle is row 2, column 2."
            expect("out of bounds" not in str(error), outside, 2)
            raise
        if isinstance(kernel, numpy.ndarray):
            kernel = torch.from_numpy(kernel)
        axes = getattr(kernel, "shape", ())
        expect(
            tuple(axes) not in ((1, 1, 5, 5), (1, 5, 5)),
            "The kernel has axes in front; give the 5 × 5 numbers alone, the check adds the axes.",
        )
        kernel = tensor(kernel, (5, 5), "the kernel")
        expect(kernel.any(), f"{where}, the kernel is 0 everywhere, so the result is black.", 1)
        expect(
            kernel.count_nonzero() == 1,
            f"{where}, more than one weight differs from 0, so pictures are mixed.",
            1,
        )
        got = F.conv2d(image[None, None], kernel[None, None], padding=2)[0, 0]
        row_of_1, column_of_1 = kernel.nonzero()[0].tolist()
        came = (2 - column_of_1, 2 - row_of_1)
        if came != (right, down):
            elsewhere[right, down] = came
            continue
        expect(
            close(got, _moved(image, right, down)),
            f"{where}, the picture is in its place, but the weight must be 1, or the brightness "
            "changes.",
            1,
        )
    if elsewhere:
        why = _why_not_moved(elsewhere)
        expect(why is None, f"The picture is elsewhere: {why}.", 2)
        (right, down), came = next(iter(elsewhere.items()))
        said = "right {}, down {}".format(*came)
        fallback(Text(f"right {right}, down {down}"), Text(said), "the move", 2)


def _moved(image, right, down):
    height, width = image.shape
    padded = F.pad(image, [2] * 4)
    return padded[2 - down : 2 - down + height, 2 - right : 2 - right + width]


def _why_not_moved(elsewhere):
    """The known mistake that explains all moves {wanted: came} that went wrong, or None."""
    known = [
        (lambda right, down: (0, 0), "it did not move at all"),
        (
            lambda right, down: (-right, -down),
            "it moved the opposite way; the 1 marks where a pixel is fetched *from*, as PyTorch "
            "does not turn the kernel around",
        ),
        (
            lambda right, down: (down, right),
            "the two directions are exchanged; the first index of a kernel is the row",
        ),
        (
            lambda right, down: (-down, -right),
            "both the directions and their signs are exchanged; the first index is the row, and a "
            "pixel is fetched from where the 1 is",
        ),
        (lambda right, down: (-right, down), "left and right are exchanged, down is as wanted"),
        (lambda right, down: (right, -down), "up and down are exchanged, right is as wanted"),
        (lambda right, down: (right, 0), "it moved to the side only; `down` has no effect"),
        (lambda right, down: (0, down), "it moved up or down only; `right` has no effect"),
        (
            lambda right, down: (abs(right), abs(down)),
            "it never moved left or up; the sign counts, -1 to the right is 1 to the left",
        ),
        (
            lambda right, down: (-abs(right), -abs(down)),
            "it moved left and up only; the sign counts, -1 to the right is 1 to the left",
        ),
    ]
    pairs = list(elsewhere.items())
    found = [why for rule, why in known if all(rule(*wanted) == came for wanted, came in pairs)]
    if not found and len({came for _, came in pairs}) == 1 and len(pairs) == 24:
        found = ["it is the same move every time; it must follow `right` and `down`"]
    off = {tuple((a - b) % 5 for a, b in zip(came, wanted, strict=True)) for wanted, came in pairs}
    if not found and len(off) == 1 and len(pairs) == 25:
        found = [
            "every 1 lies equally far from its place (past the edge one comes in again on the "
            "other side); where nothing moves, it is in row 2 and column 2"
        ]
    return _said(found)


@exercise(
    "1.5",
    expects="a function of depth",
    right="your three fields agree with the rule for depths from 8 to 110. Plain-56 sees 249 "
    "pixels. Now ask your function which depth is the first to cover 32.",
)
def family_fields(attempt):
    """A function: depth 6n + 2 -> receptive field after each of the three stages."""
    for n in (5, random.randint(3, 9), 1, 2, random.randint(10, 17), 18):
        names = [f"the field after stage {stage}" for stage in (1, 2, 3)]
        got = row(call(attempt, 6 * n + 2), 3, "the fields", names=names)
        wanted = [4 * n + 3, 12 * n + 1, 28 * n - 3]
        if got != wanted:
            fits = [(why, hint) for value, why, hint in _wrong_fields(n) if value == got]
            why = _said(why for why, _ in fits)
            if why is None:
                got = [int(value) if value == int(value) else value for value in got]
                fallback(wanted, got, f"the fields of depth {6 * n + 2}", 1)
            raise Mistake(f"The three fields are not the wanted ones: {why}.", fits[0][1])


def _wrong_fields(n):
    def fields(first=3, layers=2 * n, factor=2, early=False, add=2, strided=(1, 2), every=False):
        field, step, found = first, 1, []
        for stage in range(3):
            for layer in range(layers):
                here = stage in strided and (layer == 0 or every)
                if early and here:
                    step *= factor
                field += add * step
                if not early and here:
                    step *= factor
            found.append(field)
        return found

    own = [4 * n + 3, 8 * n - 2, 16 * n - 4]
    doubled = "a stride doubles the step of the layers after it, not the field"
    return [
        (fields(factor=1), "the strides are missing; after one, a step is two pixels", 1),
        (fields(early=True), "a stride counts only for the layers *after* its own", 1),
        (
            fields(first=1),
            "the first convolution, before the stages, is missing, or counted as one of stage 1",
            2,
        ),
        (fields(layers=n), "a stage has 2n convolutions, not n", 2),
        (fields(layers=2 * n + 1), "a stage has 2n convolutions, not 2n + 1", 2),
        (fields(layers=4 * n), "n is (depth - 2) / 6, and a stage has 2n convolutions", 2),
        (fields(layers=6 * n), "a stage has 2n convolutions, not 6n", 2),
        (
            fields(strided=(0, 1, 2)),
            "the first stage begins with stride 1; only the second and third have 2",
            1,
        ),
        (fields(strided=(0, 1)), "the second and third stage begin with stride 2, not others", 1),
        (
            [4 * n + 3, 12 * n + 1, 20 * n + 1],
            "the third stage reads with a step of 4: two strides of 2 multiply",
            1,
        ),
        (
            [4 * n + 3, 12 * n + 1, 24 * n - 1],
            "the third stage reads with a step of 4: two strides of 2 multiply, they do not add",
            1,
        ),
        (
            fields(every=True),
            "only the *first* convolution of the second and third stage has stride 2",
            1,
        ),
        ([7, 13, 25], "those are depth 8's, for every depth", 2),
        ([7 * n, 13 * n, 25 * n], "those are depth 8's, multiplied by n", 2),
        ([4 * n + 3, 12 * n + 6, 28 * n + 12], doubled, 1),
        (
            [side // 2 for side in fields()],
            "that is how far it sees to *one* side; the whole is twice that, and 1",
            2,
        ),
        (fields(factor=4), "a stride of 2 doubles the step", 1),
        (fields(add=3, first=4), "a kernel of 3 adds 2 steps, for it overlaps what was there", 1),
        (fields(add=1, first=2), "a kernel of 3 adds 2 steps, one on each side", 1),
        (own, "those are the pixels that each stage *adds*; sum them up", 2),
        ([4 * n, *own[1:]], "those are the pixels that each stage *adds*; sum them up", 2),
        ([side**2 for side in fields()], "those are areas; the side was asked for", 1),
        (
            [min(side, 32) for side in fields()],
            "the field does not stop at the image; some of it then lies outside",
            1,
        ),
        (fields()[::-1], "the order is reversed; the field grows from stage to stage", 2),
    ]


@exercise(
    "1.6",
    expects="a function of images and a matrix",
    right="it agrees with `F.conv2d` on random images with as many and with other numbers of "
    "channels out as in.",
)
def mended_1x1(attempt):
    """A function: (x (N, C_in, H, W), matrix (C_out, C_in)) -> (N, C_out, H, W)."""
    passed = None  # for the last case the answer was right: what is different now says why not
    for images, channels, out, square in (
        (None, (4, 6), "same", True),
        (None, (4, 6), "same", False),
        (None, (4, 7), "other", False),
        (None, (2, 6), "one", False),
        (1, (2, 6), "other", False),
    ):
        c_in, height = random.randint(*channels), random.randint(7, 9)
        c_out = {"same": c_in, "one": 1}.get(out) or random.choice(
            [c for c in (2, 3, 5, 8) if c != c_in]
        )
        width = height if square else random.randint(10, 12)
        n = images or random.randint(2, 3)
        x, matrix = torch.randn(n, c_in, height, width), torch.randn(c_out, c_in)
        wanted = F.conv2d(x, matrix[:, :, None, None])
        lesson = {
            None: None,
            "square": "square images come out right, others not: height and width are mixed up",
            "same": "with as many channels out as in it comes out right, with other numbers not",
            "other": "with several channels out it comes out right, with one it does not",
            "several": "with several images it comes out right, with a single one it does not",
        }[passed]
        sentence = (
            "The shapes do not fit: the table has one row for each pixel and C_in columns, and its "
            "product with the matrix as many rows and C_out columns."
            if lesson is None
            else f"The shapes do not fit: {lesson}."
        )
        got = _call(attempt, x, matrix, sentence=sentence, hint=2)
        kind = type(got).__name__
        expect(isinstance(got, torch.Tensor), f"Expected a tensor of maps, got a {kind}.")
        if got.shape != wanted.shape:
            why = _said(
                why for shape, why in _wrong_maps(x, matrix) if tuple(got.shape) == tuple(shape)
            )
            why = why or lesson
            raise Mistake(
                "The result has another shape than `F.conv2d` gives, (N, C_out, H, W)"
                + (f": {why}." if why else "."),
                2,
                why is not None,
            )
        got = tensor(got, wanted.shape, "the result")
        if not close(got, wanted):
            why, hint = _why_not_pixelwise(got, x, matrix)
            if why is None and lesson is None:
                fallback(wanted, got, "the result", hint)
            raise Mistake(f"The numbers are wrong: {why or lesson}.", hint)
        if images is None:
            passed = "square" if square else out if out != "one" else "several"


def _wrong_maps(x, matrix):
    """Shapes that come out by the typical mistakes, each with its own words."""
    n, c, height, width = x.shape
    out = len(matrix)
    alone = [size for size in (n, out, height, width) if size > 1]
    known = [
        ((n, height, width, out), "the channels came out last; they belong second"),
        (
            (n, out, height + 2, width + 2),
            "a frame of one pixel came around it; a 1 × 1 kernel needs no padding",
        ),
    ]
    if height != width:
        known.append(((n, out, width, height), "height and width are exchanged"))
    if len(alone) < 4:
        known.append((alone, "an axis of length 1 is gone, as `squeeze` does it"))
    if n > 1:
        known.append(((1, out, height, width), "one image alone came back"))
        known.append(((out, height, width), "one image alone came back"))
    if out != c:
        known.append(((n, c, height, width), "there are as many channels as came in"))
    known.append(((n * height * width, out), "that is still the table; it must be reshaped"))
    return known


def _why_not_pixelwise(got, x, matrix):
    n, c, height, width = x.shape
    size, square = (n, len(matrix), height, width), len(matrix) == c
    rows = x.permute(0, 2, 3, 1).reshape(-1, c)
    right = F.conv2d(x, matrix[:, :, None, None])
    careless = (x.reshape(-1, c) @ matrix.T).reshape(size)
    back = (x.reshape(-1, c) @ matrix.T).reshape(n, height, width, -1).permute(0, 3, 1, 2)

    def product(table):
        return (table.reshape(-1, c) @ matrix.T).reshape(n, height, width, -1).permute(0, 3, 1, 2)

    def few(count):
        return F.conv2d(x[:, :count], matrix[:, :count, None, None])

    known = [
        (careless, "that is what the careless version gives", 1),
        (
            (matrix @ x.reshape(c, -1)).reshape(size),
            "`reshape(C_in, -1)` mixes images and channels: the images come first in memory",
            1,
        ),
        (
            product(x.permute(0, 3, 1, 2)),
            "`permute(0, 3, 1, 2)` is for the way back; on the way in, the channels go to the end",
            2,
        ),
        (few(3) if c > 3 else None, "only the first three channels were used", None),
        (few(1), "only the first channel was used", None),
        (right / c, "it is the mean over the input channels, and a sum is wanted", None),
        (
            x * matrix.sum(0)[:, None, None] if square else None,
            "the products were added up over the *output* channels, not the input channels",
            None,
        ),
        (right.relu(), "negative numbers became 0; a convolution has no ReLU in it", None),
        (right.abs(), "the signs are lost", None),
        (
            F.conv2d(x[:1].expand_as(x), matrix[:, :, None, None]) if n > 1 else None,
            "every image got what belongs to the first",
            None,
        ),
        (
            F.conv2d(x, matrix.flip(1)[:, :, None, None]),
            "the input channels are in reverse order",
            2,
        ),
        ((rows @ matrix.T).reshape(size), "the way in is mended, the way back is not", 2),
        (back, "the way back is mended, but the table's rows are still not pixels", 2),
        (x if square else None, "that is the input itself", 1),
        (
            F.conv2d(x, matrix.T[:, :, None, None]) if square else None,
            "the matrix must be transposed, `matrix.T`: its rows are the kernels",
            2,
        ),
        (
            right.transpose(2, 3) if height == width else None,
            "rows and columns of the image are exchanged",
            2,
        ),
        (right.flip(0), "the images of the batch are out of order", 2),
        (right.flip(1), "the output channels are in reverse order", 2),
    ]
    fits = [(why, hint) for value, why, hint in known if value is not None and close(got, value)]
    return (_said(why for why, _ in fits), fits[0][1]) if fits else (None, 1)


QUIZ = [
    Question(
        "Feature maps of 56 × 56 go through a 3 × 3 convolution with stride 2 and padding 1. How "
        "large are they after it?",
        [
            ("27 × 27", "That is without padding: (56 − 3) / 2 rounded down, plus 1."),
            ("28 × 28", "(56 + 2 − 3) / 2 is 27.5, rounded down 27, plus 1."),
            ("29 × 29", "Round down before you add 1: the last half step does not fit."),
        ],
        right=1,
    ),
    Question(
        "The same convolution gets maps twice as high and twice as wide, 112 × 112. What becomes "
        "four times as much?",
        [
            (
                "Its multiply-adds.",
                "Each weight works once at every output pixel, and there are four times as many.",
            ),
            ("Its parameters.", "The same weights are used everywhere, on however many pixels."),
            ("Both.", "The number of weights does not know the size of the image."),
        ],
        right=0,
    ),
    Question(
        "After the trained stage 3, the mean of each map names as many digits as all numbers of "
        "the maps do. What does that say?",
        [
            (
                "Stage 3 has thrown away whatever told the digits apart.",
                "It names about 97 % of them, more than the raw pixels do.",
            ),
            (
                "*Where* a feature lies tells the nearest average nothing new any more.",
                "*How much* of it there is says it already: the head reads these means alone, so "
                "training had to put it there. After the first convolution the places still told "
                "a lot.",
            ),
            (
                "Three stages would do this to any image that comes, with or without training.",
                "The control says otherwise: untrained, the means stay far behind.",
            ),
        ],
        right=1,
    ),
    Question(
        "The receptive field of an output number has 81 × 81 pixels. What does that say?",
        [
            (
                "The number depends on all these pixels, and on each about equally.",
                "Measured by the gradient, the middle counts far more than the edge.",
            ),
            (
                "The kernel that makes this number has 81 × 81 weights a channel.",
                "Many small kernels, one after the other, and strides make a large field.",
            ),
            (
                "Whatever happens to a pixel outside, the number stays the same.",
                "The field is a limit. How much the pixels inside count is another question.",
            ),
        ],
        right=2,
    ),
    Question(
        "In which way was “more layers are better” well founded in 2014?",
        [
            (
                "Deeper networks had won, and small stacked kernels see as far for fewer weights.",
                "Good evidence up to about 20 layers. What happens beyond is chapter 03.",
            ),
            (
                "A deeper network always has more parameters, and so it fits more pictures.",
                "Three 3 × 3 layers have *fewer* weights than one 7 × 7 layer.",
            ),
            (
                "VGG's own authors had shown that the error keeps falling with every added layer.",
                "Their own table 3 hardly improves from 16 to 19 layers.",
            ),
        ],
        right=0,
    ),
]
