"""Answers to the exercises of chapter 04."""

import torch
from bank import Bank
from torch import nn
from torch.nn import functional as F

from resnet_course import resnet

# 4.1


def bottleneck(block, x, last=torch.relu, add=None):
    out = block.relu(block.bn1(block.conv1(x)))
    out = block.relu(block.bn2(block.conv2(out)))
    out = block.bn3(block.conv3(out))
    return last(add(out, block.downsample(x)) if add else out + block.downsample(x))


def in_place_sum(block, x):
    out = block.relu(block.bn1(block.conv1(x)))
    out = block.bn3(block.conv3(block.relu(block.bn2(block.conv2(out)))))
    out += block.downsample(x)
    return F.relu(out, inplace=True)


def input_overwritten(block, x):
    return bottleneck(block, block.relu(x))


def no_relus_between(block, x):
    out = block.bn3(block.conv3(block.bn2(block.conv2(block.bn1(block.conv1(x))))))
    return block.relu(out + block.downsample(x))


def first_relu_missing(block, x):
    out = block.relu(block.bn2(block.conv2(block.bn1(block.conv1(x)))))
    return block.relu(block.bn3(block.conv3(out)) + block.downsample(x))


def second_relu_missing(block, x):
    out = block.bn2(block.conv2(block.relu(block.bn1(block.conv1(x)))))
    return block.relu(block.bn3(block.conv3(out)) + block.downsample(x))


def without_bn3(block, x):
    out = block.relu(block.bn1(block.conv1(x)))
    out = block.relu(block.bn2(block.conv2(out)))
    return block.relu(block.conv3(out) + block.downsample(x))


def without_norms(block, x):
    out = block.conv3(block.relu(block.conv2(block.relu(block.conv1(x)))))
    return block.relu(out + block.downsample(x))


def adds_x_itself(block, x):
    out = block.relu(block.bn1(block.conv1(x)))
    out = block.bn3(block.conv3(block.relu(block.bn2(block.conv2(out)))))
    return block.relu(out + x)


def without_gradient(block, x):
    with torch.no_grad():
        return bottleneck(block, x)


def forgets_return(block, x):
    bottleneck(block, x)


def norm_after_relu(block, x):
    out = block.bn2(block.relu(block.conv2(block.bn1(block.relu(block.conv1(x))))))
    return block.relu(block.bn3(block.conv3(out)) + block.downsample(x))


def everything_named_x(block, x):
    x = block.relu(block.bn1(block.conv1(x)))
    x = block.bn3(block.conv3(block.relu(block.bn2(block.conv2(x)))))
    return block.relu(x + block.downsample(x))


def bn1_twice(block, x):
    out = block.relu(block.bn1(block.conv1(x)))
    out = block.bn3(block.conv3(block.relu(block.bn1(block.conv2(out)))))
    return block.relu(out + block.downsample(x))


def relu_first(block, x):
    return bottleneck(block, torch.relu(x))


def runs_twice(block, x):
    bottleneck(block, x)
    return bottleneck(block, x)


def by_sequential(block, x):
    main = nn.Sequential(block.conv1, block.bn1, block.relu, block.conv2, block.bn2, block.relu)
    return block.relu(block.bn3(block.conv3(main(x))) + block.downsample(x))


def by_numbers(block, x):
    out = x
    for i in (1, 2, 3):
        out = getattr(block, f"bn{i}")(getattr(block, f"conv{i}")(out))
        out = block.relu(out if i < 3 else torch.add(out, block.downsample(x)))
    return out


def with_norms(first, second):
    """The forward with other batch norms behind the first two convolutions."""

    def forward(block, x):
        out = block.relu(getattr(block, first)(block.conv1(x)))
        out = block.relu(getattr(block, second)(block.conv2(out)))
        return block.relu(block.bn3(block.conv3(out)) + block.downsample(x))

    return forward


def without_bn2(block, x):
    out = block.relu(block.conv2(block.relu(block.bn1(block.conv1(x)))))
    return block.relu(block.bn3(block.conv3(out)) + block.downsample(x))


def added_before_bn3(block, x):
    out = block.relu(block.bn2(block.conv2(block.relu(block.bn1(block.conv1(x))))))
    return block.relu(block.bn3(block.conv3(out) + block.downsample(x)))


def without_conv2(block, x):
    out = block.bn3(block.conv3(block.relu(block.bn1(block.conv1(x)))))
    return block.relu(out + block.downsample(x))


def two_shortcuts(block, x):
    one = block.relu(block.bn1(block.conv1(x)))
    two = block.relu(block.bn2(block.conv2(one)))
    two = two + one if one.shape == two.shape else two
    return block.relu(block.bn3(block.conv3(two)) + block.downsample(x))


def x_lost_on_the_way(block, x):
    x = block.relu(block.bn1(block.conv1(x)))
    out = block.bn3(block.conv3(block.relu(block.bn2(block.conv2(x)))))
    return block.relu(out + block.downsample(x))


def relu_on_the_way_to_the_projection(block, x):
    return bottleneck(block, x, add=lambda f, _: f + block.downsample(torch.relu(x)))


def main_path_detached_from_x(block, x):
    out = block.relu(block.bn2(block.conv2(block.relu(block.bn1(block.conv1(x.detach()))))))
    return block.relu(block.bn3(block.conv3(out)) + block.downsample(x))


def bn1_applied_again(block, x):
    out = block.relu(block.bn1(block.bn1(block.conv1(x))))
    out = block.relu(block.bn2(block.conv2(out)))
    return block.relu(block.bn3(block.conv3(out)) + block.downsample(x))


def in_evaluation(block, x):
    return bottleneck(block.eval(), x)


def without_the_third(block, x):
    out = block.relu(block.bn1(block.conv1(x)))
    return block.relu(block.bn2(block.conv2(out)) + block.downsample(x))


def first_weight_cut_off(block, x):
    first = F.conv2d(x, block.conv1.weight.detach())
    out = block.relu(block.bn2(block.conv2(block.relu(block.bn1(first)))))
    return block.relu(block.bn3(block.conv3(out)) + block.downsample(x))


# 4.2


def padded(x, out_channels, stride):
    return F.pad(x[:, :, ::stride, ::stride], (0, 0, 0, 0, 0, out_channels - x.shape[1]))


def with_cat(x, out_channels, stride):
    x = x[..., ::stride, ::stride]
    n, c, h, w = x.shape
    return torch.cat([x, x.new_zeros(n, out_channels - c, h, w)], 1)


def written_into_zeros(x, out_channels, stride):
    picked = x[:, :, ::stride, ::stride]
    out = torch.zeros(len(x), out_channels, *picked.shape[2:], dtype=x.dtype)
    out[:, : x.shape[1]] = picked
    return out


def by_pooling(x, out_channels, stride):
    """Pooling with a window of one pixel is slicing."""
    return padded(F.max_pool2d(x, 1, stride), out_channels, 1)


def repeated(x, out_channels, stride):
    x = x[:, :, ::stride, ::stride]
    times = -(-out_channels // x.shape[1])
    return x.repeat(1, times, 1, 1)[:, :out_channels]


def by_a_fixed_kernel(x, out_channels, stride):
    """A 1 x 1 convolution whose kernel is the identity, with empty rows."""
    kernel = torch.eye(out_channels, x.shape[1], dtype=x.dtype)
    return F.conv2d(x, kernel[:, :, None, None], stride=stride)


def random_projection(x, out_channels, stride):
    return nn.Conv2d(x.shape[1], out_channels, 1, stride, bias=False).to(x)(x)


def zeros_between(x, out_channels, stride):
    picked = x[:, :, ::stride, ::stride]
    out = picked.new_zeros(len(x), out_channels, *picked.shape[2:])
    step = max(out_channels // x.shape[1], 1)
    out[:, : x.shape[1] * step : step] = picked
    return out


def behind_the_images(x, out_channels, stride):
    x = x[:, :, ::stride, ::stride]
    return torch.cat([x, x.new_zeros(out_channels - x.shape[1], *x.shape[1:])])


def by_interpolation(x, out_channels, stride):
    size = [-(-side // stride) for side in x.shape[2:]]
    return padded(F.interpolate(x, size=size), out_channels, 1)


def gradient_doubled(x, out_channels, stride):
    out = padded(x, out_channels, stride)
    return 2 * out - out.detach()


# 4.4


def count(i, c, s, norm=2, own=True, projection=True, bias=0, middle=9, outer=1, always=False):
    wide = 4 * c
    total = outer * (i * c + c * wide) + middle * c * c + (norm + bias) * (2 * c + wide)
    needed = always or s != 1 or i != wide
    return total + projection * needed * (i * wide + (norm + bias) * own * wide)


def by_building(i, c, s):
    return sum(p.numel() for p in resnet.Bottleneck(i, c, s).parameters())


def decided_by_stride(i, c, s):
    return count(i, c, s, projection=s != 1)


def by_table(i, c, s):
    layers = [(i, c, 1), (c, c, 3), (c, 4 * c, 1)] + [(i, 4 * c, 1)] * (s != 1 or i != 4 * c)
    return sum(a * b * k * k + 2 * b for a, b, k in layers)


def only_where_it_widens(i, c, s):
    return count(i, c, s, projection=s != 1 or i < 4 * c)


def other_projection(reads=None, gives=4, kernel=1):
    """A count with another projection."""

    def formula(i, c, s):
        project = kernel * (reads(i, c) if reads else i) * gives * c + 2 * gives * c
        return count(i, c, s, projection=False) + (s != 1 or i != 4 * c) * project

    return formula


def basic(i, c, s):
    return 9 * i * c + 9 * c * c + 4 * c + (s != 1 or i != c) * (i * c + 2 * c)


def last_one_wide(i, c, s):
    return count(i, c, s) + 12 * c * c


def fewer_by_stride(i, c, s):
    return count(i, c, s) - 9 * c * c + 9 * c * c // s**2


def wide_input(i, c, s):
    return 17 * c * c + 12 * c + (s != 1 or i != 4 * c) * (16 * c * c + 8 * c)


def not_widened(i, c, s):
    own = 0 if s == 1 and i == c else i * c + 2 * c
    return i * c + 9 * c * c + c * c + 6 * c + own


# 4.5


def mended(block, x):
    out = block.bn1(block.conv1(torch.relu(x)))
    return block.bn2(block.conv2(block.relu(out))) + x


def mended_with_clone(block, x):
    out = block.bn1(block.conv1(block.relu(x.clone())))
    out = block.bn2(block.conv2(block.relu(out)))
    out += x
    return out


def as_it_was(block, x):
    out = block.bn1(block.conv1(block.relu(x)))
    return block.bn2(block.conv2(block.relu(out))) + x


def copied_for_the_shortcut(block, x):
    identity = x.clone()
    out = block.bn1(block.conv1(block.relu(x)))
    return block.bn2(block.conv2(block.relu(out))) + identity


def shortcut_after_relu(block, x):
    x = torch.relu(x)
    return block.bn2(block.conv2(block.relu(block.bn1(block.conv1(x))))) + x


def switched(block, x):
    block.relu.inplace = False
    return as_it_was(block, x)


def detached(block, x):
    out = block.bn1(block.conv1(block.relu(x.detach().clone())))
    return block.bn2(block.conv2(block.relu(out))) + x


def detached_shortcut(block, x):
    return mended(block, x) - x + x.detach()


def clamped(block, x):
    return x + block.bn2(block.conv2(block.relu(block.bn1(block.conv1(x.clamp(min=0))))))


def put_back(block, x):
    saved = x.detach().clone()
    out = as_it_was(block, x)
    with torch.no_grad():
        x.copy_(saved)
    return out


def added_into_x(block, x):
    x += mended(block, x) - x
    return x


def other_layers(conv1="conv1", bn1="bn1", conv2="conv2", bn2="bn2"):
    def forward(block, x):
        out = getattr(block, bn1)(getattr(block, conv1)(torch.relu(x)))
        return getattr(block, bn2)(getattr(block, conv2)(torch.relu(out))) + x

    return forward


def norms_first(block, x):
    out = block.conv1(block.relu(block.bn1(x)))
    return block.conv2(block.relu(block.bn2(out))) + x


def relus_behind(block, x):
    out = block.relu(block.bn1(block.conv1(x)))
    return block.relu(block.bn2(block.conv2(out))) + x


def leaky(block, x):
    out = block.bn1(block.conv1(F.leaky_relu(x, 0.01)))
    return block.bn2(block.conv2(F.leaky_relu(out, 0.01))) + x


def absolute(block, x):
    return block.bn2(block.conv2(block.relu(block.bn1(block.conv1(x.abs()))))) + x


def no_first_relu(block, x):
    return block.bn2(block.conv2(block.relu(block.bn1(block.conv1(x))))) + x


def no_second_relu(block, x):
    return block.bn2(block.conv2(block.bn1(block.conv1(torch.relu(x))))) + x


SHORTCUTS = {"first": (1, 4, 0, 48), "second": (3, 1, 0, 96)}


def into_rounded_down(x, out_channels, stride):
    n, c, h, w = x.shape
    out = torch.zeros(n, out_channels, h // stride, w // stride, dtype=x.dtype)
    out[:, :c] = x[:, :, ::stride, ::stride]
    return out


BANKS = {
    "complete_bottleneck": Bank(
        right=[
            bottleneck,
            in_place_sum,
            lambda block, x: resnet.Bottleneck.forward(block, x),
            lambda block, x: bottleneck(block, x, add=lambda f, s: torch.add(s, f)),
            lambda block, x: bottleneck(block, x, last=lambda y: y.clamp(min=0)),
            by_sequential,
            by_numbers,
        ],
        wrong=[
            (lambda block, x: block(x), "use its parts"),
            (lambda b, x: bottleneck(b, x, add=lambda f, s: f), "the shortcut was never added"),
            (
                lambda b, x: bottleneck(b, x, nn.Identity(), lambda f, s: f),
                "neither the shortcut nor the last ReLU",
            ),
            (lambda b, x: bottleneck(b, x, nn.Identity()), "ReLU after the addition is missing"),
            (
                lambda b, x: bottleneck(b, x, nn.Identity(), lambda f, s: torch.relu(f) + s),
                "stands before the addition",
            ),
            (
                lambda b, x: bottleneck(b, x, add=lambda f, s: torch.relu(f) + s),
                "before *and* after",
            ),
            (lambda b, x: bottleneck(b, x, add=lambda f, s: f + s + s), "added twice"),
            (
                lambda b, x: bottleneck(b, x, add=lambda f, s: f + torch.relu(s)),
                "a ReLU of its own",
            ),
            (lambda b, x: bottleneck(b, x, add=lambda f, s: f - s), "the shortcut was subtracted"),
            (lambda b, x: bottleneck(b, x, add=lambda f, s: f * s), "multiplied, and not added"),
            (
                lambda b, x: bottleneck(b, x, add=lambda f, s: f + s.detach()),
                "arrives at `downsample",
            ),
            (lambda b, x: bottleneck(b, x, add=lambda f, s: f + 3 * s), "where the gap is"),
            (first_weight_cut_off, "arrives at `conv1.weight`"),
            (norm_after_relu, "before its batch norm"),
            (everything_named_x, "under its own name"),
            (bn1_twice, "`bn1` ran twice"),
            (relu_first, "came in, on both paths"),
            (runs_twice, "is another afterwards"),
            (lambda b, x: bottleneck(b, x, torch.sigmoid), "another function than a ReLU"),
            (lambda b, x: bottleneck(b, x).float(), "in another type than they came in"),
            (lambda b, x: bottleneck(b, x, add=lambda f, s: f + s / 2), "was halved"),
            (
                lambda b, x: bottleneck(b, x, add=lambda f, s: torch.cat([f, s], 1)),
                "twice the channels",
            ),
            (lambda b, x: bottleneck(b, x)[:, :, 1:], "Expected shape"),
            (with_norms("bn2", "bn1"), "changed places"),
            (bn1_applied_again, "`bn1` ran more than once"),
            (in_evaluation, "in another mode afterwards"),
            (without_the_third, "`conv3` and `bn3` had not run"),
            (with_norms("bn2", "bn2"), "`bn2` ran twice"),
            (without_bn2, "`bn2` is missing"),
            (added_before_bn3, "was added before `bn3`"),
            (without_conv2, "was left out"),
            (two_shortcuts, "a second shortcut"),
            (x_lost_on_the_way, "another number of channels than it takes"),
            (with_norms("bn3", "bn2"), "another number of channels than it takes"),
            (relu_on_the_way_to_the_projection, "got relu(x)"),
            (main_path_detached_from_x, "back to x through the main path"),
            (lambda b, x: bottleneck(b, x, add=lambda f, s: f + f), "added to itself"),
            (lambda b, x: bottleneck(b, x, add=lambda f, s: s - f), "the main path was subtracted"),
            (lambda b, x: bottleneck(b, x, add=lambda f, s: (f + s) / 2), "mean of the two paths"),
            (adds_x_itself, "was skipped"),
            (no_relus_between, "no ReLU between"),
            (first_relu_missing, "the first ReLU is missing"),
            (second_relu_missing, "the second ReLU is missing"),
            (without_bn3, "`bn3` is missing"),
            (without_norms, "the batch norms are missing"),
            (input_overwritten, "overwrote its own input"),
            (without_gradient, "carries no gradient"),
            (forgets_return, "end with `return`"),
            (lambda b, x: b.nothing(x), "the code stopped"),
        ],
    ),
    "pad_shortcut": Bank(
        right=[padded, with_cat, written_into_zeros, by_pooling, by_a_fixed_kernel],
        wrong=[
            (lambda x, c, s: x[:, :, ::s, ::s], "channels of zeros are missing"),
            (lambda x, c, s: padded(x, c, 1), "have not changed"),
            (lambda x, c, s: padded(x, c + x.shape[1], s), "not `out_channels` more"),
            (lambda x, c, s: padded(x[:, :, ::s], c, 1), "both take the step"),
            (lambda x, c, s: padded(F.avg_pool2d(x, s), c, 1), "mean of neighbouring pixels"),
            (
                lambda x, c, s: padded(F.max_pool2d(x, s, ceil_mode=True), c, 1),
                "maximum of neighbouring",
            ),
            (
                lambda x, c, s: padded(
                    x[:, :, : x.shape[2] // s * s : s, : x.shape[3] // s * s : s], c, 1
                ),
                "*and* 6 of 7",
            ),
            (
                lambda x, c, s: F.pad(x[:, :, ::s, ::s], (0, 0, 0, c - x.shape[1])),
                "edge of the image",
            ),
            (
                lambda x, c, s: F.pad(x[:, :, ::s, ::s], (0, 0, 0, 0, c - x.shape[1], 0)),
                "stride 2: the zeros stand before",
            ),
            (lambda x, c, s: resnet.PadShortcut(x.shape[1], c, s)(x), "half of the zeros"),
            (
                lambda x, c, s: padded(x[:, :, : -(-x.shape[2] // s), : -(-x.shape[3] // s)], c, 1),
                "top left corner",
            ),
            (lambda x, c, s: padded(x[:, :, s - 1 :: s, s - 1 :: s], c, 1), "starts at another"),
            (repeated, "must hold zeros"),
            (lambda x, c, s: padded(x.detach(), c, s), "No gradient flows back"),
            (gradient_doubled, "not that of a copy"),
            (lambda x, c, s: padded(x, c, s)[0], "keep the four axes"),
            (lambda x, c, s: padded(x.mul_(2), c, s), "in-place"),
            (lambda x, c, s: 2 * padded(x, c, s), "twice what it should be"),
            (lambda x, c, s: padded(x, c, 2), "that of another stride"),
            (lambda x, c, s: padded(x[::s], c, s), "number of images has changed"),
            (lambda x, c, s: 5 * padded(x, c, s), "no pixels of x"),
            (lambda x, c, s: padded(x.flip(3), c, s), "but not the right ones"),
            (lambda x, c, s: padded(x, c, s).flip(1), "but in another order"),
            (lambda x, c, s: padded(x, 2 * x.shape[1], s), "as many channels were added"),
            (lambda x, c, s: padded(x.relu(), c, s), "the negative numbers are gone"),
            (
                lambda x, c, s: torch.cat(
                    [x[:, :, ::s, ::s], x.new_zeros(len(x), c - x.shape[1], *x.shape[2:])], 1
                ),
                "cannot put together",
            ),
            (lambda x, c, s: nn.Conv2d(x.shape[1], c, 1, s)(x), "must have the type of x"),
            (random_projection, "Called twice with the same x"),
            (zeros_between, "stand between the old channels"),
            (behind_the_images, "put behind the images"),
            (by_interpolation, "because the side is odd"),
            (into_rounded_down, "fit into the place that was made"),
        ],
    ),
    "make_them_agree": Bank(
        right=[
            SHORTCUTS,
            {"first": [1, 4, 0, 48], "second": (5, 1, 1, 96)},
            {"first": (1, 4, 0, torch.tensor(48)), "second": (7, 1, 2, 96), "third": None},
            {"second": (1, 2, 13, 96), "first": (1, 4.0, 0, 48)},
            {"first": (1, 4, 0, 48), "second": (2, 2, 13, 96)},
        ],
        wrong=[
            (SHORTCUTS | {"first": (1, 2, 0, 48)}, "halves *twice*"),
            (SHORTCUTS | {"first": (1, 3, 0, 48)}, "not two halvings"),
            (SHORTCUTS | {"first": (3, 4, 1, 48)}, "1 × 1 convolution without"),
            (SHORTCUTS | {"first": (1, 4, 0, 32)}, "come *in*"),
            (SHORTCUTS | {"first": (1, 4, 0, 64)}, "the path's *last* convolution"),
            (SHORTCUTS | {"second": (3, 1, 0, 24)}, "in the middle of the path"),
            (SHORTCUTS | {"second": (1, 1, 0, 96)}, "loses no pixels"),
            (SHORTCUTS | {"second": (3, 1, 1, 96)}, "padding keeps"),
            (SHORTCUTS | {"second": (3, 2, 0, 96)}, "28), your shortcut (96, 14, 14): a stride"),
            (SHORTCUTS | {"second": (2, 1, 0, 96)}, "lost here, and two"),
            (SHORTCUTS | {"second": (5, 1, 0, 96)}, "lost here, and two"),
            (SHORTCUTS | {"second": (3, 1, 0, 120)}, "the path's *last* convolution"),
            (SHORTCUTS | {"second": (96, 3, 1, 0)}, "in another order"),
            (SHORTCUTS | {"first": (1, 0, 4, 48)}, "in another order"),
            (SHORTCUTS | {"first": (48, 1, 4, 0)}, "in another order"),
            (SHORTCUTS | {"first": (48, 8, 8)}, "the shape that comes out"),
            ({"first": (3, 1, 0, 96), "second": (1, 4, 0, 48)}, "are swapped"),
            (SHORTCUTS | {"first": (4, 1, 0, 48)}, "in another order"),
            (SHORTCUTS | {"second": (1, 3, 0, 96)}, "in another order"),
            (SHORTCUTS | {"second": (5, 3, 0, 50)}, "neither the channels"),
            (SHORTCUTS | {"second": (40, 1, 0, 96)}, "does not fit"),
            (SHORTCUTS | {"second": (3, 1, 96)}, 'for "second", got ('),
            (SHORTCUTS | {"second": (3, 0, 0, 96)}, "whole, positive"),
            ({"first": (1, 4, 0, 48)}, "key is missing"),
            ([1, 4, 0, 48], "Expected a dictionary"),
        ],
    ),
    "count_bottleneck": Bank(
        right=[
            count,
            by_building,
            by_table,
            lambda i, c, s: torch.tensor(count(i, c, s)),
            lambda i, c, s: (
                c * (5 * i + 9 * c + 4 * c + 20)
                - 4 * i * c
                + 4 * i * c * (s != 1 or i != 4 * c)
                - 8 * c * (s == 1 and i == 4 * c)
            ),
        ],
        wrong=[
            (lambda i, c, s: count(i, c, s, norm=0, projection=False), "main path alone"),
            (decided_by_stride, "the projection is missing"),
            (only_where_it_widens, "the projection is missing"),
            (other_projection(gives=1), "as the main path does"),
            (other_projection(kernel=9), "not 3 × 3"),
            (other_projection(reads=lambda i, c: c), "the projection reads `in_channels`"),
            (basic, "that is a basic block"),
            (last_one_wide, "the last convolution reads `channels`"),
            (fewer_by_stride, "and no weights"),
            (wide_input, "neither does the projection's"),
            (lambda i, c, s: count(i, c, s, own=False), "batch norm of its own"),
            (lambda i, c, s: count(i, c, s, norm=1), "*two* numbers per channel"),
            (lambda i, c, s: count(i, c, s, norm=4), "running statistics"),
            (lambda i, c, s: count(i, c, s) - 6 * c, "the last batch norm"),
            (lambda i, c, s: count(i, c, s, always=True), "is the identity and has"),
            (lambda i, c, s: count(i, c, s, bias=1), "no biases"),
            (lambda i, c, s: count(i, c, s, outer=9), "only the middle kernel"),
            (lambda i, c, s: count(i, c, s, middle=3), "not three"),
            (lambda i, c, s: count(i, c, s, middle=1), "nine times as much"),
            (not_widened, "the last convolution gives out"),
            (lambda i, c, s: 1, "the same number for blocks"),
            (lambda i, c, s: i + c, "got 144."),
            (lambda i, c, s: count(i, c, s) / 1e6, "in millions"),
            (lambda i, c, s: (s != 1 or i != 4 * c) * (4 * i * c + 8 * c), "projection alone"),
            (lambda i, c, s: None, "end with `return`"),
            (lambda i, c, s: f"{count(i, c, s):,}", "Expected a number"),
        ],
    ),
    "mended_forward": Bank(
        right=[
            mended,
            mended_with_clone,
            lambda block, x: x + mended(block, x) - x,
            lambda block, x: mended(block, x.clone()),
            clamped,
        ],
        wrong=[
            (lambda block, x: block(x), "use its parts"),
            (as_it_was, "still overwrites x"),
            (copied_for_the_shortcut, "the sum is right, but"),
            (shortcut_after_relu, "still adds relu(x), not x"),
            (switched, "stays as it is"),
            (put_back, "its old numbers were put back"),
            (added_into_x, "the sum is right, but"),
            (other_layers(bn1="bn2", bn2="bn1"), "changed places"),
            (other_layers(conv2="conv1"), "`conv1` ran twice"),
            (norms_first, "the batch norms went to the front"),
            (relus_behind, "to the end of the main path"),
            (absolute, "`abs` is no ReLU"),
            (leaky, "a leaky ReLU"),
            (lambda block, x: mended(block.eval(), x), "in another mode afterwards"),
            (detached, "through the main path"),
            (no_first_relu, "the first ReLU is gone"),
            (no_second_relu, "the second ReLU is gone"),
            (lambda block, x: mended(block, x) - x, "the shortcut is missing"),
            (lambda block, x: torch.relu(mended(block, x)), "came in"),
            (lambda block, x: torch.relu(no_first_relu(block, x)), "the original order"),
            (lambda block, x: 2 * mended(block, x), "twice what it should be"),
            (lambda block, x: 5 * mended(block, x), "where the gap is largest"),
            (lambda block, x: mended(block, x) - 2 * x, "the shortcut was subtracted"),
            (detached_shortcut, "through the shortcut"),
            (lambda block, x: mended(block, x).detach(), "carries no gradient"),
            (lambda block, x: mended(block, x)[:, :1], "Expected shape"),
        ],
    ),
    "wrong_gamma": Bank(
        right=[{"bn2.bias"}, ["bn2.bias"], ("bn2.bias",), "bn2.bias", frozenset({"bn2.bias"})],
        wrong=[
            ({"bn2.weight", "bn2.bias"}, "it multiplies the normalized"),
            ({"bn1.weight", "bn2.bias"}, "would have to pass a ReLU"),
            ({"bn1.bias", "bn2.bias"}, "it moves the ReLU's input"),
            ({"conv2.weight", "bn2.bias"}, "its input is zero everywhere"),
            ({"conv1.weight", "bn2.bias"}, "come back through γ"),
            (set(), "*added* to the output"),
            (
                {
                    "conv1.weight",
                    "bn1.weight",
                    "bn1.bias",
                    "conv2.weight",
                    "bn2.weight",
                    "bn2.bias",
                },
                "Not all six",
            ),
            ({"gamma"}, "is not a parameter"),
            (set("bn2.bias"), "takes a text apart"),
            ({"conv2.bias", "bn2.bias"}, "have no bias"),
            ({"bn2.bias": True}, "Expected a set of parameter names"),
        ],
    ),
}
