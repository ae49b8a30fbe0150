"""Answers to the exercises of chapter 06."""

import copy
import random

import torch
from bank import Bank
from torch import nn

from resnet_course import resnet
from resnet_course.exercises.ch06 import CHOICES


def depth(kind, blocks, basic=2, bottleneck=3, outside=2):
    return {"basic": basic, "bottleneck": bottleneck}[kind] * sum(blocks) + outside


def projections(kind, blocks):
    return len(blocks) - (kind == "basic")


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


def with_an_extra_norm(block, in_channels, channels, num_blocks, stride):
    stage = right_stage(block, in_channels, channels, num_blocks, stride)
    return nn.Sequential(*stage, nn.BatchNorm2d(channels * block.expansion))


def with_an_extra_sigmoid(block, in_channels, channels, num_blocks, stride):
    stage = right_stage(block, in_channels, channels, num_blocks, stride)
    return nn.Sequential(*stage, nn.Sigmoid())


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


def pooled(in_channels, out_channels, pool=None, norm=True, kernel=1, stride=1, bias=False):
    parts = [
        pool or nn.AvgPool2d(2),
        nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, bias=bias),
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
        if 12 * parameters + batch * kept < memory and cost < limit:
            deepest = max(deepest, depth)
    return deepest


def choose_backwards(costs, batch, memory, limit):
    for depth in sorted(costs, reverse=True):
        parameters, cost, kept = costs.pop(depth)
        if cost <= limit and 4 * (3 * parameters) + kept * batch <= memory:
            return depth
    return None


def choose_or_fail(costs, batch, memory, limit):
    return max(d for d, (p, m, k) in costs.items() if batch * (12 * p + k) <= memory and m <= limit)


BANKS = {
    "depth_of": Bank(
        right=[
            depth,
            lambda kind, blocks: torch.tensor(depth(kind, blocks)),
            lambda kind, blocks: 1 + (2 + (kind == "bottleneck")) * sum(blocks) + 1,
        ],
        wrong=[
            (lambda k, b: depth(k, b, bottleneck=2), "has three convolutions, not two"),
            (lambda k, b: depth(k, b, basic=3), "has two convolutions, not three"),
            (lambda k, b: depth(k, b, outside=0), "and the linear layer at the end are missing"),
            (lambda k, b: depth(k, b, outside=1), "there is one before and one after"),
            (lambda k, b: depth(k, b) + projections(k, b), "lie beside the main path"),
            (lambda k, b: depth(k, b) + len(b), "what lies beside the main path"),
            (lambda k, b: depth(k, [1] * len(b)), "as its entry in the list says"),
            (lambda k, b: depth(k, b, outside=3), "max pooling has no weights"),
            (lambda k, b: depth(k, b, bottleneck=4), "expansion of channels"),
            (lambda k, b: sum(b), "that is the number of blocks"),
            (lambda k, b: sum(b) + 2, "with all its convolutions"),
            (lambda k, b: 2 * depth(k, b) - 3, "batch norm has learned numbers"),
            (lambda k, b: len(b), "the number of stages"),
            (lambda k, b: 12345, "then add what lies outside"),
            (depth_in_place, "changed its input"),
            (lambda k, b: None, "end with `return`"),
        ],
    ),
    "predict_sizes": Bank(
        right=[
            [49, 25, 25, 13, 7, 4],
            (49, 25, 25, 13, 7, 4.0),
            torch.tensor([49, 25, 25, 13, 7, 4]),
        ],
        wrong=[
            ([48, 24, 24, 12, 6, 3], "After conv1 you have 48: from 97 pixels"),
            ([49, 24, 24, 12, 6, 3], "After maxpool you have 24: from 49 pixels"),
            ([49, 25, 13, 7, 4, 2], "keeps the size"),
            ([49, 49, 49, 25, 13, 7], "max pooling has stride 2"),
            ([49, 25, 25, 25, 13, 7], "cannot stay 25"),
            ([97, 49, 49, 25, 13, 7], "the first convolution has stride 2"),
            ([46, 23, 23, 12, 6, 3], "has padding 3"),
            ([48.5, 24.25, 24.25, 12, 6, 3], "whole number of pixels"),
            ([112, 56, 56, 28, 14, 7], "the paper's table for 224"),
            ([25, 13, 13, 7, 4, 2], "halves twice"),
            ([50, 25, 25, 13, 7, 4], "rounding up"),
            ([49, 25, 13], "got [49, 25"),
            (4, "Expected a list of six sides, got 4"),
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
        ],
        wrong=[
            (CHOICES["weights alone"], "a gradient and a momentum beside each weight"),
            (CHOICES["no momentum"], "the momentum is not"),
            (CHOICES["as with Adam"], "what Adam keeps"),
            (CHOICES["no bytes"], "a number of 4 bytes, and the budget is in bytes"),
            (CHOICES["parameters as bytes"], "not one byte"),
            (CHOICES["kept alone"], "momentum need memory, too"),
            (CHOICES["nothing kept"], "for the backward pass is missing"),
            (CHOICES["one image"], "kept for every image"),
            (CHOICES["all times the batch"], "not once per image"),
            (choose_or_fail, "not once per image"),
            (CHOICES["bytes twice"], "in bytes already"),
            (CHOICES["kept three times"], "a map is kept once"),
            (CHOICES["limit of a batch"], "for one image, whatever the batch"),
            (CHOICES["no limit"], "of multiply-adds was not asked"),
            (CHOICES["no memory"], "the memory was not asked"),
            (CHOICES["either"], "not one of them"),
            (CHOICES["shallowest"], "the shallowest network that fits"),
            (lambda costs, *_: random.choice(list(costs)), "then compare"),
            (lambda *_: 0, "one of the depths of the table"),
            (lambda *_: "ResNet-34", "Expected a number for the depth"),
            (lambda *_: None, "end with `return`"),
            (34, "Expected a function"),
        ],
    ),
    "mended_stage": Bank(
        right=[right_stage, grown_stage, copied_stage],
        wrong=[
            (one_block_many_times, "holds the *same* block"),
            (strides_everywhere, "out as 2 instead of 16: 4 blocks halve"),
            (stride_in_the_others, "out as 4 instead of 16: 3 blocks halve"),
            (stride_nowhere, "where did `stride` go"),
            (stride_last, "not the first block but a later one"),
            (no_expansion, "do not fit together"),
            (one_too_many, "of them run"),
            (with_an_extra_norm, "is not one of its blocks"),
            (with_an_extra_sigmoid, "outputs differ"),
            (as_a_list, "such as `nn.Sequential`"),
            (lambda *_: None, "returned None"),
        ],
    ),
    "renamed": Bank(
        right=[
            rename,
            by_position,
            lambda state: mapped(state, lambda n: n[7:].replace("linear", "fc")),
        ],
        wrong=[
            (lambda s: mapped(s, lambda n: n.replace("linear.", "fc.")), "still begins with"),
            (lambda s: mapped(s, lambda n: n.removeprefix("module.")), "still says `linear`"),
            (
                lambda s: mapped(s, lambda n: n.lstrip("module.").replace("linear.", "fc.")),
                "takes away any of these",
            ),
            (
                lambda s: mapped(s, lambda n: n.removeprefix("module").replace("linear.", "fc.")),
                "begins with a dot",
            ),
            (lambda s: mapped(s, lambda n: n.split(".")[1]), "has lost its end"),
            (lambda s: only(s, lambda n: "running" not in n), "part of the network too"),
            (lambda s: only(s, lambda n: "fc" not in n), "every entry is needed"),
            (both_names, "still says `linear`"),
            (lambda s: rename(s) | {"extra": torch.zeros(1)}, "is one too many"),
            (
                lambda s: mapped(rename(s), lambda n: n.replace("layer", "stage")),
                "not one of our network's",
            ),
            (rename_in_place, "changed the dictionary"),
            (lambda s: list(rename(s).items()), "Expected a dictionary"),
            (shuffled, "has the value of another one"),
            (zeroed, "a value changed"),
            (swapped, "a value changed"),
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
            (lambda i, o: resnet.projection(i, o, 2), "moves in steps of two"),
            (lambda i, o: pooled(i, o, nn.MaxPool2d(2)), "maximum of four"),
            (lambda i, o: resnet.projection(i, o, 1), "nothing halves"),
            (lambda i, o: pooled(i, o, stride=2), "halved twice"),
            (lambda i, o: nn.AvgPool2d(2), "nothing changes the number of channels"),
            (lambda i, o: pooled(i, o, norm=False), "batch norm is missing"),
            (lambda i, o: pooled(i, o, norm=False, bias=True), "instead of a batch norm"),
            (lambda i, o: pooled(i, o, bias=True), "needs none"),
            (lambda i, o: wide_kernel(i, o, 2), "four times the weights"),
            (lambda i, o: wide_kernel(i, o, 3), "nine times the weights"),
            (norm_first, "the convolution last"),
            (norm_before, "are not normalized"),
            (
                lambda i, o: nn.Sequential(nn.AvgPool2d(2), *resnet.projection(o, i, 1)),
                "parts do not fit",
            ),
            (lambda i, o: None, "returned None"),
            (lambda i, o: "conv", "Expected a module"),
        ],
    ),
}
