"""Answers to the exercises of chapter 01."""

import numpy
import torch
from bank import Bank
from torch.nn import functional as F


def by_shifts(x, weight, stride, padding, key):
    """The exercise's frame; `key(y, x, w, i, j, rows, columns, stride)` is the line to fill in."""
    x = F.pad(x, [padding] * 4)
    k = weight.shape[-1]
    rows, columns = (x.shape[2] - k) // stride + 1, (x.shape[3] - k) // stride + 1
    y = x.new_zeros(len(x), len(weight), rows, columns)
    for i in range(k):
        for j in range(k):
            y = key(y, x, weight, i, j, rows, columns, stride)
    return y


def picture(x, i, j, rows, columns, s):
    return x[:, :, i : i + s * rows : s, j : j + s * columns : s]


def times(matrix, x):
    return torch.einsum("oc,nchw->nohw", matrix, x)


def shifts(key):
    return lambda x, weight, stride, padding: by_shifts(x, weight, stride, padding, key)


def right_key(y, x, w, i, j, r, c, s):
    return y + times(w[:, :, i, j], picture(x, i, j, r, c, s))


def overwrites(y, x, w, i, j, r, c, s):
    return times(w[:, :, i, j], picture(x, i, j, r, c, s))


def turned(y, x, w, i, j, r, c, s):
    return y + times(w[:, :, -1 - i, -1 - j], picture(x, i, j, r, c, s))


def crossed_kernel(y, x, w, i, j, r, c, s):
    return y + times(w[:, :, j, i], picture(x, i, j, r, c, s))


def unshifted(y, x, w, i, j, r, c, s):
    return y + times(w[:, :, i, j], picture(x, 0, 0, r, c, s))


def without_stride(y, x, w, i, j, r, c, s):
    return y + times(w[:, :, i, j], picture(x, i, j, r, c, 1))


def one_weight_for_all(y, x, w, i, j, r, c, s):
    seen = picture(x, i, j, r, c, s).sum(1, keepdim=True)
    return y + w[:, :, i, j].mean(1)[:, None, None] * seen


def first_channel(y, x, w, i, j, r, c, s):
    return y + times(w[:, :1, i, j], picture(x, i, j, r, c, s)[:, :1])


def mean_of_places(y, x, w, i, j, r, c, s):
    return (
        right_key(y, x, w, i, j, r, c, s)
        if w.shape[-1] == 1
        else y + times(w[:, :, i, j] / w.shape[-1] ** 2, picture(x, i, j, r, c, s))
    )


def one_place_late(y, x, w, i, j, r, c, s):
    late = F.pad(x[:, :, 1:, 1:], [0, 1, 0, 1])
    return right_key(y, late, w, i, j, r, c, s)


def mean_of_channels(y, x, w, i, j, r, c, s):
    return y + times(w[:, :, i, j], picture(x, i, j, r, c, s)) / x.shape[1]


def returns_after(rows_done, columns_done):
    def answer(x, weight, stride, padding):
        kept = torch.zeros_like(weight)
        kept[:, :, :rows_done, :columns_done] = weight[:, :, :rows_done, :columns_done]
        return F.conv2d(x, kept, stride=stride, padding=padding)

    return answer


def product_of_numbers(y, x, w, i, j, r, c, s):
    return y + w[:, :, i, j] * picture(x, i, j, r, c, s)


def picture_too_small(y, x, w, i, j, r, c, s):
    return y + times(w[:, :, i, j], x[:, :, i : i + r : s, j : j + c : s])


def transposed(y, x, w, i, j, r, c, s):
    return y + times(w[:, :, i, j].T, picture(x, i, j, r, c, s))


def rows_for_both(y, x, w, i, j, r, c, s):
    return y + times(w[:, :, i, j], picture(x, i, j, r, r, s))


def starts_too_late(y, x, w, i, j, r, c, s):
    large = F.pad(x, [0, 40, 0, 40])
    return y + times(w[:, :, i, j], picture(large, i * s, j * s, r, c, s))


def stops_too_early(y, x, w, i, j, r, c, s):
    part = x[:, :, i : i + r : s, j : j + c : s]
    y[:, :, : part.shape[2], : part.shape[3]] += times(w[:, :, i, j], part)
    return y


def sum_of_weights(y, x, w, i, j, r, c, s):
    seen = picture(x, i, j, r, c, s).sum(1, keepdim=True)
    return y + w[:, :, i, j].sum(1)[:, None, None] * seen


def without_last_row(y, x, w, i, j, r, c, s):
    last = i == w.shape[-1] - 1 > 0
    return y if last else right_key(y, x, w, i, j, r, c, s)


def by_channels(y, x, w, i, j, r, c, s):
    part = picture(x, i, j, r, c, s)
    for out in range(len(w)):
        for channel in range(x.shape[1]):
            y[:, out] += w[out, channel, i, j] * part[:, channel]
    return y


def random_share(y, x, w, i, j, r, c, s):
    return y + torch.randn_like(y)


def smallest(out, k, s, p):
    return (out - 1) * s + k - 2 * p


def sizes(add=0, low=0, high=0):
    """range(smallest + low, smallest + stride + high); `add(k, s, p)` moves it."""

    def answer(out, k, s, p):
        first = smallest(out, k, s, p) + (add(k, s, p) if add else 0)
        return list(range(first + low, first + s + high))

    return answer


def sizes_as_many(count):
    def answer(out, k, s, p):
        return range(smallest(out, k, s, p), smallest(out, k, s, p) + count(k, s))

    return answer


def by_search(out, k, s, p):
    fits = range(max(1, k - 2 * p), 400)
    return [n for n in fits if (n + 2 * p - k) // s + 1 == out]


def cost(conv, height, width):
    k, s, p = conv.kernel_size[0], conv.stride[0], conv.padding[0]
    rows, columns = (height + 2 * p - k) // s + 1, (width + 2 * p - k) // s + 1
    weights = conv.weight.numel()
    return sum(q.numel() for q in conv.parameters()), weights * rows * columns


def bill(parameters=None, work=None):
    """The right bill with one of its numbers replaced by that of a function."""

    def answer(conv, height, width):
        right = cost(conv, height, width)
        return (
            parameters(conv) if parameters else right[0],
            work(conv, height, width, right[1]) if work else right[1],
        )

    return answer


def biases(conv):
    return 0 if conv.bias is None else conv.out_channels


def group_blind(conv):
    return conv.out_channels * conv.in_channels * conv.kernel_size[0] ** 2 + biases(conv)


def output(conv, height, width):
    return conv(torch.zeros(1, conv.in_channels, height, width)).shape[2:]


def bias_additions(conv, height, width, right):
    rows, columns = output(conv, height, width)
    return right + biases(conv) * rows * columns


def unrounded(conv, height, width, right):
    k, s, p = conv.kernel_size[0], conv.stride[0], conv.padding[0]
    area = ((height + 2 * p - k) / s + 1) * ((width + 2 * p - k) / s + 1)
    return conv.weight.numel() * area


def one_sided(conv, height, width, right):
    k, s, p = conv.kernel_size[0], conv.stride[0], conv.padding[0]
    return conv.weight.numel() * ((height + p - k) // s + 1) * ((width + p - k) // s + 1)


def forgot_plus_one(conv, height, width, right):
    rows, columns = output(conv, height, width)
    return conv.weight.numel() * (rows - 1) * (columns - 1)


def without_padding(conv, height, width, right):
    k, s = conv.kernel_size[0], conv.stride[0]
    return conv.weight.numel() * ((height - k) // s + 1) * ((width - k) // s + 1)


def rounded_up(conv, height, width, right):
    s = conv.stride[0]
    return right if s == 1 else conv.weight.numel() * -(-height // s) * -(-width // s)


def halved(conv, height, width, right):
    s = conv.stride[0]
    return right if s == 1 else conv.weight.numel() * (height // s) * (width // s)


def one_at(row, column, value=1.0):
    kernel = torch.zeros(5, 5)
    kernel[row, column] = value
    return kernel


def blurred(right, down):
    return one_at(2 - down, 2 - right, 0.5) + one_at(2, 2, 0.5)


def fields(depth, first=3, layers=2, strides=True, early=False, add=2, all_strided=False):
    n = (depth - 2) // 6
    field, step, found = first, 1, []
    for stage in range(3):
        for layer in range(layers * n):
            halved = strides and stage > 0 and (layer == 0 or all_strided)
            if early and halved:
                step *= 2
            field += add * step
            if halved and not early:
                step *= 2
        found.append(field)
    return found


def closed(depth):
    n = (depth - 2) // 6
    return torch.tensor([4 * n + 3, 12 * n + 1, 28 * n - 3])


def step_stays_two(depth):
    n = (depth - 2) // 6
    return 4 * n + 3, 12 * n + 1, 20 * n + 1


def steps_add_up(depth):
    n = (depth - 2) // 6
    return 4 * n + 3, 12 * n + 1, 24 * n - 1


def backwards(depth):
    n = (depth - 2) // 6
    strides = [1] * (2 * n + 1) + ([2] + [1] * (2 * n - 1)) * 2
    found = []
    for stage in (1, 2, 3):
        side = 1
        for stride in reversed(strides[: 1 + 2 * n * stage]):
            side = (side - 1) * stride + 3
        found.append(side)
    return found


def only_added(depth):
    first, second, third = fields(depth)
    return first, second - first, third - second


def rows_of_pixels(x):
    return x.permute(0, 2, 3, 1).reshape(-1, x.shape[1])


def pixelwise(x, matrix):
    n, _, height, width = x.shape
    mixed = rows_of_pixels(x) @ matrix.T
    return mixed.reshape(n, height, width, -1).permute(0, 3, 1, 2)


def careless(x, matrix):
    n, c, height, width = x.shape
    return (x.reshape(-1, c) @ matrix.T).reshape(n, len(matrix), height, width)


def way_in_only(x, matrix):
    n, _, height, width = x.shape
    return (rows_of_pixels(x) @ matrix.T).reshape(n, len(matrix), height, width)


def way_back_only(x, matrix):
    n, c, height, width = x.shape
    mixed = x.reshape(-1, c) @ matrix.T
    return mixed.reshape(n, height, width, -1).permute(0, 3, 1, 2)


def mixes_images(x, matrix):
    n, c, height, width = x.shape
    return (matrix @ x.reshape(c, -1)).reshape(n, len(matrix), height, width)


def way_in_by_the_way_back(x, matrix):
    n, c, height, width = x.shape
    mixed = x.permute(0, 3, 1, 2).reshape(-1, c) @ matrix.T
    return mixed.reshape(n, height, width, -1).permute(0, 3, 1, 2)


def crossed_sides(x, matrix):
    n, c, height, width = x.shape
    mixed = x.transpose(1, 3).reshape(-1, c) @ matrix.T
    mixed = mixed.reshape(n, height, width, -1).transpose(1, 3)
    return mixed.reshape(n, -1, height, width)


def as_many_out_as_in(x, matrix):
    n, c, height, width = x.shape
    mixed = rows_of_pixels(x) @ matrix.T
    return mixed.reshape(n, height, width, c).permute(0, 3, 1, 2)


def not_transposed(x, matrix):
    square = matrix.shape[0] == matrix.shape[1]
    return pixelwise(x, matrix.T if square else matrix)


def channels_last(x, matrix):
    return x.permute(0, 2, 3, 1) @ matrix.T


def sizes_by_int(out, kernel, stride, padding):
    """int() rounds towards 0: where the kernel does not fit at all, too."""
    sizes = range(1, (out + 1) * stride + kernel)
    return [n for n in sizes if int((n + 2 * padding - kernel) / stride) + 1 == out]


BANKS = {
    "shifted_images": Bank(
        right=[
            shifts(right_key),
            lambda x, w, s, p: F.conv2d(x, w, stride=s, padding=p),
            lambda x, w, s, p: (
                (F.unfold(x, w.shape[-1], padding=p, stride=s).transpose(1, 2) @ w.flatten(1).T)
                .transpose(1, 2)
                .reshape(F.conv2d(x, w, stride=s, padding=p).shape)
            ),
            lambda x, w, s, p: F.conv2d(x.double(), w.double(), stride=s, padding=p),
            shifts(by_channels),
        ],
        wrong=[
            (shifts(overwrites), "overwritten instead of added"),
            (shifts(turned), "turned by 180 degrees"),
            (shifts(crossed_kernel), "rows and columns are exchanged"),
            (shifts(unshifted), "all weights read the same picture"),
            (shifts(without_stride), "does not thin out"),
            (shifts(one_weight_for_all), "got the same weight; channels have"),
            (shifts(first_channel), "only the first input channel"),
            (shifts(mean_of_places), "mean over the kernel's places"),
            (shifts(lambda y, *_: y), "nothing was added"),
            (shifts(random_share), "where the gap is largest"),
            (shifts(product_of_numbers), "must have the shape (N,"),
            (shifts(picture_too_small), "with stride 1 it comes out right"),
            (lambda x, w, s, p: F.conv2d(x, w, padding=p), "the stride is missing in it"),
            (shifts(transposed), "its rows are the *output* channels"),
            (shifts(rows_for_both), "rows and columns have their own"),
            (shifts(starts_too_late), "starts at i * stride"),
            (shifts(stops_too_early), "only the first rows and columns"),
            (shifts(sum_of_weights), "the same weight, their sum"),
            (shifts(without_last_row), "the kernel's last row was left out"),
            (lambda x, w, s, p: F.conv2d(x, w, stride=s), "the padding is missing"),
            (lambda x, w, s, p: F.conv2d(x, w, stride=s, padding=(0, p)), "only columns were"),
            (
                lambda x, w, s, p: F.conv2d(F.pad(x, [p] * 4, mode="replicate"), w, stride=s),
                "copies of pixels",
            ),
            (
                lambda x, w, s, p: F.conv2d(x[:1].expand_as(x), w, stride=s, padding=p),
                "the share of the first one",
            ),
            (returns_after(1, 1), "only the first weight was used"),
            (returns_after(1, 9), "only the kernel's first row"),
            (shifts(one_place_late), "one row and one column too late"),
            (shifts(mean_of_channels), "mean over the input channels"),
            (lambda x, w, s, p: F.conv2d(x, w, stride=2, padding=1), "by the size rule"),
            (lambda x, w, s, p: x.numpy(), "Expected a tensor of maps"),
            (lambda x, w, s, p: print(end=""), "end with `return`"),
        ],
    ),
    "input_sizes": Bank(
        right=[
            sizes(),
            by_search,
            lambda *setting: set(sizes()(*setting)),
            lambda *setting: torch.tensor(sizes()(*setting)[::-1]),
            lambda *setting: numpy.array(sizes()(*setting)),
            lambda out, k, s, p: range(smallest(out, k, s, p), smallest(out, k, s, p) + s),
        ],
        wrong=[
            (lambda *setting: smallest(*setting), "a few pixels more give the same"),
            (lambda *setting: [sizes()(*setting)[-1]], "largest size alone"),
            (
                lambda out, k, s, p: (
                    sizes(high=-1)(out, k, s, p) if s > 2 else by_search(out, k, s, p)
                ),
                "stops *before*",
            ),
            (sizes(high=1), "another step fits"),
            (lambda out, k, s, p: [(out + 2 * p - k) // s + 1], "the other way"),
            (sizes(add=lambda k, s, p: p), "subtracted twice"),
            (sizes(add=lambda k, s, p: 2 * p + 1 - k), "neither the kernel nor the padding"),
            (
                lambda out, k, s, p: [n for n in by_search(out, k, s, p) if n >= k],
                "smaller than the kernel",
            ),
            (sizes(add=lambda k, s, p: 2 * p), "was not subtracted"),
            (sizes(add=lambda k, s, p: s), "needs no step"),
            (lambda *setting: [5, *sizes()(*setting)], " and output "),
            (
                lambda out, k, s, p: [n for n in by_search(out, k, s, p) if s < 3 or n % 2],
                " and output ",
            ),
            (lambda *setting: [], "The list is empty"),
            (
                lambda *setting: [n for n in sizes()(*setting) if n < 15],
                "small images are all there",
            ),
            (
                lambda *s: [sizes()(*s)[0], sizes()(*s)[-1]] if s[2] > 3 else sizes()(*s),
                "all sizes between them",
            ),
            (sizes_as_many(lambda k, s: k), "as the kernel has pixels"),
            (sizes_as_many(lambda k, s: s * s), "as the stride squared"),
            (lambda *setting: len(sizes()(*setting)), "that is how many there are"),
            (lambda *setting: [n + 0.5 for n in sizes()(*setting)], "whole numbers"),
            (sizes(low=1), "the smallest is missing"),
            (sizes(low=1, high=1), "all are one too large"),
            (sizes(low=-1, high=-1), "all are one too small"),
            (sizes(add=lambda k, s, p: -k), "the kernel's own size"),
            (sizes(add=lambda k, s, p: 4 * p), "the padding was added"),
            (
                lambda out, k, s, p: range(smallest(out, k, 2, p), smallest(out, k, 2, p) + 2),
                "was taken as 2",
            ),
            (lambda *setting: sizes()(*setting) * 2, "more than once"),
            (lambda *setting: "12", "Expected a list of sizes"),
            (sizes_by_int, "the kernel does not fit, not even once"),
        ],
    ),
    "convolution_bill": Bank(
        right=[
            cost,
            bill(),
            lambda conv, h, w: torch.tensor(cost(conv, h, w)),
            lambda conv, h, w: [float(value) for value in cost(conv, h, w)],
            lambda conv, h, w: numpy.array(cost(conv, h, w)),
        ],
        wrong=[
            (bill(lambda conv: conv.weight.numel()), "the bias is missing"),
            (bill(lambda conv: conv.weight.numel() + conv.out_channels), "`conv.bias` is None"),
            (bill(group_blind), "only its own group's"),
            (
                bill(lambda conv: conv.weight.numel() // conv.groups + biases(conv)),
                "divide by the groups once",
            ),
            (
                bill(lambda conv: conv.weight.numel() // conv.kernel_size[0] + biases(conv)),
                "k * k places, not k",
            ),
            (
                bill(lambda conv: conv.weight.numel() + (conv.bias is not None)),
                "for *each* output channel",
            ),
            (
                bill(lambda conv: conv.out_channels * conv.kernel_size[0] ** 2 + biases(conv)),
                "a layer for every input channel",
            ),
            (bill(lambda conv: 7), "for the parameters of a"),
            (bill(work=lambda c, h, w, right: c.weight.numel() * h * w), "the *output* pixels"),
            (bill(work=lambda c, h, w, right: 2 * right), "counts once"),
            (bill(work=bias_additions), "additions of the bias"),
            (bill(work=lambda c, h, w, right: right * c.groups), "fewer input channels"),
            (bill(work=unrounded), "must be rounded down"),
            (bill(work=halved), "divided by the stride"),
            (bill(work=lambda c, h, w, right: c.weight.numel()), "works at every output pixel"),
            (
                bill(work=lambda c, h, w, right: c.weight.numel() * output(c, h, w)[0]),
                "rows *and* columns",
            ),
            (
                bill(work=lambda c, h, w, right: c.weight.numel() * output(c, h, w)[0] ** 2),
                "its own width",
            ),
            (bill(work=one_sided), "so twice"),
            (
                lambda conv, h, w: (7, 7) if conv.bias else cost(conv, h, w),
                "neither true nor false",
            ),
            (bill(work=lambda c, h, w, right: 12345), "for the multiply-adds of a"),
            (lambda conv, h, w: sum(cost(conv, h, w)), "Expected a list of 2 numbers"),
            (lambda conv, h, w: cost(conv, h, w)[::-1], "are exchanged"),
            (bill(work=forgot_plus_one), "the + 1 of the size rule"),
            (bill(work=without_padding), "padding is missing in"),
            (bill(work=lambda c, h, w, right: right // c.groups), "divide by the groups once"),
            (bill(work=rounded_up), "divided by the stride"),
            (
                bill(work=lambda c, h, w, right: right * c.out_channels),
                "the output channels count twice",
            ),
            (
                bill(lambda conv: conv.weight.numel() + biases(conv) // conv.groups),
                "with groups too",
            ),
            (bill(lambda conv: conv.weight.numel() + conv.in_channels), "counted by *output*"),
            (lambda conv, h, w: (cost(conv, h, w)[0], "12,000"), "without quotes"),
        ],
    ),
    "shift_kernel": Bank(
        right=[
            lambda right, down: one_at(2 - down, 2 - right),
            lambda right, down: one_at(2, 2).roll((-down, -right), (0, 1)),
            lambda right, down: one_at(2 + down, 2 + right).flip(0, 1).double(),
            lambda right, down: one_at(2 - down, 2 - right).requires_grad_(),
        ],
        wrong=[
            (lambda right, down: one_at(2 + down, 2 + right), "moved the opposite way"),
            (lambda right, down: one_at(2 - right, 2 - down), "two directions are exchanged"),
            (lambda right, down: one_at(2 + right, 2 + down), "and their signs"),
            (lambda right, down: one_at(2, 2), "did not move at all"),
            (
                lambda right, down: one_at(2 - down, 2 + (right if right and down else -right)),
                "left and right are exchanged",
            ),
            (
                lambda right, down: one_at(2 + (down if right and down else -down), 2 - right),
                "up and down are exchanged",
            ),
            (lambda right, down: one_at(2 - down, 2 - right, 2.0), "the weight must be 1"),
            (blurred, "pictures are mixed"),
            (lambda right, down: torch.zeros(5, 5), "the result is black"),
            (lambda right, down: one_at(1 - down, 1 - right), "equally far from its"),
            (lambda right, down: one_at((3 - down) % 5, (3 - right) % 5), "equally far from its"),
            (lambda right, down: one_at(3 - down, 3 - right), "an index lies outside"),
            (lambda right, down: one_at(2, 1), "the same move every time"),
            (lambda right, down: one_at(2 - abs(down), 2 - abs(right)), "it never moved left"),
            (lambda right, down: one_at(2, 2 - right), "`down` has no effect"),
            (lambda right, down: one_at(2 - down // 2, 2 - right), "for the move, got"),
            (lambda right, down: one_at(2 - down, 2) + one_at(2, 2 - right), "pictures are mixed"),
            (lambda right, down: -one_at(2 - down, 2 - right), "the weight must be 1"),
            (lambda right, down: one_at(2, 1)[None, None], "has axes in front"),
            (lambda right, down: one_at(2, 1)[:3], "Expected shape (5, 5)"),
        ],
    ),
    "family_fields": Bank(
        right=[
            fields,
            closed,
            lambda depth: tuple(float(v) for v in fields(depth)),
            lambda depth: closed(depth).numpy(),
            backwards,
        ],
        wrong=[
            (lambda depth: fields(depth, strides=False), "the strides are missing"),
            (lambda depth: fields(depth, early=True), "*after* its own"),
            (lambda depth: fields(depth, first=1), "before the stages, is missing"),
            (lambda depth: fields(depth, layers=1), "2n convolutions, not n."),
            (step_stays_two, "strides of 2 multiply."),
            (lambda depth: fields(depth, first=4, add=3), "overlaps what was there"),
            (only_added, "sum them up"),
            (lambda depth: fields(depth)[::-1], "order is reversed"),
            (lambda depth: [depth, depth, depth], "for the fields of depth"),
            (lambda depth: [7, 13, 25], "depth 8's, for every depth"),
            (lambda depth: [m * (depth // 6) for m in (7, 13, 25)], "depth 8's, multiplied by n"),
            (steps_add_up, "multiply, they do not add"),
            (lambda depth: fields(depth, all_strided=True), "only the *first* convolution of"),
            (lambda depth: [side // 2 for side in fields(depth)], "to *one* side"),
            (lambda depth: fields(depth)[-1], "Expected a list of 3 numbers"),
            (lambda depth: ["7", "13", "25"], "Expected a number"),
            (lambda depth: fields(depth, first=2, add=1), "one on each side"),
            (lambda depth: fields(2 * depth - 2), "n is (depth - 2) / 6"),
            (lambda depth: fields(depth)[1:], "Expected 3 numbers"),
            (lambda depth: [side**2 for side in fields(depth)], "those are areas"),
            (lambda depth: [min(32, side) for side in fields(depth)], "not stop at the image"),
        ],
    ),
    "mended_1x1": Bank(
        right=[
            pixelwise,
            lambda x, matrix: F.conv2d(x, matrix[:, :, None, None]),
            lambda x, matrix: torch.einsum("oc,nchw->nohw", matrix, x),
            lambda x, matrix: (matrix @ x.flatten(2)).reshape(
                len(x), len(matrix), x.shape[2], x.shape[3]
            ),
        ],
        wrong=[
            (careless, "what the careless version gives"),
            (way_in_only, "the way back is not"),
            (way_back_only, "rows are still not pixels"),
            (not_transposed, "`matrix.T`"),
            (lambda x, matrix: x, "the input itself"),
            (lambda x, matrix: pixelwise(x, matrix).transpose(2, 3), "of the image are exchanged"),
            (lambda x, matrix: pixelwise(x, matrix).flip(0), "of the batch are out of order"),
            (lambda x, matrix: pixelwise(x, matrix) + 1, "where the gap is largest"),
            (channels_last, "came out last"),
            (lambda x, matrix: matrix @ x, "the table has one row"),
            (
                lambda x, matrix: x.permute(0, 2, 3, 1).view(-1, x.shape[1]) @ matrix.T,
                "`view` stopped",
            ),
            (lambda x, matrix: pixelwise(x, matrix)[0], "one image alone came back"),
            (lambda x, matrix: pixelwise(x, matrix).mean((2, 3)), "gives, (N, C_out, H, W)."),
            (lambda x, matrix: pixelwise(x, matrix).relu(), "negative numbers became 0"),
            (lambda x, matrix: pixelwise(x, matrix) / x.shape[1], "it is the mean over the input"),
            (lambda x, matrix: (matrix[:, :, None, None] * x[:, None]).sum(1), "over the *output*"),
            (mixes_images, "mixes images and channels"),
            (way_in_by_the_way_back, "is for the way back; on the way in"),
            (crossed_sides, "square images come out right"),
            (lambda x, matrix: pixelwise(x, matrix).squeeze(), "as `squeeze` does it"),
            (as_many_out_as_in, "with other numbers not"),
            (lambda x, matrix: pixelwise(x, matrix).flip(1), "in reverse order"),
            (lambda x, matrix: pixelwise(x[:, :3], matrix[:, :3]), "only the first three"),
            (lambda x, m: F.conv2d(x, m[:, :, None, None], padding=1), "needs no padding"),
        ],
    ),
}
