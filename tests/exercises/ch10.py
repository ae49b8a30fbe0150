"""Answers to the exercises of chapter 10."""

import copy

import torch
from bank import Bank
from torch import nn
from torch.nn import functional as F

# 10.1


def by_weight(c_in, c_out, kernel, groups, height, width):
    with torch.device("meta"):
        conv = nn.Conv2d(c_in, c_out, kernel, groups=groups, bias=False)
    return conv.weight.numel() * height * width


def by_group(c_in, c_out, kernel, groups, height, width):
    total = 0
    for _ in range(groups):
        total += (c_in // groups) * (c_out // groups) * kernel * kernel * height * width
    return total


# 10.2


def by_strides(order, batch, rank, world):
    updates = len(order) // batch
    return [order[u * batch : (u + 1) * batch][rank::world] for u in range(updates)]


def by_blocks(order, batch, rank, world):
    per = batch // world
    starts = range(0, len(order) // batch * batch, batch)
    return [order[s + rank * per : s + (rank + 1) * per] for s in starts]


def by_tensor(order, batch, rank, world):
    updates = len(order) // batch
    return torch.tensor(order[: updates * batch]).view(updates, -1, world)[:, :, rank]


def by_every_second(order, batch, rank, world):
    mine, per = order[rank::world], batch // world
    return [mine[u * per : (u + 1) * per] for u in range(len(order) // batch)]


def careless(order, batch, rank, world):
    part = len(order) // batch * batch // world
    mine = order[rank * part : (rank + 1) * part]
    size = batch // world
    return [mine[i : i + size] for i in range(0, part, size)]


def with_the_rest(order, batch, rank, world):
    return [order[i : i + batch][rank::world] for i in range(0, len(order), batch)]


def everybody_all(order, batch, rank, world):
    return [order[u * batch : (u + 1) * batch] for u in range(len(order) // batch)]


def everybody_the_first(order, batch, rank, world):
    return by_strides(order, batch, 0, world)


def whole_batches_in_turn(order, batch, rank, world):
    return everybody_all(order, batch, rank, world)[rank::world]


def shuffled_anew(order, batch, rank, world):
    order = [order[i] for i in torch.randperm(len(order), generator=torch.manual_seed(rank))]
    return by_strides(order, batch, rank, world)


def refilled(order, batch, rank, world):
    return by_strides(order + order[: -len(order) % batch], batch, rank, world)


def from_one(order, batch, rank, world):
    return [whole[rank - 1 :: world] for whole in everybody_all(order, batch, rank, world)]


def overlapping(order, batch, rank, world):
    wholes = everybody_all(order, batch, rank, world)
    return [whole[rank : rank + batch // world] for whole in wholes]


def for_two(order, batch, rank, world):
    half = batch // 2
    wholes = everybody_all(order, batch, rank, world)
    return [whole[rank * half : (rank + 1) * half] for whole in wholes]


def the_others(order, batch, rank, world):
    mine = {n for part in by_strides(order, batch, rank, world) for n in part}
    return [[n for n in whole if n not in mine] for whole in everybody_all(order, batch, 0, 1)]


def too_short(order, batch, rank, world):
    return [part[:-1] for part in by_blocks(order, batch, rank, world)]


def in_reverse(order, batch, rank, world):
    return by_strides(order, batch, rank, world)[::-1]


def rest_first(order, batch, rank, world):
    return by_strides(order[len(order) % batch :], batch, rank, world)


def inside(order, batch, rank, world):
    wholes = everybody_all(order, batch, rank, world)
    return [[whole[r::world] for r in range(world)] for whole in wholes]


def world_for_batch(order, batch, rank, world):
    return [order[i : i + world][rank::batch] for i in range(0, len(order), world)]


def per_process(order, batch, rank, world):
    per = batch // world
    return [order[s : s + per] for s in range(0, len(order) - per + 1, per)]


def next_batch(order, batch, rank, world):
    return by_strides(order[1:] + order[:1], batch, rank, world)


# 10.3


def weighed(network, images, labels, pieces):
    network.zero_grad()
    for x, y in zip(images.chunk(pieces), labels.chunk(pieces), strict=True):
        (F.cross_entropy(network(x), y) * len(y) / len(labels)).backward()


def summed(network, images, labels, pieces):
    for p in network.parameters():
        p.grad = None
    for x, y in zip(images.tensor_split(pieces), labels.tensor_split(pieces), strict=True):
        (F.cross_entropy(network(x), y, reduction="sum") / len(labels)).backward()


def divided_at_the_end(network, images, labels, pieces):
    network.zero_grad()
    for x, y in zip(images.chunk(pieces), labels.chunk(pieces), strict=True):
        F.cross_entropy(network(x), y, reduction="sum").backward()
    for p in network.parameters():
        p.grad /= len(labels)


def by_grad(network, images, labels, pieces):
    parameters = list(network.parameters())
    total = [torch.zeros_like(p) for p in parameters]
    for x, y in zip(images.chunk(pieces), labels.chunk(pieces), strict=True):
        loss = F.cross_entropy(network(x), y, reduction="sum") / len(labels)
        total = [a + b for a, b in zip(total, torch.autograd.grad(loss, parameters), strict=True)]
    for p, g in zip(parameters, total, strict=True):
        p.grad = g


def every_other(network, images, labels, pieces):
    """Other pieces, the same gradients."""
    network.zero_grad()
    for i in range(pieces):
        x, y = images[i::pieces], labels[i::pieces]
        (F.cross_entropy(network(x), y) * len(y) / len(labels)).backward()


def other_labels(network, images, labels, pieces):
    weighed(network, images, labels.flip(0), pieces)


def twice(network, images, labels, pieces):
    weighed(network, images, labels, pieces)
    for p in network.parameters():
        p.grad *= 2


def one_backward(network, images, labels, pieces):
    network.zero_grad()
    parts = zip(images.chunk(pieces), labels.chunk(pieces), strict=True)
    sum(F.cross_entropy(network(x), y) * len(y) for x, y in parts).div(len(labels)).backward()


def by_size(network, images, labels, pieces):
    network.zero_grad()
    for x, y in zip(images.split(pieces), labels.split(pieces), strict=True):
        (F.cross_entropy(network(x), y) * len(y) / len(labels)).backward()


def without_the_rest(network, images, labels, pieces):
    size = len(labels) // pieces
    weighed(network, images[: size * pieces], labels[: size * pieces], pieces)


def in_a_copy(network, images, labels, pieces):
    weighed(copy.deepcopy(network), images, labels, pieces)


def without_a_graph(network, images, labels, pieces):
    with torch.no_grad():
        loss = sum(F.cross_entropy(network(x), labels[:1]) for x in images.split(1))
    loss.requires_grad_().backward()


def as_a_number(network, images, labels, pieces):
    loss = sum(
        F.cross_entropy(network(x), y).item()
        for x, y in zip(images.chunk(pieces), labels.chunk(pieces), strict=True)
    )
    torch.tensor(loss, requires_grad=True).backward()


def in_training(network, images, labels, pieces):
    weighed(network.train(), images, labels, pieces)


def by_channels(network, images, labels, pieces):
    for x, y in zip(images.chunk(pieces, 1), labels.chunk(pieces), strict=True):
        F.cross_entropy(network(x), y).backward()


def shared_labels(network, images, labels, pieces):
    network.zero_grad()
    for x in images.chunk(pieces):
        (F.cross_entropy(network(x), labels[: len(x)]) * len(x) / len(labels)).backward()


def old_biases(network, images, labels, pieces):
    for p in network.parameters():
        p.grad = None if p.dim() > 1 else p.grad
    kept_old(network, images, labels, pieces)


def pieced(network, images, labels, pieces, factor=1.0, clear="first", keep=slice(None)):
    if clear == "first":
        network.zero_grad()
    for x, y in list(zip(images.chunk(pieces), labels.chunk(pieces), strict=True))[keep]:
        if clear == "each":
            network.zero_grad()
        (F.cross_entropy(network(x), y) * factor).backward()


def kept_old(network, images, labels, pieces):
    for x, y in zip(images.chunk(pieces), labels.chunk(pieces), strict=True):
        (F.cross_entropy(network(x), y, reduction="sum") / len(labels)).backward()


def at_once(network, images, labels, pieces):
    network.zero_grad()
    F.cross_entropy(network(images), labels).backward()


def with_a_step(network, images, labels, pieces):
    weighed(network, images, labels, pieces)
    torch.optim.SGD(network.parameters(), 0.1).step()


def cleared_after(network, images, labels, pieces):
    weighed(network, images, labels, pieces)
    network.zero_grad()


def not_averaged(network, images, labels, pieces):
    network.zero_grad()
    for x, y in zip(images.chunk(pieces), labels.chunk(pieces), strict=True):
        F.cross_entropy(network(x), y, reduction="sum").backward()


def odd_factor(network, images, labels, pieces):
    pieced(network, images, labels, pieces, 0.123)


RIGHT = {"A": "mixed", "B": "block", "C": "recipe", "D": "mixed"}

BANKS = {
    "grouped_cost": Bank(
        right=[
            lambda i, o, k, g, h, w: o * h * w * k * k * i // g,
            lambda i, o, k, g, h, w: o * h * w * k * k * i / g,
            by_weight,
            by_group,
            lambda *a: torch.tensor(by_weight(*a)),
        ],
        wrong=[
            (lambda i, o, k, g, h, w: o * h * w * k * k * i, "save nothing yet"),
            (lambda i, o, k, g, h, w: o * h * w * k * k * i * g, "multiplied by the groups"),
            (lambda i, o, k, g, h, w: o * h * w * k * k * i // g**2, "divided by the groups twice"),
            (lambda i, o, k, g, h, w: 2 * o * h * w * k * k * i // g, "counts as one operation"),
            (lambda i, o, k, g, h, w: o * h * w * k * i // g, "`kernel * kernel` places"),
            (lambda i, o, k, g, h, w: o * h * w * (k * k * i // g + 1), "there is no bias"),
            (lambda i, o, k, g, h, w: o * k * k * i // g, "the number of weights"),
            (lambda i, o, k, g, h, w: o * h * h * k * k * i // g, "`height` was used twice"),
            (lambda i, o, k, g, h, w: o * h * w * k * k, "sums over the channels of its group"),
            (lambda i, o, k, g, h, w: h * w * k * k * i // g, "the cost of one output channel"),
            (lambda *a: 1234567, "a convolution in groups, got"),
            (lambda i, o, k, g, h, w: o * h * w * k**3 * i // g, "`kernel` was multiplied in"),
            (lambda i, o, k, g, h, w: o * h * w * 9 * i // g, "taken for 3 x 3"),
            (lambda i, o, k, g, h, w: o * h * k * k * i // g, "`width` is missing"),
            (lambda i, o, k, g, h, w: o * w * w * k * k * i // g, "`width` was used twice"),
            (
                lambda i, o, k, g, h, w: o * (h - k + 1) * (w - k + 1) * k * k * i // g,
                "the map got smaller",
            ),
            (lambda i, o, k, g, h, w: i * h * w * k * k * i // g, "where `out_channels` belongs"),
            (lambda i, o, k, g, h, w: o * h * w * k * k * g, "not `groups`"),
            (lambda i, o, k, g, h, w: o * h * w * k * k * (i - g), "the groups were subtracted"),
            (lambda i, o, k, g, h, w: o * h * w * k * k * (i // 32), "taken for 32"),
            (lambda i, o, k, g, h, w: 1 / g, "the share of the work"),
            (lambda i, o, k, g, h, w: o * h * w * k * k * i / g / 1e9, "in billions"),
            (
                lambda i, o, k, g, h, w: o * h * w * k * k * i // g if g > 1 else -1,
                "a convolution with one group, got",
            ),
            (lambda *a: None, "end with `return`"),
        ],
    ),
    "share": Bank(
        right=[by_strides, by_blocks, by_tensor, by_every_second],
        wrong=[
            (careless, "one stretch of the order to itself"),
            (whole_batches_in_turn, "so many they should have *together*"),
            (refilled, "not filled up"),
            (
                lambda o, b, r, w: by_strides(o, b // 2, r, w),
                "together have fewer than `batch` images",
            ),
            (
                lambda o, b, r, w: by_strides(o, b, r, w)[:1] + by_strides(o, b, r, w),
                "there are more updates than whole batches in `order`.",
            ),
            (from_one, "`rank` counts from 0"),
            (overlapping, "so the shares overlap"),
            (for_two, "those of two processes"),
            (the_others, "and not its own"),
            (too_short, "together have fewer than `batch` images"),
            (in_reverse, "in reverse order"),
            (lambda o, b, r, w: by_strides(sorted(o), b, r, w), "the images come sorted"),
            (lambda o, b, r, w: by_strides(list(range(len(o))), b, r, w), "not in `order`"),
            (rest_first, "at the beginning of `order`"),
            (inside, "lists inside the batches"),
            (world_for_batch, "one image each"),
            (next_batch, "the images that meet in an update"),
            (with_the_rest, "an incomplete batch is among them"),
            (everybody_all, "each reads the *whole* batch"),
            (everybody_the_first, "all processes have the same images"),
            (shuffled_anew, "read by two processes or twice"),
            (per_process, "`batch` counts the images of *all* processes"),
            (lambda o, b, r, w: by_strides(o, b, r, w)[:-1], "the last are missing"),
            (lambda o, b, r, w: by_strides(o, b, r, w)[: -1 if r else None], "those wait for ever"),
            (lambda o, b, r, w: [n for part in by_strides(o, b, r, w) for n in part], "of *lists*"),
            (lambda o, b, r, w: 5, "Expected a list of batches"),
            (lambda o, b, r, w: None, "end with `return`"),
            (lambda o, b, r, w: o.sort() or by_strides(o, b, r, w), "in place"),
        ],
    ),
    "accumulate": Bank(
        right=[weighed, summed, divided_at_the_end, by_grad, every_other],
        wrong=[
            (lambda *a: pieced(*a), "the *sum* of the pieces'"),
            (lambda *a: pieced(*a, factor=1 / a[3]), "the pieces' means count alike"),
            (lambda *a: pieced(*a, clear="each"), "or `backward()` comes once. See"),
            (lambda *a: pieced(*a, 1 / a[3], clear="each"), "and they are divided by `pieces`"),
            (lambda *a: pieced(*a, keep=slice(1)), "never saw the last images"),
            (lambda *a: pieced(*a, keep=slice(1, 9)), "never saw the first images"),
            (kept_old, "the old gradients are still in them"),
            (at_once, "the whole batch at once"),
            (with_a_step, "no step belongs here"),
            (cleared_after, "at the end there are none"),
            (not_averaged, "a sum over all images"),
            (odd_factor, "the pieces' means count alike"),
            (other_labels, "of the gradients with a smaller last piece, where the gap"),
            (twice, "too large by one"),
            (one_backward, "all their graphs are kept"),
            (by_size, "how many there are, not how large"),
            (without_the_rest, "never saw the last images"),
            (in_a_copy, "A copy of the network was used"),
            (without_a_graph, "ran without a graph"),
            (as_a_number, "Nothing went back through"),
            (in_training, "in training mode now"),
            (by_channels, "along its first axis"),
            (shared_labels, "met the labels of the first"),
            (old_biases, "old gradients of the biases"),
        ],
    ),
    "judge_claims": Bank(
        right=[
            RIGHT,
            {k: v.upper() for k, v in RIGHT.items()},
            {**RIGHT, "E": "?"},
            {k: f" {v} " for k, v in RIGHT.items()},
        ],
        wrong=[
            ({**RIGHT, "A": "block"}, "the old network had another training"),
            ({**RIGHT, "A": "recipe"}, "the network is another one, too"),
            ({**RIGHT, "B": "recipe"}, 'B is not "recipe"'),
            ({**RIGHT, "B": "mixed"}, 'B is not "mixed"'),
            ({**RIGHT, "C": "block"}, "to the last layer"),
            ({**RIGHT, "C": "mixed"}, 'C is not "mixed"'),
            ({**RIGHT, "D": "block"}, "the two had different training"),
            ({"mixed": "AD", "block": "B", "recipe": "C"}, "not vice versa"),
            ({**RIGHT, "D": "recipe"}, "have other blocks, too"),
            ({"A": "mixed", "B": "block"}, "of A to D; C and D are missing"),
            (["mixed", "block", "recipe", "mixed"], "Expected a dictionary"),
            ({**RIGHT, "A": "both"}, 'Expected one of "block"'),
        ],
    ),
}
