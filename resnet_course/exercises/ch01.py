"""Chapter 01, convolutions and feature maps: checks and quiz."""

import random

import torch
from torch import nn
from torch.nn import functional as F

from resnet_course.teaching.check import (
    Mistake,
    call,
    close,
    exercise,
    expect,
    number,
    show,
    tensor,
)
from resnet_course.teaching.quiz import Question


def _call(attempt, *arguments, sentence, hint):
    """`call`, with this sentence where PyTorch complains about shapes."""
    try:
        return call(attempt, *arguments)
    except RuntimeError as error:
        said = str(error)
        shapes = any(word in said for word in ("size", "shape", "broadcast"))
        expect(not shapes or said.startswith("view"), sentence, hint)  # "Use .reshape" is better
        raise


@exercise(
    "1.1",
    expects="a function of image, weight, stride and padding",
    right="it agrees with `F.conv2d` for kernels 1, 2, 3 and 5, strides 1 to 3, with and without "
    "padding and with several channels.",
)
def shifted_images(attempt):
    """A function: x (N, C_in, H, W), weight (C_out, C_in, k, k), stride, padding -> maps."""
    for c_in, c_out, k, stride, padding in (
        (3, 4, 3, 1, 0),
        (3, 2, 3, 2, 1),
        (2, 5, 5, 3, 2),
        (1, 1, 1, 1, 0),
        (4, 3, 2, 2, 0),
    ):
        x, weight = torch.randn(2, c_in, 9, 12), torch.randn(c_out, c_in, k, k)
        wanted = F.conv2d(x, weight, stride=stride, padding=padding)
        what = f"kernel {k}, stride {stride}, padding {padding}, {c_in} channels in, {c_out} out"
        sentence = (
            f"For {what}, the shapes do not fit: `y` and what each weight adds to it must have the "
            f"shape {tuple(wanted.shape)}."
        )
        got = _call(attempt, x, weight, stride, padding, sentence=sentence, hint=2)
        got = tensor(got, wanted.shape, what)
        why = _why_not_conv(got, x, weight, stride, padding)
        expect(
            close(got, wanted), f"For {what}, the numbers are not those of `F.conv2d`: {why}.", 2
        )


def _why_not_conv(got, x, weight, stride, padding):
    def conv(kernel, image=x):
        return F.conv2d(image, kernel, stride=stride, padding=padding)

    k = weight.shape[-1]
    padded, (rows, columns) = F.pad(x, [padding] * 4), got.shape[2:]
    last = torch.zeros_like(weight)
    last[:, :, -1, -1] = weight[:, :, -1, -1]
    corner = torch.zeros_like(weight)
    corner[:, :, 0, 0] = weight.sum((2, 3))
    dense = F.conv2d(padded, weight)[:, :, :rows, :columns]
    crossed = conv(weight.sum(1, keepdim=True) / weight.shape[1], x.sum(1, keepdim=True))
    known = [
        (torch.zeros_like(got), "they are all 0, nothing was added to `y`"),
        (conv(weight.flip(2, 3)), "the kernel is turned by 180 degrees; PyTorch does not turn it"),
        (
            conv(weight.transpose(2, 3)),
            "rows and columns are exchanged; i counts rows and j columns, in kernel and picture",
        ),
        (
            conv(last),
            "only the last weight is left, as if `y` were overwritten instead of added to",
        ),
        (conv(corner), "all weights read the same picture; it must start at row i and column j"),
        (dense, "the stride does not thin out the picture; a slice has a third number"),
        (conv(weight) / k**2, "it is the mean over the kernel's places, and a sum is wanted"),
        (crossed, "every channel got the same weight; channels have their own weights"),
        (
            conv(weight[:, :1], x[:, :1]),
            "only the first input channel was used; all of them add up",
        ),
    ]
    return next(
        (why for value, why in known if close(got, value)),
        "the weight at (i, j) meets the input pixel at row * stride + i, column * stride + j",
    )


@exercise(
    "1.2",
    expects="a function of output size, kernel, stride and padding",
    right="for eight layers your list held every size that PyTorch turns into the wanted one, and "
    "no other. There are always as many as the stride.",
)
def input_sizes(attempt):
    """A function: (out, kernel, stride, padding) -> list of all input sizes."""
    layers = [(12, 6, 3, 2), (28, 3, 2, 1), (8, 3, 1, 1)]
    for _ in range(5):
        k = random.randint(2, 7)
        layers.append((random.randint(6, 40), k, random.randint(1, 4), random.randint(0, k // 2)))
    for out, k, s, p in layers:
        layer = f"kernel {k}, stride {s}, padding {p} and output {out}"
        got = _whole_numbers(call(attempt, out, k, s, p), layer)
        smallest = (out - 1) * s + k - 2 * p
        wanted = set(range(smallest, smallest + s))
        _judge_sizes(got, wanted, layer, out, k, s, p)
        for size in sorted(got - wanted):
            gives = (size + 2 * p - k) // s + 1
            raise Mistake(f"For {layer}: {size} is in the list, but gives {gives}.", 1)
        for size in sorted(wanted - got):
            raise Mistake(f"For {layer}: {size} is missing.", 2)


def _judge_sizes(got, wanted, layer, out, k, s, p):
    """The typical mistakes, each with its own sentence."""
    smallest = min(wanted)
    forward = (out + 2 * p - k) // s + 1
    known = [
        ({smallest}, "the smallest size is right; a few pixels more give the same output", 2),
        ({max(wanted)}, "that is the largest size alone; smaller ones give the same output", 2),
        (
            set(range(smallest, smallest + s - 1)),
            "the largest is missing; `range` stops *before* its end",
            2,
        ),
        (
            set(range(smallest, smallest + s + 1)),
            f"{max(wanted) + 1} is one too many: there another step fits",
            2,
        ),
        ({forward}, "that is the output *for* an input of this size; go the other way", 1),
        (
            {n + p for n in wanted},
            "the padding lies on both sides, so it must be subtracted twice",
            1,
        ),
        ({n + 2 * p for n in wanted}, "they fit without padding; it makes the image larger", 1),
        ({n + s for n in wanted}, "the first output pixel needs no step, so out - 1 steps", 1),
    ]
    for sizes, why, hint in known:
        expect(got == wanted or got != sizes, f"For {layer}, got {_few(got)}: {why}.", hint)


def _few(sizes):
    sizes = sorted(sizes)
    return show(sizes if len(sizes) > 1 else sizes[0] if sizes else [])


def _whole_numbers(value, layer):
    if isinstance(value, torch.Tensor):
        value = value.tolist()
    if isinstance(value, int | float):
        value = [value]
    good = isinstance(value, list | tuple | set | range)
    expect(good, f"Expected a list of sizes, got {show(value)}.")
    expect(len(value) > 0, f"For {layer}, the list is empty, but some images fit.")
    numbers = {number(entry, "each size") for entry in value}
    for entry in numbers:
        expect(entry == int(entry), f"Expected whole numbers of pixels, got {entry:g}.")
    return {int(entry) for entry in numbers}


@exercise(
    "1.3",
    expects="a function of a convolution, height and width",
    right="both numbers agree with PyTorch's own counts for six layers, with and without bias, "
    "stride and groups.",
)
def convolution_bill(attempt):
    """A function: (nn.Conv2d, height, width) -> (parameters, multiply-adds)."""
    for conv in (
        nn.Conv2d(5, 16, 3, padding=1, bias=False),
        nn.Conv2d(6, 10, 5),
        nn.Conv2d(16, 32, 3, stride=2, padding=1, bias=False),
        nn.Conv2d(12, 20, 3, padding=1, groups=4, bias=False),
        nn.Conv2d(24, 24, 3, stride=2, padding=1, groups=24),
        nn.Conv2d(64, random.randint(70, 90), 1, stride=2),
    ):
        height, width = random.choice([13, 15]), random.choice([18, 20, 22])
        try:
            got = call(attempt, conv, height, width)
        except RuntimeError as error:
            sentence = "A bias is a tensor, neither true nor false: ask `conv.bias is None`."
            expect("Boolean value of Tensor" not in str(error), sentence)
            raise
        if isinstance(got, torch.Tensor):
            got = got.tolist()
        pair = isinstance(got, tuple | list) and len(got) == 2
        expect(pair, f"Expected two numbers, parameters and multiply-adds, got {show(got)}.")
        parameters = number(got[0], "the parameters")
        work = number(got[1], "the multiply-adds")
        _judge_parameters(parameters, conv)
        _judge_work(work, conv, height, width)


def _named(conv):
    parts = [f"{conv.in_channels} to {conv.out_channels} channels", f"kernel {conv.kernel_size[0]}"]
    parts += [f"stride {conv.stride[0]}"] if conv.stride[0] > 1 else []
    parts += [f"groups={conv.groups}"] if conv.groups > 1 else []
    return ", ".join(parts) + (", no bias" if conv.bias is None else ", with bias")


def _judge_parameters(got, conv):
    weights, c_out, k = conv.weight.numel(), conv.out_channels, conv.kernel_size[0]
    biases = 0 if conv.bias is None else c_out
    wanted = weights + biases
    known = [
        (weights, "the bias is missing, one number for each output channel"),
        (weights + c_out, "this layer has no bias; `conv.bias` is None"),
        (weights * conv.groups + biases, "each kernel reads only its own group's input channels"),
        (
            weights // conv.groups + biases,
            "divide by the groups once; all output channels have kernels",
        ),
        (weights // k + biases, "a kernel has k * k places, not k"),
        (weights + 1, "there is one bias for *each* output channel"),
        (c_out * k * k + biases, "each kernel has a layer for every input channel"),
    ]
    why = next(
        (why for value, why in known if value == got), "weights are C_out * (C_in / groups) * k * k"
    )
    sentence = f"Expected {wanted:,} parameters for {_named(conv)}, got {got:,.0f}: {why}."
    expect(got == wanted, sentence, 2 if "group" in why else 1)


def _judge_work(got, conv, height, width):
    weights = conv.weight.numel()
    rows, columns = conv(torch.zeros(1, conv.in_channels, height, width)).shape[2:]
    wanted = weights * rows * columns
    s, k, p = conv.stride[0], conv.kernel_size[0], conv.padding[0]
    floating = weights * ((height + 2 * p - k) / s + 1) * ((width + 2 * p - k) / s + 1)
    one_sided = weights * ((height + p - k) // s + 1) * ((width + p - k) // s + 1)
    known = [
        (weights * height * width, "count the *output* pixels; the input has others"),
        (2 * wanted, "one multiplication with its addition counts once"),
        (wanted + conv.out_channels * rows * columns, "the additions of the bias do not count"),
        (wanted * conv.groups, "with groups, each kernel meets fewer input channels"),
        (weights * rows, "each weight is used at all rows *and* columns of the output"),
        (weights * rows * rows, "the image is not square; the output has its own width"),
        (weights * columns * columns, "the image is not square; the output has its own height"),
        (weights * (height // s) * (width // s), "the size rule rounds down after adding padding"),
        (floating, "the output size must be rounded down"),
        (one_sided, "the padding lies on both sides, so it counts twice"),
        (weights, "those are the weights; each works at every output pixel"),
    ]
    why = next(
        (why for value, why in known if abs(value - got) < 1e-6), "weights times output pixels"
    )
    facts = f"{_named(conv)}, on {height} x {width} pixels ({rows} x {columns} come out)"
    expect(
        got == wanted, f"Expected {wanted:,} multiply-adds for {facts}, got {got:,.0f}: {why}.", 2
    )


@exercise(
    "1.4",
    expects="a function of two shifts",
    right="all 25 kernels moved a random image to the right place.",
)
def shift_kernel(attempt):
    """A function: (right, down), each -2 to 2 -> kernel (5, 5)."""
    shifts = [(1, 0), (0, 1), (2, -1), (-1, -2)]
    shifts += [(right, down) for right in range(-2, 3) for down in range(-2, 3)]
    image = torch.rand(9, 11, dtype=torch.double) + 0.5
    for right, down in shifts:
        kernel = tensor(call(attempt, right, down), (5, 5), f"the kernel for ({right}, {down})")
        got = F.conv2d(image[None, None], kernel[None, None], padding=2)[0, 0]
        why = _why_not_moved(kernel, got, image, right, down)
        sentence = f"For right = {right}, down = {down}, the picture is elsewhere: {why}."
        expect(close(got, _moved(image, right, down)), sentence, 2 if "fetch" in why else 1)


def _moved(image, right, down):
    height, width = image.shape
    padded = F.pad(image, [2] * 4)
    return padded[2 - down : 2 - down + height, 2 - right : 2 - right + width]


def _why_not_moved(kernel, got, image, right, down):
    if not kernel.any():
        return "the kernel is 0 everywhere, so the result is black"
    if kernel.count_nonzero() > 1:
        return "more than one weight differs from 0, so pictures are mixed"
    if not torch.isin(kernel, torch.tensor([0.0, 1.0], dtype=kernel.dtype)).all():
        return "the weight must be 1, or the brightness changes"
    known = [
        ((0, 0), "it did not move at all"),
        (
            (-right, -down),
            "it moved the opposite way; the 1 marks where a pixel is fetched *from*, as PyTorch "
            "does not turn the kernel around",
        ),
        ((down, right), "the two directions are exchanged; the first index of a kernel is the row"),
        (
            (-down, -right),
            "both the directions and their signs are exchanged; the first index is the row, and a "
            "pixel is fetched from where the 1 is",
        ),
        ((-right, down), "left and right are exchanged, down is as wanted"),
        ((right, -down), "up and down are exchanged, right is as wanted"),
    ]
    return next(
        (why for shift, why in known if close(got, _moved(image, *shift))),
        "the centre of the kernel is at [2, 2]; count from there",
    )


@exercise(
    "1.5",
    expects="a function of depth",
    right="your three fields agree with the rule for depths from 8 to 110. Plain-56 sees 249 "
    "pixels. Now ask your function which depth is the first to cover 32.",
)
def family_fields(attempt):
    """A function: depth 6n + 2 -> receptive field after each of the three stages."""
    for depth in (8, 20, 14, 56, 6 * random.randint(10, 17) + 2, 110):
        n = (depth - 2) // 6
        got = call(attempt, depth)
        if isinstance(got, torch.Tensor):
            got = got.tolist()
        three = isinstance(got, tuple | list) and len(got) == 3
        expect(three, f"Expected three numbers, one for each stage, got {show(got)}.")
        got = [number(value, f"stage {i}") for i, value in enumerate(got, 1)]
        wanted = [4 * n + 3, 12 * n + 1, 28 * n - 3]
        why, hint = _why_not_field(got, n)
        said = ", ".join(f"{value:g}" for value in got)
        expect(
            got == wanted,
            f"Expected {', '.join(map(str, wanted))} for depth {depth}, got {said}: {why}.",
            hint,
        )


def _why_not_field(got, n):
    def fields(first=3, layers=2 * n, strides=True, early=False, late=False, add=2):
        field, step, found = first, 1, []
        for stage in range(3):
            for layer in range(layers):
                here = strides and stage > 0
                if early and here and layer == 0:
                    step *= 2
                field += add * step
                if not (early or late) and here and layer == 0:
                    step *= 2
            if late and strides:
                step *= 2
            found.append(field)
        return found

    own = [4 * n + 3, 8 * n - 2, 16 * n - 4]
    known = [
        (fields(strides=False), "the strides are missing; after one, a step is two pixels", 1),
        (fields(early=True), "a stride counts only for the layers *after* its own", 1),
        (fields(first=1), "the first convolution, before the stages, is missing", 2),
        (fields(layers=n), "a stage has 2n convolutions, not n", 2),
        ([4 * n + 3, 12 * n + 1, 20 * n + 1], "two strides of 2 make a step of 4, not of 2", 1),
        (fields(add=3, first=4), "a kernel of 3 adds 2 steps, for it overlaps what was there", 1),
        (own, "those are the pixels that each stage *adds*; sum them up", 2),
        (fields()[::-1], "the order is reversed; the field grows from stage to stage", 2),
    ]
    return next(
        ((why, hint) for value, why, hint in known if value == got),
        ("each layer adds 2 steps, as wide as the strides before it have made them", 1),
    )


@exercise(
    "1.6",
    expects="a function of images and a matrix",
    right="it agrees with `F.conv2d` on random images with as many and with other numbers of "
    "channels out as in.",
)
def mended_1x1(attempt):
    """A function: (x (N, C_in, H, W), matrix (C_out, C_in)) -> (N, C_out, H, W)."""
    for n, c_in, c_out, height, width in ((2, 3, 3, 4, 4), (2, 3, 5, 4, 6), (1, 4, 2, 5, 3)):
        x, matrix = torch.randn(n, c_in, height, width), torch.randn(c_out, c_in)
        wanted = F.conv2d(x, matrix[:, :, None, None])
        what = f"images {tuple(x.shape)} and a matrix {tuple(matrix.shape)}"
        sentence = (
            f"For {what}, the shapes do not fit: the table has {n * height * width} rows, one for "
            f"each pixel, and {c_in} columns, and the product as many rows and {c_out} columns."
        )
        got = _call(attempt, x, matrix, sentence=sentence, hint=2)
        last = isinstance(got, torch.Tensor) and got.shape == (n, height, width, c_out)
        expect(not last, f"For {what}, the channels came out last; they belong second.", 2)
        got = tensor(got, wanted.shape, what)
        why, hint = _why_not_pixelwise(got, x, matrix)
        expect(close(got, wanted), f"For {what}, the numbers are wrong: {why}.", hint)


def _why_not_pixelwise(got, x, matrix):
    n, c, height, width = x.shape
    size, square = (n, len(matrix), height, width), len(matrix) == c
    rows = x.permute(0, 2, 3, 1).reshape(-1, c)
    right = F.conv2d(x, matrix[:, :, None, None])
    careless = (x.reshape(-1, c) @ matrix.T).reshape(size)
    back = (x.reshape(-1, c) @ matrix.T).reshape(n, height, width, -1).permute(0, 3, 1, 2)
    known = [
        (careless, "that is what the careless version gives", 1),
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
        (right.flip(0) if n > 1 else None, "the images of the batch are out of order", 2),
    ]
    return next(
        ((why, hint) for value, why, hint in known if value is not None and close(got, value)),
        ("each row of the table must hold the channels of *one* pixel", 1),
    )


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
        "What can a 1 × 1 convolution *not* do?",
        [
            (
                "Change the number of channels.",
                "That is what it is mostly used for.",
            ),
            (
                "Detect an edge in a grey image.",
                "An edge is a difference between neighbours, and it sees no neighbours.",
            ),
            (
                "Tell red pixels from green ones.",
                "Red minus green is a weighted sum of one pixel's channels.",
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
                "VGG's authors had shown that the error goes on falling with every added layer.",
                "Their own table 3 hardly improves from 16 to 19 layers.",
            ),
        ],
        right=0,
    ),
]
