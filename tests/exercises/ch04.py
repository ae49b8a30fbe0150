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


def no_first_relu(block, x):
    return block.bn2(block.conv2(block.relu(block.bn1(block.conv1(x))))) + x


def no_second_relu(block, x):
    return block.bn2(block.conv2(block.bn1(block.conv1(torch.relu(x))))) + x


SHORTCUTS = {"first": (1, 4, 0, 48), "second": (3, 1, 0, 96)}

BANKS = {
    "complete_bottleneck": Bank(
        right=[
            bottleneck,
            in_place_sum,
            lambda block, x: resnet.Bottleneck.forward(block, x),
            lambda block, x: bottleneck(block, x, add=lambda f, s: torch.add(s, f)),
            lambda block, x: bottleneck(block, x, last=lambda y: y.clamp(min=0)),
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
            (lambda b, x: bottleneck(b, x, add=lambda f, s: f - s), "was subtracted"),
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
            (
                lambda b, x: bottleneck(b, x, add=lambda f, s: torch.cat([f, s], 1)),
                "Expected shape",
            ),
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
        right=[padded, with_cat, written_into_zeros, by_pooling],
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
                "numbers: the zeros stand before",
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
            (lambda x, c, s: 5 * padded(x, c, s), "where the gap is largest"),
        ],
    ),
    "make_them_agree": Bank(
        right=[
            SHORTCUTS,
            {"first": [1, 4, 0, 48], "second": (5, 1, 1, 96)},
            {"first": (1, 4, 0, torch.tensor(48)), "second": (7, 1, 2, 96), "third": None},
            {"second": (1, 2, 13, 96), "first": (1, 4.0, 0, 48)},
        ],
        wrong=[
            (SHORTCUTS | {"first": (1, 2, 0, 48)}, "halves *twice*"),
            (SHORTCUTS | {"first": (1, 3, 0, 48)}, "not two halvings"),
            (SHORTCUTS | {"first": (3, 4, 1, 48)}, "1 × 1 convolution without"),
            (SHORTCUTS | {"first": (1, 4, 0, 32)}, "come *in*"),
            (SHORTCUTS | {"first": (1, 4, 0, 64)}, "the channels do not"),
            (SHORTCUTS | {"second": (3, 1, 0, 24)}, "in the middle of the path"),
            (SHORTCUTS | {"second": (1, 1, 0, 96)}, "loses no pixels"),
            (SHORTCUTS | {"second": (3, 1, 1, 96)}, "padding keeps"),
            (SHORTCUTS | {"second": (3, 2, 0, 96)}, "the channels fit"),
            (SHORTCUTS | {"second": (48, 3, 1, 0)}, "whole, positive"),
            (SHORTCUTS | {"first": (48, 1, 4, 0)}, "whole, positive"),
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
            (decided_by_stride, "this shape needs one"),
            (lambda i, c, s: count(i, c, s, own=False), "batch norm of its own"),
            (lambda i, c, s: count(i, c, s, norm=1), "*two* numbers per channel"),
            (lambda i, c, s: count(i, c, s, norm=4), "running statistics"),
            (lambda i, c, s: count(i, c, s) - 6 * c, "the last batch norm"),
            (lambda i, c, s: count(i, c, s, always=True), "is the identity and has"),
            (lambda i, c, s: count(i, c, s, bias=1), "no biases"),
            (lambda i, c, s: count(i, c, s, outer=9), "only the middle kernel"),
            (lambda i, c, s: count(i, c, s, middle=3), "not three"),
            (lambda i, c, s: count(i, c, s, middle=1), "nine times as much"),
            (not_widened, "gives out `4 * channels`"),
            (lambda i, c, s: 1, "got 1."),
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
        ],
        wrong=[
            (lambda block, x: block(x), "use its parts"),
            (as_it_was, "still overwrites x"),
            (copied_for_the_shortcut, "the sum is right, but"),
            (shortcut_after_relu, "still adds relu(x), not x"),
            (switched, "stays as it is"),
            (detached, "cuts one of the two paths"),
            (no_first_relu, "the first ReLU is gone"),
            (no_second_relu, "the second ReLU is gone"),
            (lambda block, x: mended(block, x) - x, "the shortcut is missing"),
            (lambda block, x: torch.relu(mended(block, x)), "came in"),
            (lambda block, x: torch.relu(no_first_relu(block, x)), "the original order"),
            (lambda block, x: 2 * mended(block, x), "where the gap is largest"),
            (lambda block, x: mended(block, x) - 2 * x, "was subtracted"),
            (detached_shortcut, "cuts one of the two paths"),
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
            ({"bn2.bias": True}, "Expected a set"),
        ],
    ),
}
