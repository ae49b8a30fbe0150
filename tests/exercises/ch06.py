"""Answers to the exercises of chapter 06."""

import copy
import math
import random
from collections import OrderedDict

import numpy
import torch
from bank import Bank
from torch import nn

from resnet_course import resnet
from resnet_course.exercises.ch06 import CHOICES


def depth(kind, blocks, basic=2, bottleneck=3, outside=2):
    return {"basic": basic, "bottleneck": bottleneck}[kind] * sum(blocks) + outside


def projections(kind, blocks):
    return len(blocks) - (kind == "basic")


def four_names(kind, blocks):
    a, b, c, d = blocks
    return depth(kind, [a, b, c, d])


PAPERS = {
    ("basic", (3, 4, 6, 3)): 34,
    ("basic", (2, 2, 2, 2)): 18,
    ("bottleneck", (3, 4, 6, 3)): 50,
    ("bottleneck", (3, 4, 23, 3)): 101,
    ("bottleneck", (3, 8, 36, 3)): 152,
}


def depth_in_place(kind, blocks):
    total = 0
    while blocks:
        total += blocks.pop()
    return {"basic": 2, "bottleneck": 3}[kind] * total + 2


def right_stage(block, in_channels, channels, num_blocks, stride):
    blocks = [block(in_channels, channels, stride)]
    for _ in range(num_blocks - 1):
        blocks.append(block(channels * block.expansion, channels, 1))
    return nn.Sequential(*blocks)


def grown_stage(block, in_channels, channels, num_blocks, stride):
    stage = nn.Sequential()
    for number in range(num_blocks):
        stage.append(block(in_channels, channels, stride if number == 0 else 1))
        in_channels = channels * block.expansion
    return stage


def copied_stage(block, in_channels, channels, num_blocks, stride):
    first = block(in_channels, channels, stride)
    other = block(channels * block.expansion, channels)
    return nn.Sequential(first, *[copy.deepcopy(other) for _ in range(num_blocks - 1)])


def one_block_many_times(block, in_channels, channels, num_blocks, stride):
    other = block(channels * block.expansion, channels)
    return nn.Sequential(block(in_channels, channels, stride), *[other] * (num_blocks - 1))


def strides_everywhere(block, in_channels, channels, num_blocks, stride):
    others = [block(channels * block.expansion, channels, stride) for _ in range(num_blocks - 1)]
    return nn.Sequential(block(in_channels, channels, stride), *others)


def stride_in_the_others(block, in_channels, channels, num_blocks, stride):
    others = [block(channels * block.expansion, channels, stride) for _ in range(num_blocks - 1)]
    return nn.Sequential(block(in_channels, channels), *others)


def stride_nowhere(block, in_channels, channels, num_blocks, stride):
    return right_stage(block, in_channels, channels, num_blocks, 1)


def stride_last(block, in_channels, channels, num_blocks, stride):
    blocks = [block(in_channels, channels, 1 if num_blocks > 1 else stride)]
    for number in range(1, num_blocks):
        last = number == num_blocks - 1
        blocks.append(block(channels * block.expansion, channels, stride if last else 1))
    return nn.Sequential(*blocks)


def no_expansion(block, in_channels, channels, num_blocks, stride):
    others = [block(channels, channels) for _ in range(num_blocks - 1)]
    return nn.Sequential(block(in_channels, channels, stride), *others)


def one_too_many(block, in_channels, channels, num_blocks, stride):
    return right_stage(block, in_channels, channels, num_blocks + 1, stride)


def always_basic(block, in_channels, channels, num_blocks, stride):
    return right_stage(resnet.BasicBlock, in_channels, channels, num_blocks, stride)


def expanded_twice(block, in_channels, channels, num_blocks, stride):
    return right_stage(block, in_channels, channels * block.expansion, num_blocks, stride)


def growing(block, in_channels, channels, num_blocks, stride):
    blocks = []
    for number in range(num_blocks):
        blocks.append(block(in_channels, channels * 2**number, 1 if number else stride))
        in_channels = channels * 2**number * block.expansion
    return nn.Sequential(*blocks)


def pooled_first(block, in_channels, channels, num_blocks, stride):
    stage = right_stage(block, in_channels, channels, num_blocks, 1)
    return nn.Sequential(nn.MaxPool2d(stride, ceil_mode=True), *stage)


def taking_turns(block, in_channels, channels, num_blocks, stride):
    pair = [block(channels * block.expansion, channels) for _ in range(2)]
    others = [pair[i % 2] for i in range(num_blocks - 1)]
    return nn.Sequential(block(in_channels, channels, stride), *others)


def with_an_extra_norm(block, in_channels, channels, num_blocks, stride):
    stage = right_stage(block, in_channels, channels, num_blocks, stride)
    return nn.Sequential(*stage, nn.BatchNorm2d(channels * block.expansion))


def with_an_extra_sigmoid(block, in_channels, channels, num_blocks, stride):
    stage = right_stage(block, in_channels, channels, num_blocks, stride)
    return nn.Sequential(*stage, nn.Sigmoid())


class OwnStage(nn.Module):
    def __init__(self, block, in_channels, channels, num_blocks, stride):
        super().__init__()
        self.blocks = nn.ModuleList(
            block(in_channels if i == 0 else channels * block.expansion, channels, step)
            for i, step in enumerate([stride] + [1] * (num_blocks - 1))
        )

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return x


def with_shared_weights(*arguments):
    stage = right_stage(*arguments)
    for block in stage[2:]:
        block.conv2 = stage[1].conv2
    return stage


def frozen(*arguments):
    return right_stage(*arguments).requires_grad_(False)


def always_two(block, in_channels, channels, num_blocks, stride):
    return right_stage(block, in_channels, channels, num_blocks, 2)


def by_channels(block, in_channels, channels, num_blocks, stride):
    stride = 2 if in_channels != channels * block.expansion else 1
    return right_stage(block, in_channels, channels, num_blocks, stride)


class InEvaluation(nn.Module):
    def forward(self, x):
        return x if self.training else x / 2


def with_a_dropout_in_evaluation(*arguments):
    return nn.Sequential(*right_stage(*arguments), InEvaluation())


def as_a_list(block, in_channels, channels, num_blocks, stride):
    return list(right_stage(block, in_channels, channels, num_blocks, stride))


def rename(state):
    return {
        name.removeprefix("module.").replace("linear.", "fc."): value
        for name, value in state.items()
    }


def by_position(state):
    return dict(zip(resnet.cifar_resnet(8).state_dict(), state.values(), strict=True))


def rename_in_place(state):
    for name in list(state):
        state[name.removeprefix("module.").replace("linear.", "fc.")] = state.pop(name)
    return state


def in_a_loop(state):
    new = OrderedDict()
    for name in state:
        _, *rest = name.split(".")
        rest[0] = {"linear": "fc"}.get(rest[0], rest[0])
        new[".".join(rest)] = state[name]
    return new


def by_order(state):
    """Sorts names and values apart from each other."""
    return dict(zip(sorted(rename(state)), state.values(), strict=True))


def both_names(state):
    new = rename(state)
    return new | {"linear.weight": new["fc.weight"]}


def mapped(state, change):
    return {change(name): value for name, value in state.items()}


def only(state, keep):
    return {name: value for name, value in rename(state).items() if keep(name)}


def swapped(state):
    new = rename(state)
    new["bn1.running_mean"], new["bn1.running_var"] = new["bn1.running_var"], new["bn1.bias"]
    return new


def shuffled(state):
    names = list(rename(state))
    return dict(zip(names[1:] + names[:1], state.values(), strict=True))


def zeroed(state):
    return {name: value * 0 for name, value in rename(state).items()}


class Every(nn.Module):
    """One pixel of each 2 x 2 square, at this place."""

    def __init__(self, row, column):
        super().__init__()
        self.row, self.column = row, column

    def forward(self, x):
        return x[:, :, self.row :: 2, self.column :: 2]


class Three(nn.Module):
    """The mean of three pixels of each square."""

    def forward(self, x):
        return (x[:, :, ::2, ::2] + x[:, :, ::2, 1::2] + x[:, :, 1::2, ::2]) / 3


class Half(nn.Module):
    """The mean of the upper two pixels of each square."""

    def forward(self, x):
        return (x[:, :, ::2, ::2] + x[:, :, ::2, 1::2]) / 2


def without_learned(in_channels, out_channels):
    pool, conv, _ = pooled(in_channels, out_channels)
    return nn.Sequential(pool, conv, nn.BatchNorm2d(out_channels, affine=False))


def pooled(in_channels, out_channels, pool=None, norm=True, kernel=1, stride=1, bias=False, four=1):
    parts = [
        pool or nn.AvgPool2d(2),
        nn.Conv2d(four * in_channels, out_channels, kernel, stride, kernel // 2, bias=bias),
    ]
    return nn.Sequential(*parts, nn.BatchNorm2d(out_channels)) if norm else nn.Sequential(*parts)


class Shuffle(nn.Module):
    """The mean of four pixels by slicing, then the package's projection."""

    def __init__(self, in_channels, out_channels):
        super().__init__()
        self.inner = resnet.projection(in_channels, out_channels, 1)

    def forward(self, x):
        return self.inner(sum(x[:, :, i::2, j::2] for i in (0, 1) for j in (0, 1)) / 4)


def wide_kernel(in_channels, out_channels, kernel):
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel, 2, (kernel - 1) // 2, bias=False),
        nn.BatchNorm2d(out_channels),
    )


def norm_before(in_channels, out_channels):
    return nn.Sequential(
        nn.AvgPool2d(2),
        nn.Conv2d(in_channels, out_channels, 1, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(),
    )


def norm_first(in_channels, out_channels):
    return nn.Sequential(
        nn.BatchNorm2d(in_channels),
        nn.AvgPool2d(2),
        nn.Conv2d(in_channels, out_channels, 1, bias=False),
    )


COSTS = {  # depth: parameters, multiply-adds and kept bytes of one image of 224 x 224
    18: (11_689_512, 1_814_073_344, 21_575_680),
    34: (21_797_672, 3_663_761_408, 31_610_880),
    50: (25_557_032, 4_089_184_256, 85_299_200),
    101: (44_549_160, 7_801_405_440, 126_242_816),
    152: (60_192_808, 11_513_626_624, 176_820_224),
}


def choose_in_a_loop(costs, batch, memory, limit):
    deepest = 0
    for depth, (parameters, cost, kept) in costs.items():
        if 12 * parameters + batch * kept <= memory and cost <= limit:
            deepest = max(deepest, depth)
    return deepest


def choose_backwards(costs, batch, memory, limit):
    for depth in sorted(costs, reverse=True):
        parameters, cost, kept = costs[depth]
        if cost / 1e9 <= limit / 1e9 and (12 * parameters + kept * batch) / 2**30 <= memory / 2**30:
            return depth
    return None


def choose_in_gigabytes(costs, batch, memory, limit):
    fits = {
        depth: 3 * 4 * parameters / 1e9 + batch * kept / 1e9 <= memory / 1e9 and cost <= limit
        for depth, (parameters, cost, kept) in costs.items()
    }
    return max(filter(fits.get, costs))


def choose_and_empty(costs, batch, memory, limit):
    for depth in sorted(costs, reverse=True):
        parameters, cost, kept = costs.pop(depth)
        if cost <= limit and 12 * parameters + kept * batch <= memory:
            return depth
    return None


def choose_and_delete(costs, batch, memory, limit):
    for depth, (parameters, cost, kept) in list(costs.items()):
        if cost > limit or 12 * parameters + kept * batch > memory:
            del costs[depth]
    return max(costs)


def columns_exchanged(costs, batch, memory, limit):
    return max(d for d, (p, m, k) in costs.items() if 12 * p + batch * m <= memory and k <= limit)


def two_mistakes(costs, batch, memory, limit):
    return max((d for d, (p, m, k) in costs.items() if 8 * p + batch * k <= memory), default=None)


def the_middle_one(costs, batch, memory, limit):
    good = [d for d, (p, m, k) in costs.items() if 12 * p + batch * k <= memory and m <= limit]
    return sorted(good)[(len(good) - 1) // 2]


def choose_or_fail(costs, batch, memory, limit):
    return max(d for d, (p, m, k) in costs.items() if batch * (12 * p + k) <= memory and m <= limit)


def from_zero_and_exact(costs, batch, memory, limit):
    fitting = [0]
    for depth, (p, work, kept) in costs.items():
        if 12 * p + batch * kept < memory and work < limit:
            fitting.append(depth)
    return max(fitting)


def the_five_known(costs, batch, memory, limit):
    for depth in (152, 101, 50, 34, 18):
        p, work, kept = costs[depth]
        if 12 * p + batch * kept <= memory and work <= limit:
            return depth
    return None


BANKS = {
    "depth_of": Bank(
        right=[
            depth,
            lambda kind, blocks: torch.tensor(depth(kind, blocks)),
            lambda kind, blocks: 1 + (2 + (kind == "bottleneck")) * sum(blocks) + 1,
            lambda kind, blocks: (
                numpy.int64(sum(2 if kind == "basic" else 3 for _ in range(1))) * numpy.sum(blocks)
                + 2.0
            ),
        ],
        wrong=[
            (lambda k, b: depth(k, b, bottleneck=2), "has three convolutions, not two"),
            (lambda k, b: depth(k, b, basic=3), "has two convolutions, not three"),
            (lambda k, b: depth(k, b, outside=0), "and the linear layer at the end are missing"),
            (lambda k, b: depth(k, b, outside=1), "there is one before and one after"),
            (lambda k, b: depth(k, b) + projections(k, b), "lie beside the main path"),
            (lambda k, b: depth(k, b) + len(b), "what lies beside the main path"),
            (lambda k, b: depth(k, [1] * len(b)), "as its entry in the list says"),
            (lambda k, b: depth(k, b, outside=3), "one too many"),
            (lambda k, b: depth(k, b, bottleneck=4), "expansion of channels"),
            (lambda k, b: sum(b), "that is the number of blocks"),
            (lambda k, b: sum(b) + 2, "with all its convolutions"),
            (lambda k, b: 2 * depth(k, b) - 1, "batch norm has learned numbers"),
            (lambda k, b: depth(k, b, outside=4), "two too many"),
            (lambda k, b: depth(k, b, 2, 3, 2 * len(b)), "not in every stage"),
            (lambda k, b: depth(k, b[1:]), "one of the stages is missing"),
            (lambda k, b: depth(k, b[:-1]), "one of the stages is missing"),
            (lambda k, b: 6 * b[0] + 2, "the rule of the CIFAR networks"),
            (lambda k, b: {"basic": 2, "bottleneck": 3}[k] * (sum(b) + 2), "two too many"),
            (lambda k, b: depth(k, [max(b)]), "of the longest alone"),
            (lambda k, b: depth(k, [math.prod(b)]), "their blocks add up"),
            (lambda k, b: len(b), "the number of stages"),
            (lambda k, b: 12345, "Expected 34 for basic blocks [3, 4, 6, 3], got 12,345."),
            (lambda k, b: 2 * depth(k, b) - 3, "Expected 34 for basic blocks [3, 4, 6, 3], got 65"),
            (lambda k, b: depth(k, b[:4]), "only the first four"),
            (lambda k, b: depth(k, [b[i] for i in range(4)]), "only the first four"),
            (lambda k, b: depth(k, [b[i] for i in range(max(4, len(b)))]), "(IndexError)"),
            (four_names, "(ValueError)"),
            (lambda k, b: PAPERS[k, tuple(b)], "(KeyError)"),
            (lambda k, b: f"ResNet-{depth(k, b)}", "got 'ResNet-34'."),
            (lambda k, b: str(depth(k, b)), "write 34, without quotes"),
            (depth_in_place, "changed its input"),
            (lambda k, b: None, "end with `return`"),
        ],
    ),
    "predict_sizes": Bank(
        right=[
            [49, 25, 25, 13, 7, 4],
            (49, 25, 25, 13, 7, 4.0),
            torch.tensor([49, 25, 25, 13, 7, 4]),
            numpy.array([49, 25, 25, 13, 7, 4]),
        ],
        wrong=[
            ([48, 24, 24, 12, 6, 3], "After conv1 you have 48: with its padding"),
            ([49, 24, 24, 12, 6, 3], "After maxpool you have 24: with its padding"),
            ([49, 25, 13, 7, 4, 2], "keeps the size"),
            ([49, 25, 12, 6, 3, 2], "keeps the size"),
            ([49, 49, 49, 25, 13, 7], "max pooling has stride 2"),
            ([49, 25, 25, 25, 13, 7], "cannot stay 25"),
            ([49, 25, 25, 13, 13, 7], "cannot stay 13"),
            ([49, 25, 25, 13, 7, 3], "After layer4 you have 3: with its padding"),
            ([97, 49, 49, 25, 13, 7], "the first convolution has stride 2"),
            ([46, 23, 23, 12, 6, 3], "has padding 3"),
            ([48.5, 24.25, 24.25, 12, 6, 3], "whole number of pixels"),
            ([112, 56, 56, 28, 14, 7], "the paper's table for 224"),
            ([25, 13, 13, 7, 4, 2], "what two halvings leave"),
            ([50, 25, 25, 13, 7, 4], "one too many: from 97"),
            ([51, 25, 25, 13, 7, 4], "gave 97 and this one has stride 2"),
            ([97, 49, 25, 25, 13, 7], "the image's own side"),
            ([4, 7, 13, 25, 25, 49], "in the opposite order"),
            ([64, 64, 64, 128, 256, 512], "the channels of the maps"),
            ([49, 25, 25, 13, 7, 1], "comes after the last stage"),
            ([2401, 625, 625, 169, 49, 16], "the side is asked for"),
            ([49, 25, 13], "got 3: [49, 25"),
            (4, "Expected a list of 6 numbers for the sides, got 4"),
        ],
    ),
    "deepest_that_fits": Bank(
        given=(COSTS,),
        right=[
            choose_in_a_loop,
            lambda costs, batch, memory, limit: torch.tensor(
                choose_in_a_loop(costs, batch, memory, limit)
            ),
            choose_backwards,
            choose_in_gigabytes,
        ],
        wrong=[
            (CHOICES["weights alone"], "a gradient and a momentum beside each weight"),
            (CHOICES["no momentum"], "the momentum is not."),
            (CHOICES["as with Adam"], "what Adam keeps"),
            (CHOICES["no bytes"], "a number of 4 bytes, and the budget is in bytes"),
            (CHOICES["parameters as bytes"], "not one byte"),
            (CHOICES["kept alone"], "momentum need memory, too"),
            (CHOICES["nothing kept"], "for the backward pass is missing"),
            (CHOICES["one image"], "kept for every image"),
            (CHOICES["all times the batch"], "fits: weights, gradients and momentum are"),
            (choose_or_fail, "fits: weights, gradients and momentum are"),
            (CHOICES["bytes twice"], "in bytes already"),
            (CHOICES["kept three times"], "a map is kept once"),
            (CHOICES["limit of a batch"], "for one image, whatever the batch"),
            (CHOICES["no limit"], "fits: the limit of multiply-adds was not asked"),
            (CHOICES["no memory"], "the memory was not asked"),
            (CHOICES["either"], "not one of them"),
            (CHOICES["shallowest"], "the shallowest network that fits"),
            (CHOICES["weights times the batch"], "multiplies what each image keeps"),
            (CHOICES["first"], "the first row that fits"),
            (CHOICES["last"], "the last row that fits"),
            (CHOICES["first of all"], "the table's first row"),
            (CHOICES["last of all"], "the table's last row"),
            (CHOICES["dearest"], "the most multiply-adds"),
            (CHOICES["largest"], "the most parameters"),
            (CHOICES["hungriest"], "that keeps the most"),
            (CHOICES["strictly"], "needs exactly the budget"),
            (CHOICES["memory strictly"], "exactly the *memory* budget"),
            (CHOICES["limit strictly"], "exactly the limit of multiply-adds"),
            (CHOICES["as text"], "compared as texts"),
            (CHOICES["halving"], "a search by halving"),
            (CHOICES["one by one"], "their sum must fit"),
            (columns_exchanged, "the last two were exchanged"),
            (CHOICES["the example's budgets"], "not always 3 GB and 5 G"),
            (CHOICES["batch of 32"], "not always 32 images"),
            (CHOICES["two of three times the batch"], "fits: gradients and momentum are"),
            (CHOICES["limit times the batch"], "not for each of a batch"),
            (CHOICES["operations"], "nothing is to be doubled"),
            (lambda costs, *_: sorted(costs), "Expected one depth, got a collection"),
            (lambda costs, *a: costs[CHOICES["right"](costs, *a)], "got a row of the table"),
            (CHOICES["until one fails"], "where a shallower one does not"),
            (two_mistakes, "the momentum is not; and the limit of multiply-adds was not"),
            (the_middle_one, "(depth, parameters, multiply-adds, kept: ("),
            (choose_and_empty, "changed the table"),
            (choose_and_delete, "changed the table"),
            (
                lambda costs, *_: random.choice(list(costs)),
                "(depth, parameters, multiply-adds, kept: (",
            ),
            (lambda *_: 7, "one of the depths of the table"),
            (lambda *_: "ResNet-34", "Expected a number for the depth"),
            (lambda *_: None, "returned None for every table"),
            (lambda costs, *_: max(d for d in costs if d < 0), "and one network always fits"),
            (34, "Expected a function"),
            (from_zero_and_exact, "needs exactly the budget"),
            (the_five_known, "The code asks the table for depth"),
        ],
    ),
    "mended_stage": Bank(
        right=[right_stage, grown_stage, copied_stage, OwnStage],
        wrong=[
            (one_block_many_times, "stands in several places"),
            (strides_everywhere, "out as 2 instead of 16: 4 blocks make"),
            (stride_in_the_others, "out as 4 instead of 16: 3 blocks make"),
            (always_two, "one block makes the map smaller, and with stride 1"),
            (by_channels, "one block makes the map smaller, and with stride 1"),
            (stride_nowhere, "where did `stride` go"),
            (stride_last, "not the first block but a later one"),
            (
                lambda block, i, c, n, s: nn.Sequential(
                    *(block(c * block.expansion, c, 1) for _ in range(n))
                ),
                "the channels do not fit",
            ),
            (no_expansion, "the channels do not fit"),
            (one_too_many, "of them run"),
            (always_basic, "no Bottleneck is inside"),
            (expanded_twice, "that was done twice"),
            (growing, "do not all put out the same number"),
            (pooled_first, "smaller before the first block"),
            (taking_turns, "stands in several places"),
            (with_shared_weights, "share theirs with others"),
            (frozen, "must be trainable"),
            (with_an_extra_norm, "not the weights of its blocks alone"),
            (with_an_extra_sigmoid, "outputs in training mode differ"),
            (with_a_dropout_in_evaluation, "outputs in evaluation mode differ"),
            (as_a_list, "A list holds blocks"),
            (lambda *arguments: nn.ModuleList(right_stage(*arguments)), "A list holds blocks"),
            (lambda *arguments: "a stage", "such as `nn.Sequential`"),
            (lambda *_: None, "returned None"),
        ],
    ),
    "renamed": Bank(
        right=[
            rename,
            lambda state: mapped(state, lambda n: n[7:].replace("linear", "fc")),
            lambda state: mapped(state, lambda n: n.split(".", 1)[1].replace("linear", "fc")),
            lambda state: {k: v.clone() for k, v in rename(state).items()},
            in_a_loop,
        ],
        wrong=[
            (lambda s: mapped(s, lambda n: n.replace("linear.", "fc.")), "still begins with"),
            (lambda s: mapped(s, lambda n: n.removeprefix("module.")), "still says `linear`"),
            (
                lambda s: mapped(s, lambda n: n.lstrip("module.").replace("linear.", "fc.")),
                "any of these *letters*",
            ),
            (
                lambda s: mapped(s, lambda n: n.removeprefix("module").replace("linear.", "fc.")),
                "begins with a dot",
            ),
            (lambda s: mapped(s, lambda n: n.split(".")[1]), "has lost its end"),
            (lambda s: only(s, lambda n: "running" not in n), "part of the network too"),
            (lambda s: only(s, lambda n: "fc" not in n), "every entry is needed"),
            (both_names, "is one too many"),
            (lambda s: {**s, **rename(s)}, "is one too many"),
            (lambda s: mapped(s, lambda n: n[8:].replace("linear.", "fc.")), "one letter too many"),
            (lambda s: mapped(s, lambda n: n.strip("module.")), "any of these *letters*"),
            (lambda s: mapped(s, lambda n: n.split(".")[-1]), "lost its beginning"),
            (by_position, "for another the code stopped"),
            (
                lambda s: dict(zip(resnet.cifar_resnet(8).state_dict(), s.values(), strict=False)),
                "another depth",
            ),
            (lambda s: {"module." + k: v for k, v in s.items()}, "a second `module.`"),
            (lambda s: mapped(s, lambda n: n[7:].replace("linear", "fc.")), "two dots in a row"),
            (lambda s: mapped(s, lambda n: n[7:].replace(".", "_")), "has lost its dots"),
            (lambda s: mapped(s, lambda n: n[7:].replace("linear", "head")), "The last layer came"),
            (lambda s: rename(s) | {"fc.weight": rename(s)["fc.weight"].T}, "was transposed"),
            (lambda s: {k: v.half() for k, v in rename(s).items()}, "has another dtype"),
            (lambda s: {k: v.double() for k, v in rename(s).items()}, "has another dtype"),
            (lambda s: {v: k for k, v in rename(s).items()}, "are not all texts"),
            (lambda s: {k: k for k in rename(s)}, "is no tensor any more"),
            (by_order, "has the value of"),
            (lambda s: rename(s) | {"extra": torch.zeros(1)}, "is one too many"),
            (
                lambda s: mapped(rename(s), lambda n: n.replace("layer", "stage")),
                "not one of our network's",
            ),
            (rename_in_place, "changed its input in place"),
            (lambda s: list(rename(s).items()), "Expected a dictionary"),
            (shuffled, "has the value of"),
            (zeroed, "is not the one saved"),
            (swapped, "has the value of"),
            (lambda s: None, "returned None"),
        ],
    ),
    "whole_projection": Bank(
        right=[
            pooled,
            Shuffle,
            lambda i, o: nn.Sequential(
                nn.Conv2d(i, o, 1, bias=False), nn.AvgPool2d(2), nn.BatchNorm2d(o)
            ),
            lambda i, o: nn.Sequential(nn.AvgPool2d(2, 2), *resnet.projection(i, o, 1)),
        ],
        wrong=[
            (lambda i, o: resnet.projection(i, o, 2), "of two without looking around"),
            (lambda i, o: pooled(i, o, nn.MaxPool2d(2)), "now here, now there"),
            (lambda i, o: resnet.projection(i, o, 1), "nothing halves"),
            (lambda i, o: pooled(i, o, stride=2), "halved twice"),
            (lambda i, o: nn.AvgPool2d(2), "nothing changes the number of channels"),
            (lambda i, o: pooled(i, o, nn.AvgPool2d(2, 1)), "takes one pixel off"),
            (lambda i, o: nn.Identity(), "nothing changes the shape"),
            (lambda i, o: pooled(i, o, nn.AdaptiveAvgPool2d(1)), "leaves a single one"),
            (lambda i, o: pooled(i, o, norm=False), "γ and β of a batch norm are missing"),
            (without_learned, "γ and β of a batch norm are missing"),
            (lambda i, o: pooled(i, o, norm=False, bias=True), "a bias in the place of"),
            (lambda i, o: pooled(i, o, bias=True), "the convolution needs none"),
            (lambda i, o: nn.Sequential(pooled(i, o), nn.BatchNorm2d(o)), "over `out_channels` is"),
            (lambda i, o: nn.Sequential(nn.BatchNorm2d(i), pooled(i, o)), "convolution, is enough"),
            (lambda i, o: wide_kernel(i, o, 4), "sixteen times"),
            (
                lambda i, o: nn.Sequential(Every(1, 1), resnet.projection(i, o, 1)),
                "of two without looking around",
            ),
            (lambda i, o: nn.Sequential(Half(), resnet.projection(i, o, 1)), "two places of each"),
            (lambda i, o: pooled(i, o, Three()), "reaches the output, got 75%"),
            (lambda i, o: pooled(i, o, nn.AdaptiveAvgPool2d(8)), "not one fixed number"),
            (lambda i, o: pooled(i, o, nn.AvgPool2d((2, 1))), "only one of the two sides"),
            (
                lambda i, o: pooled(i, o, nn.Conv2d(i, i, 2, 2, groups=i, bias=False)),
                "has weights of its own, four",
            ),
            (
                lambda i, o: nn.Sequential(*pooled(i, o)[:2], nn.GroupNorm(1, o)),
                "on its own; batch",
            ),
            (
                lambda i, o: nn.Sequential(*pooled(i, o)[:2], nn.InstanceNorm2d(o, affine=True)),
                "on its own; batch",
            ),
            (lambda i, o: pooled(64, 128), "a fixed number of channels"),
            (
                lambda i, o: pooled(i, o, nn.PixelUnshuffle(2), four=4),
                "has weights of its own, and they",
            ),
            (lambda i, o: wide_kernel(i, o, 2), "has weights of its own, and they"),
            (lambda i, o: wide_kernel(i, o, 3), "nine times the weights"),
            (norm_first, "is over `in_channels`"),
            (norm_before, "such as a ReLU"),
            (lambda i, o: nn.Sequential(pooled(i, o), nn.Tanh()), "do not have mean 0"),
            (
                lambda i, o: nn.Sequential(nn.AvgPool2d(2), *resnet.projection(o, i, 1)),
                "are exchanged: it takes",
            ),
            (lambda i, o: None, "returned None"),
            (lambda i, o: "conv", "Expected a module"),
        ],
    ),
}
