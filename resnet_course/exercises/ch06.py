"""Chapter 06, ResNet-18 to ResNet-152: checks and quiz."""

import random

import torch
from torch import nn

from resnet_course import probe, resnet
from resnet_course.teaching.check import call, close, exercise, expect, number, show
from resnet_course.teaching.quiz import Question


@exercise(
    "6.1",
    expects="a function of the kind of block and a block list",
    right="the five networks of the paper and three random block lists, basic and bottleneck.",
)
def depth_of(attempt):
    """A function: ("basic" or "bottleneck", block list) -> layers with weights."""
    known = [
        ("basic", [3, 4, 6, 3]),
        ("basic", [2, 2, 2, 2]),
        ("bottleneck", [3, 4, 6, 3]),
        ("bottleneck", [3, 4, 23, 3]),
        ("bottleneck", [3, 8, 36, 3]),
    ]
    drawn = [
        (kind, [random.randint(1, 9) for _ in range(stages)])
        for kind, stages in (("basic", 4), ("bottleneck", 4), ("bottleneck", 3))
    ]
    for kind, blocks in known + drawn:
        got = number(call(attempt, kind, list(blocks)), "the depth")
        per_block = {"basic": 2, "bottleneck": 3}[kind]
        wanted = per_block * sum(blocks) + 2
        sentence = f"Expected {wanted} for {kind} blocks {blocks}, got {got:g}"
        expect(got == wanted, f"{sentence}: {_why_depth(kind, blocks, got)}.", 1)


def _why_depth(kind, blocks, got):
    per_block, total = {"basic": 2, "bottleneck": 3}[kind], sum(blocks)
    wanted = per_block * total + 2
    shortcuts = len(blocks) - (kind == "basic")
    known = [
        (2 * total + 2, "a bottleneck block has three convolutions, not two"),
        (3 * total + 2, "a basic block has two convolutions, not three"),
        (wanted - 2, "the first convolution and the linear layer at the end are missing"),
        (wanted - 1, "one layer outside the blocks is missing: there is one before and one after"),
        (wanted + shortcuts, "the shortcuts' convolutions lie beside the main path"),
        (wanted + len(blocks), "what lies beside the main path, as shortcuts do, does not count"),
        (wanted + 1, "one too many; the max pooling has no weights"),
        (4 * total + 2, "4 is the bottleneck's expansion of channels, not its number of layers"),
        (total, "that is the number of blocks"),
        (total + 2, "each block counts with all its convolutions"),
        (
            per_block * len(blocks) + 2,
            "each stage has as many blocks as its entry in the list says",
        ),
        (2 * wanted - 3, "batch norm has learned numbers, but is not counted as a layer"),
        (len(blocks), "that is the number of stages; the list says how many blocks each one has"),
    ]
    return next(
        (why for count, why in known if count == got),
        "multiply the number of blocks by the convolutions in each, then add what lies outside",
    )


SIZES = ["conv1", "maxpool", "layer1", "layer2", "layer3", "layer4"]


@exercise(
    "6.2",
    expects="a list of six numbers",
    right="ResNet-18 itself, run on 97 × 97 pixels, gives these maps.",
)
def predict_sizes(attempt):
    """Side of the map after conv1, maxpool and each stage, for an input of 97 x 97."""
    if isinstance(attempt, torch.Tensor):
        attempt = attempt.tolist()
    good = isinstance(attempt, list | tuple) and len(attempt) == 6
    expect(good, f"Expected a list of six sides, got {show(attempt)}.")
    got = [
        number(side, f"the side after {name}") for side, name in zip(attempt, SIZES, strict=True)
    ]
    before = 97
    for name, side in zip(SIZES, got, strict=True):
        wanted = before if name == "layer1" else -(-before // 2)
        reason = _why_size(name, side, before, got)
        expect(side == wanted, f"After {name} you have {side:g}: {reason}.", 1 if side % 1 else 2)
        before = wanted
    trace = {row.name: row.output for row in probe.shape_trace(_on_meta(18), (3, 97, 97))}
    assert trace["layer4.1.bn2"] == (512, before, before)


def _why_size(name, side, before, got):
    if side % 1:
        return "a side is a whole number of pixels"
    if name == "layer1" and side == -(-before // 2):
        return "the first stage comes right after the max pooling and keeps the size"
    if name == "maxpool" and side == before:
        return "the max pooling has stride 2"
    if name == "conv1" and side == before:
        return "the first convolution has stride 2"
    if side == before:
        return f"the first block of {name} has stride 2, so its side cannot stay {before}"
    if name == "conv1" and side == 46:
        return "the 7 × 7 convolution has padding 3"
    if side == before // 2:
        return (
            f"from {before} pixels, every second one is taken, *the first included*, so the odd "
            "one is not lost"
        )
    if name == "conv1" and side == 112:
        return "that is the paper's table for 224 pixels; here the input has 97"
    if side == -(-before // 4):
        return "that halves twice in one step"
    return f"it got {before} and must {'keep it' if name == 'layer1' else 'halve it, rounding up'}"


def _on_meta(depth):
    with torch.device("meta"):
        return getattr(resnet, f"resnet{depth}")()


@exercise(
    "6.3",
    expects="a function of costs, batch, memory and limit",
    right="some two hundred random tables and budgets.",
)
def deepest_that_fits(attempt, costs):
    """(costs, batch, bytes, multiply-adds) -> the deepest network that fits both budgets."""
    expect(callable(attempt), f"Expected a function, got {show(attempt)}.")
    asked = [_random_budget(memory_of) for memory_of in MEMORY.values() for _ in range(16)]
    got = [_chosen(attempt, *question) for question in asked]
    expect(
        any(depth is not None for depth in got),
        "The function returned None, or found that nothing fits, for every table: does it end "
        "with `return`?",
    )
    wanted = [CHOICES["right"](*question) for question in asked]
    if got != wanted:
        expect(False, _why_choice(asked, got, wanted), 2)
    (many, few) = (CHOICES["right"](costs, batch, 3e9, 5e9) for batch in (32, 16))
    return (
        f"{len(asked)} random tables and budgets. For 3 GB and 5 G it is ResNet-{many} with 32 "
        f"images, and ResNet-{few} with 16: the batch, too, belongs to the budget."
    )


MEMORY = {  # of parameters, kept bytes and batch: the right one, and what is often written
    "right": lambda p, k, n: 12 * p + n * k,
    "weights alone": lambda p, k, n: 4 * p + n * k,
    "no momentum": lambda p, k, n: 8 * p + n * k,
    "as with Adam": lambda p, k, n: 16 * p + n * k,
    "no bytes": lambda p, k, n: 3 * p + n * k,
    "parameters as bytes": lambda p, k, n: p + n * k,
    "kept alone": lambda p, k, n: n * k,
    "nothing kept": lambda p, k, n: 12 * p,
    "one image": lambda p, k, n: 12 * p + k,
    "all times the batch": lambda p, k, n: n * (12 * p + k),
    "bytes twice": lambda p, k, n: 12 * p + 4 * n * k,
    "kept three times": lambda p, k, n: 12 * p + 3 * n * k,
    "no memory": lambda p, k, n: 0,
}


def _random_budget(memory_of):
    """A table whose costs grow with depth, and budgets that at least the first row fits."""
    depths = sorted(random.sample(range(10, 200), 5))
    parameters, cost, kept = (
        sorted(random.randint(low, high) for _ in depths)
        for low, high in ((5_000_000, 80_000_000), (10**9, 12 * 10**9), (2 * 10**7, 2 * 10**8))
    )
    table = dict(zip(depths, zip(parameters, cost, kept, strict=True), strict=True))
    batch, i = random.choice([1, 2, 4, 8, 16, 32]), random.randrange(5)
    least = MEMORY["right"](parameters[0], kept[0], batch)
    memory = max(least, memory_of(parameters[i], kept[i], batch))
    return table, batch, int(1.001 * memory) + 1, int(1.05 * random.choice([*cost, cost[-1]]))


def _chosen(attempt, costs, *budget):
    """The depth that the attempt chooses, or None when it finds that nothing fits."""
    try:
        got = attempt(dict(costs), *budget)
    except ValueError as error:
        if "empty" not in str(error):  # max() of nothing
            raise
        got = None
    if got is None:
        return None
    depth = number(got, "the depth")
    expect(
        depth in costs,
        f"Expected one of the depths of the table, {', '.join(map(str, costs))}, got {depth:g}.",
    )
    return int(depth)


def _choose(memory_of, cost_of=lambda cost, batch: cost, fits=all, pick=max):
    def choose(costs, batch, memory, limit):
        good = [
            depth
            for depth, (parameters, cost, kept) in costs.items()
            if fits((memory_of(parameters, kept, batch) <= memory, cost_of(cost, batch) <= limit))
        ]
        return pick(good, default=None)

    return choose


CHOICES = {
    **{name: _choose(memory_of) for name, memory_of in MEMORY.items()},
    "limit of a batch": _choose(MEMORY["right"], cost_of=lambda cost, batch: batch * cost),
    "no limit": _choose(MEMORY["right"], cost_of=lambda cost, batch: 0),
    "either": _choose(MEMORY["right"], fits=any),
    "shallowest": _choose(MEMORY["right"], pick=min),
}


def _why_choice(asked, got, wanted):
    why = {
        "weights alone": "training keeps a gradient and a momentum beside each weight",
        "no momentum": "weights and gradients are counted, the momentum is not",
        "as with Adam": "four numbers for each parameter is what Adam keeps; momentum needs three",
        "no bytes": "a parameter is a number of 4 bytes, and the budget is in bytes",
        "parameters as bytes": "three numbers of 4 bytes are kept for each parameter, not one byte",
        "kept alone": "weights, gradients and momentum need memory, too",
        "nothing kept": "what is kept for the backward pass is missing",
        "one image": "what is kept for the backward pass is kept for every image of the batch",
        "all times the batch": "weights, gradients and momentum are there once, not once per image",
        "bytes twice": "what is kept is in bytes already",
        "kept three times": "gradient and momentum belong to the parameters; a map is kept once",
        "limit of a batch": "the limit of multiply-adds is for one image, whatever the batch",
        "no limit": "the limit of multiply-adds was not asked",
        "no memory": "the memory was not asked",
        "either": "*both* budgets must hold, not one of them",
        "shallowest": "that is the shallowest network that fits; the deepest was asked for",
    }
    answers = {name: [CHOICES[name](*question) for question in asked] for name in why}
    reason = next((why[name] for name, given in answers.items() if given == got), None)
    reason = reason or "add 12 bytes for each parameter and what each image keeps, then compare"
    i = next(i for i, depth in enumerate(got) if depth != wanted[i])
    _, batch, memory, limit = asked[i]
    return (
        f"With {batch} image{'s' * (batch > 1)}, {memory / 1e9:.2f} GB and {limit / 1e9:.1f} G "
        f"multiply-adds expected {wanted[i]}, got {got[i] or 'nothing that fits'}: {reason}."
    )


@exercise(
    "6.4",
    expects="a function of block, in_channels, channels, num_blocks and stride",
    right="basic and bottleneck stages of one to four blocks: sizes, weights and outputs agree "
    "with the package's.",
)
def mended_stage(attempt):
    """A function: (block, in_channels, channels, num_blocks, stride) -> a stage."""
    for block, in_channels, channels, num_blocks, stride in [
        (resnet.BasicBlock, 6, 8, 4, 2),
        (resnet.BasicBlock, 8, 8, 3, 1),
        (resnet.Bottleneck, 6, 4, 3, 2),
        (resnet.Bottleneck, 16, 4, 2, 1),
        (resnet.BasicBlock, 4, 8, 1, 2),
    ]:
        stage = call(attempt, block, in_channels, channels, num_blocks, stride)
        expect(
            isinstance(stage, nn.Module),
            f"Expected a module such as `nn.Sequential`, got {show(stage)}.",
        )
        what = f"{num_blocks} {block.__name__}s with stride {stride}"
        _judge_stage(stage, block, (in_channels, channels, num_blocks, stride), what)


def _judge_stage(stage, block, arguments, what):
    in_channels, _, num_blocks, stride = arguments
    blocks, sides = [m for m in stage.modules() if isinstance(m, block)], []
    for module in blocks:
        module.register_forward_hook(lambda m, x, y: sides.append(y.shape[-1]))
    x = torch.randn(2, in_channels, 32, 32)
    try:
        y = stage.train()(x)
    except RuntimeError as error:
        expect(
            "channels" not in str(error) and "size of tensor" not in str(error),
            f"For {what} the blocks do not fit together: a block puts out `channels * "
            "block.expansion` channels, and the next one must expect that many.",
            2,
        )
        raise
    expect(
        len(sides) != num_blocks or len(blocks) == num_blocks,
        f"For {what}, {len(sides)} blocks run but only {len(blocks)} have weights of their own: a "
        "list like `[b] * 3` holds the *same* block three times.",
        1,
    )
    expect(
        len(sides) == num_blocks,
        f"Expected {num_blocks} blocks for {what}, but {len(sides)} of them run.",
        2,
    )
    side, before = 32 // stride, [32, *sides]
    halving = sum(a > b for a, b in zip(before, sides, strict=False))
    expect(isinstance(y, torch.Tensor), f"Expected a tensor from the stage, got {show(y)}.")
    expect(
        y.shape[-1] >= side,
        f"For {what}, 32 pixels come out as {y.shape[-1]} instead of {side}: {halving} "
        "blocks halve them, and only the first one may.",
        2,
    )
    expect(
        y.shape[-1] == side,
        f"For {what}, 32 pixels come out as {y.shape[-1]} instead of {side}: where did `stride` "
        "go?",
        2,
    )
    expect(
        sides[0] == side,
        f"For {what}, not the first block but a later one halves the map, so the blocks before it "
        "work on four times as many pixels.",
        2,
    )
    _judge_weights(stage, block, arguments, what, x, y)


def _judge_weights(stage, block, arguments, what, x, y):
    in_channels, channels, num_blocks, stride = arguments
    wanted = resnet.stage(block, in_channels, channels, num_blocks, stride, resnet.option_b)
    names, values = list(wanted.state_dict()), list(stage.state_dict().values())
    sizes = [v.shape for v in wanted.state_dict().values()]
    out = channels * block.expansion
    expect(y.shape[1] == out, f"Expected {out} channels for {what}, got {y.shape[1]}.", 2)
    expect(
        sizes == [v.shape for v in values],
        f"For {what}, {probe.count_parameters(stage):,} parameters instead of "
        f"{probe.count_parameters(wanted):,}: something in the stage is not one of its blocks.",
        2,
    )
    wanted.load_state_dict(dict(zip(names, values, strict=True)))
    expect(
        close(y.detach(), wanted.train()(x).detach()),
        f"For {what}, the outputs differ from the package's with the same weights.",
        2,
    )


@exercise(
    "6.5",
    expects="a function from a state dict to a state dict",
    right="every name fits with `strict=True`, and the network answers as the one that was saved.",
)
def renamed(attempt):
    """A function: state dict with `module.` and `linear.` -> the same for `cifar_resnet`."""
    torch.manual_seed(random.getrandbits(30))
    saved, fresh = resnet.cifar_resnet(8, num_classes=7), resnet.cifar_resnet(8, num_classes=7)
    images = torch.randn(4, 3, 16, 16)
    saved(images)  # running statistics that are not those of a fresh network
    state = {
        "module." + name.replace("fc.", "linear."): value.clone()
        for name, value in saved.state_dict().items()
    }
    names = list(state)
    expect(callable(attempt), f"Expected a function, got {show(attempt)}.")
    result = attempt(state)
    expect(
        list(state) == names,
        "The function changed the dictionary it was given: whoever holds it has lost the old "
        "names; make a new one instead.",
        1,
    )
    expect(result is not None, "The function returned None: does it end with `return`?")
    expect(isinstance(result, dict), f"Expected a dictionary, got {show(result)}.")
    _judge_names(set(result), set(saved.state_dict()))
    try:
        fresh.load_state_dict(result)
    except RuntimeError:
        expect(False, "All names are right, but a name has the value of another one.", 2)
    with torch.no_grad():
        same = torch.equal(saved.eval()(images), fresh.eval()(images))
    expect(same, "All names are right, but the network gives other outputs: a value changed.", 2)


def _judge_names(got, wanted):
    extra, missing = sorted(map(str, got - wanted)), sorted(wanted - got)
    if not extra and not missing:
        return
    first = f"`{(extra or missing)[0][:40]}`"
    cut = [n for n in extra if any(name.startswith(n + ".") for name in wanted | {"linear."})]
    expect(
        not cut,
        f"The name `{(cut or ['?'])[0][:40]}` has lost its end, so several entries share one name.",
        1,
    )
    prefixed = [name for name in extra if name.startswith("module.")]
    linear = [name for name in extra if "linear" in name]
    stripped = [name for name in extra if name.startswith(("ayer", "inear"))]
    expect(
        not stripped,
        f"A name came out as `{(stripped or ['?'])[0][:40]}`: `lstrip` takes away any of these "
        "*letters*, not a word; `removeprefix` takes the word.",
        2,
    )
    expect(
        not prefixed,
        f"The name `{(prefixed or ['?'])[0][:40]}` still begins with `module.`, "
        "which our network does not know.",
        1,
    )
    expect(
        not linear,
        f"The name `{(linear or ['?'])[0][:40]}` still says `linear`; our network "
        "calls that layer `fc`.",
        1,
    )
    expect(
        not any(name.startswith(".") for name in extra),
        f"The name {first} begins with a dot: the dot belongs to the prefix.",
        1,
    )
    expect(
        extra or not all("running" in name or "batches" in name for name in missing),
        f"Missing: {first}; the running statistics of batch norm are part of the network too.",
        1,
    )
    expect(extra, f"Missing: {first}; every entry is needed.", 1)
    expect(
        missing, f"The name {first} is one too many: was an old name kept beside the new one?", 1
    )
    expect(False, f"The name {first} is not one of our network's; print `list(state)`.", 1)


@exercise(
    "6.6",
    expects="a function of in_channels and out_channels",
    right="every pixel of the input reaches the output, with the parameters of the strided 1 × 1 "
    "convolution; ResNet-D does it the same way (arXiv 1812.01187).",
)
def whole_projection(attempt):
    """A function: (in_channels, out_channels) -> module that halves the side and skips no pixel."""
    for in_channels, out_channels in ((4, 10), (6, 24)):
        module = call(attempt, in_channels, out_channels)
        expect(isinstance(module, nn.Module), f"Expected a module, got {show(module)}.")
        x = torch.randn(3, in_channels, 12, 8, requires_grad=True)
        try:
            y = module.train()(x)
        except RuntimeError as error:
            expect(
                "channels" not in str(error) and "running_mean" not in str(error),
                "The parts do not fit: how many channels does each one get?",
                2,
            )
            raise
        expect(isinstance(y, torch.Tensor), f"Expected a tensor from the module, got {show(y)}.")
        _judge_projection(module, in_channels, out_channels, x, y)


def _judge_projection(module, in_channels, out_channels, x, y):
    wanted, got = (3, out_channels, 6, 4), tuple(y.shape)
    reason = {
        (3, out_channels, 12, 8): "nothing halves the side",
        (3, out_channels, 3, 2): "it is halved twice, by the pooling and by the convolution",
        (3, in_channels, 6, 4): "nothing changes the number of channels",
    }.get(got, "each side must be halved, and the channels must become `out_channels`")
    expect(got == wanted, f"Expected shape {wanted}, got {got}: {reason}.", 2)
    weights, count = in_channels * out_channels, probe.count_parameters(module)
    known = {
        weights: "batch norm is missing",
        weights + out_channels: "the convolution has a bias instead of a batch norm",
        weights + 3 * out_channels: "batch norm has its own bias, so the convolution needs none",
        4 * weights
        + 2 * out_channels: "a 2 × 2 kernel reads every pixel, at four times the weights",
        9 * weights
        + 2 * out_channels: "a 3 × 3 kernel reads every pixel, at nine times the weights",
        weights + 2 * in_channels: "batch norm comes before the convolution, the convolution last",
    }
    expect(
        count == weights + 2 * out_channels,
        f"Expected {weights + 2 * out_channels} parameters, as in the projection, got {count}: "
        f"{known.get(count, 'a 1 × 1 convolution without bias and one batch norm make these')}.",
        2,
    )
    (y * torch.randn_like(y)).sum().backward()
    grad = torch.zeros_like(x) if x.grad is None else x.grad
    _judge_pixels((grad != 0).float())
    mean, std = y.mean((0, 2, 3)), y.std((0, 2, 3), unbiased=False)
    expect(
        close(mean, torch.zeros_like(mean), 1e-3) and close(std, torch.ones_like(std), 0.02),
        "The output's channels are not normalized: batch norm must come last, right before the "
        "addition.",
        2,
    )


def _judge_pixels(read):
    share, corners = read.mean().item(), read[:, :, ::2, ::2].mean().item()
    rest = (share - corners / 4) * 4 / 3
    expect(
        not (corners > 0.99 and rest < 0.01),
        f"Only {share:.0%} of the input's pixels reach the output: the 1 × 1 kernel still moves in "
        "steps of two and never sees the others.",
        1,
    )
    expect(
        not 0.2 < share < 0.3,
        f"{share:.0%} of the input's numbers reach the output: the maximum of four lets one "
        "through and drops three.",
        1,
    )
    expect(share > 0.99, f"Only {share:.0%} of the input's numbers reach the output.", 1)


QUIZ = [
    Question(
        "Can there be a ResNet-101 made of *basic* blocks, with this stem and this head?",
        [
            (
                "Yes, with a block list that adds up to 50, such as [3, 4, 40, 3].",
                "50 blocks of two layers and 2 more make 102.",
            ),
            (
                "No: 101 − 2 is odd, and a basic block has two layers.",
                "2 · blocks + 2 is always even. With bottlenecks, 3 · 33 + 2 = 101.",
            ),
            (
                "Yes, if the shortcuts are counted.",
                "They lie beside the main path and do not count.",
            ),
        ],
        right=1,
    ),
    Question(
        "A state dict loads into your network with `strict=True`. What do you know?",
        [
            (
                "The network computes what the one it came from computes.",
                "v1 and v1.5 have the same names and shapes, and different outputs.",
            ),
            (
                "The names and shapes agree.",
                "And no more: strides, activations and the order of layers are not in the file.",
            ),
            ("Nothing: values may be missing.", "With `strict=True` a missing name is an error."),
        ],
        right=1,
    ),
    Question(
        "You feed ResNet-50 images of 448 × 448 instead of 224 × 224. What happens?",
        [
            (
                "About four times the multiply-adds, the same parameters.",
                "Every map has four times as many pixels; only the linear layer costs what it did.",
            ),
            (
                "About four times the multiply-adds and four times the parameters.",
                "A convolution's kernel does not know the size of the image.",
            ),
            (
                "An error: the linear layer expects 7 × 7 maps.",
                "The mean over all pixels makes 2,048 numbers of any map.",
            ),
        ],
        right=0,
    ),
    Question(
        "Two papers report CIFAR-10 results, one for “ResNet-20”, one for “ResNet-18”. Which "
        "network is most likely the larger one?",
        [
            (
                "ResNet-20: it has two layers more.",
                "Depth is not size: its widest layer has 64 channels.",
            ),
            (
                "They are about equal.",
                "The paper's ResNet-20 has 0.27 million parameters, ResNet-18 some 11 million.",
            ),
            (
                "ResNet-18, about forty times.",
                "It is the ImageNet network with another stem, 64 to 512 channels wide.",
            ),
        ],
        right=2,
    ),
    Question(
        "Your count for ResNet-50 is 4.1 G multiply-adds, a paper says 3.8 G. What is likely?",
        [
            (
                "The paper has the stride on the first 1 × 1 convolution.",
                "Then the first 1 × 1 convolution of three blocks has a quarter of the pixels.",
            ),
            (
                "The paper counts a multiply-add as two operations.",
                "That would make about 8 G.",
            ),
            (
                "The paper leaves out the linear layer.",
                "It has 2 million multiply-adds, far too few.",
            ),
        ],
        right=0,
    ),
]
