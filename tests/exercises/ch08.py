"""Answers to the exercises of chapter 08."""

import copy

import torch
from bank import Bank
from torch import nn
from torch.nn import functional as F

# 8.1


def middle(pixels):
    height, width = pixels.shape[-2:]
    edge = min(height, width)
    top, left = (height - edge) // 2, (width - edge) // 2
    return pixels[:, top : top + edge, left : left + edge]


def smaller(pixels, mean, **how):
    how = {"mode": "bilinear", "antialias": True, **how}
    return F.interpolate(pixels[None].float(), size=mean.shape[1:], **how)


def prepared(pixels, mean, std):
    return (smaller(middle(pixels), mean) - mean) / std


def prepared_by_torchvision(pixels, mean, std):
    from torchvision.transforms.v2 import functional

    side = mean.shape[-1]
    small = functional.resize(pixels, [side], antialias=True)
    small = functional.center_crop(small, [side, side])
    return ((small - mean) / std)[None]


def prepared_by_pillow(pixels, mean, std):
    import numpy
    from PIL import Image

    image = Image.fromarray(middle(pixels).permute(1, 2, 0).numpy())
    image = image.resize((mean.shape[-1],) * 2, Image.Resampling.BILINEAR)
    small = torch.from_numpy(numpy.array(image)).permute(2, 0, 1)
    return ((small - mean) / std)[None]


def prepared_by_mean(pixels, mean, std):
    small = F.adaptive_avg_pool2d(middle(pixels).float(), mean.shape[-1])
    return ((small - mean) / std)[None]


def prepared_by_narrowing(pixels, mean, std):
    """As good: where the difference of the sides is odd, either middle would do."""
    pixels = pixels.float()[None]
    for axis in (2, 3):
        extra = pixels.shape[axis] - min(pixels.shape[2:])
        pixels = pixels.narrow(axis, (extra + 1) // 2, pixels.shape[axis] - extra)
    return F.interpolate(pixels, mean.shape[1:], mode="bilinear", antialias=True) / std - mean / std


def as_if_broad(pixels, mean, std):
    height, width = pixels.shape[1:]
    left = (width - height) // 2
    return (smaller(pixels[:, :, left : left + height], mean) - mean) / std


def written_in(pixels, mean, std):
    small = F.interpolate(middle(pixels)[None].float(), 224, mode="bilinear", antialias=True)
    return (small - mean) / std


def stays_bytes(pixels, mean, std):
    small = F.interpolate(middle(pixels)[None], mean.shape[1:], mode="bilinear", antialias=True)
    return (small - mean.byte()) / std


def piece(pixels, mean):
    side = mean.shape[-1]
    top, left = (pixels.shape[1] - side) // 2, (pixels.shape[2] - side) // 2
    return pixels[None, :, top : top + side, left : left + side].float()


def in_place(pixels, mean, std):
    pixels[:] = 0
    return prepared(pixels, mean, std)


def own_statistics(pixels, mean, std):
    small = smaller(middle(pixels), mean)
    return (small - small.mean()) / small.std()


# 8.2


def weighed(maps, weight, kind):
    return (weight[kind][:, None, None] * maps).sum(0)


def weighed_in_a_loop(maps, weight, kind):
    total = torch.zeros_like(maps[0])
    for channel, number in zip(maps, weight[kind], strict=True):
        total += number * channel
    return total


# 8.3


def frozen(network):
    network.requires_grad_(False)
    network.fc.requires_grad_(True)
    network.eval()
    network.fc.train()


def frozen_norms(network):
    network.train()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    for name, parameter in network.named_parameters():
        parameter.requires_grad = name.startswith("fc.")


def frozen_children(network):
    for name, child in network.named_children():
        child.train(name == "fc")
        child.requires_grad_(name == "fc")


def frozen_and_returned(network):
    frozen(network)
    return network


def only_gradients(network):
    network.train()
    for name, parameter in network.named_parameters():
        parameter.requires_grad = name.startswith("fc.")


def only_gradients_any_mode(network):
    """No mode is set: right by chance for a network that comes in evaluation mode."""
    for name, parameter in network.named_parameters():
        parameter.requires_grad = name.startswith("fc.")


def all_in_evaluation(network):
    only_gradients(network)
    network.eval()


def only_modes(network):
    network.eval()
    network.fc.train()


def nothing_learns(network):
    frozen(network)
    network.requires_grad_(False)


def head_frozen(network):
    frozen(network)
    network.requires_grad_(True)
    network.fc.requires_grad_(False)


def norms_learn(network):
    frozen(network)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.requires_grad_(True)


def first_layer_learns(network):
    frozen(network)
    network.conv1.requires_grad_(True)


def outermost_norm(network):
    only_gradients(network)
    network.bn1.eval()


def no_momentum(network):
    only_gradients(network)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 0.0


def statistics_reset(network):
    frozen(network)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()


def weights_changed(network):
    frozen(network)
    nn.init.zeros_(network.fc[1].bias)


def no_dropout(network):
    frozen(network)
    network.fc[0].p = 0.0


def no_statistics(network):
    only_gradients(network)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.track_running_stats = False


def norms_reset(network):
    frozen(network)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.ones_(module.weight)


def stem_forgotten(network):
    only_gradients(network)
    for layers in (network.layer1, network.layer2, network.layer3):
        layers.eval()


def only_a_copy(network):
    frozen(copy.deepcopy(network))


def head_replaced(network):
    frozen(network)
    network.fc = nn.Linear(64, 10)


def everything_learns(network):
    network.train()
    network.bn1.eval()


def head_half_frozen(network):
    frozen(network)
    network.fc[1].weight.requires_grad = False


def shifts_learn(network):
    frozen(network)
    for name, parameter in network.named_parameters():
        parameter.requires_grad = name.startswith("fc.") or name.endswith(".bias")


def statistics_forgotten(network):
    frozen(network)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
            module.running_mean += 1


# 8.4


def stem(conv, weight=None, bias=True, **more):
    same = {
        "stride": conv.stride,
        "padding": conv.padding,
        "dilation": conv.dilation,
        "padding_mode": conv.padding_mode,
        "bias": bias and conv.bias is not None,
        "dtype": conv.weight.dtype,
        **more,
    }
    new = nn.Conv2d(1, conv.out_channels, conv.kernel_size, **same)
    with torch.no_grad():
        if weight is not None:
            new.weight.copy_(weight)
        if new.bias is not None:
            new.bias.copy_(conv.bias)
    return new


def summed(conv):
    return stem(conv, conv.weight.sum(1, keepdim=True))


def summed_by_copy(conv):
    new = copy.deepcopy(conv)
    new.in_channels = 1
    new.weight = nn.Parameter(conv.weight.sum(1, keepdim=True))
    return new


class Repeats(nn.Module):
    def __init__(self, conv):
        super().__init__()
        self.conv = conv

    def forward(self, grey):
        return self.conv(grey.repeat(1, 3, 1, 1))


def by_einsum(conv):
    return stem(conv, torch.einsum("oikl->okl", conv.weight)[:, None])


def by_brightness(conv):
    light = torch.tensor([0.299, 0.587, 0.114], dtype=conv.weight.dtype)[None, :, None, None]
    return stem(conv, (conv.weight * light).sum(1, keepdim=True))


def bias_new(conv):
    new = stem(conv, conv.weight.sum(1, keepdim=True))
    if new.bias is not None:
        nn.init.normal_(new.bias)
    return new


def changed_in_place(conv):
    conv.weight.data = conv.weight.data.sum(1, keepdim=True)
    conv.in_channels = 1
    return conv


# 8.5


def without_prefix(state):
    return {name.removeprefix("module."): value for name, value in state.items()}


def load(network, state):
    own = network.state_dict()
    fits = {
        name: value
        for name, value in without_prefix(state).items()
        if name in own and own[name].shape == value.shape
    }
    network.load_state_dict(fits, strict=False)
    return [name for name in own if name not in fits]


def load_and_read(network, state):
    own = network.state_dict()
    state = {
        name: value
        for name, value in without_prefix(state).items()
        if name not in own or own[name].shape == value.shape
    }
    return sorted(network.load_state_dict(state, strict=False).missing_keys)


def load_by_copying(network, state):
    state, left = without_prefix(state), set()
    for name, value in network.state_dict().items():
        if name in state and state[name].shape == value.shape:
            value.copy_(state[name])
        else:
            left.add(name)
    return left


def load_as_a_tuple(network, state):
    return tuple(load(network, state))


def not_strict(network, state):
    return network.load_state_dict(state, strict=False).missing_keys


def strictly(network, state):
    network.load_state_dict(
        {n: v for n, v in state.items() if "fc" not in n and n != "extra.weight"}
    )
    return ["fc.weight", "fc.bias"]


def prefix_kept(network, state):
    own = network.state_dict()
    fits = {n: v for n, v in state.items() if n in own and own[n].shape == v.shape}
    network.load_state_dict(fits, strict=False)
    return [name for name in own if name not in fits]


def parameters_alone(network, state):
    state, left = without_prefix(state), load(copy.deepcopy(network), state)
    for name, parameter in network.named_parameters():
        if name not in left:
            parameter.data.copy_(state[name])
    return left


def names_alone(network, state):
    return load(copy.deepcopy(network), state)


def the_report(network, state):
    load(network, state)
    return network.load_state_dict(network.state_dict())


def unexpected(network, state):
    left = load(network, state)
    return [*left, "extra.weight"]


def what_was_loaded(network, state):
    left = load(network, state)
    return [name for name in network.state_dict() if name not in left]


def load_as(
    network, state, rename=lambda name: name, fit=lambda own, value: own.shape == value.shape
):
    """`load` with another way to read names, and to tell what fits."""
    own, fits = network.state_dict(), {}
    for name, value in state.items():
        if rename(name) in own and fit(own[rename(name)], value):
            fits[rename(name)] = value.reshape(own[rename(name)].shape)
    network.load_state_dict(fits, strict=False)
    return [name for name in own if name not in fits]


def everywhere(network, state):
    return load_as(network, state, lambda name: name.replace("module.", ""))


def letters(network, state):
    return load_as(network, state, lambda name: name.lstrip("module."))


def cut_always(network, state):
    return load_as(network, state, lambda name: name[7:])


def first_decides(network, state):
    cut = 7 * next(iter(state)).startswith("module.")
    return load_as(network, state, lambda name: name[cut:])


def as_many_numbers(network, state):
    return load_as(network, without_prefix(state), fit=lambda own, v: own.numel() == v.numel())


def counters_forgotten(network, state):
    fit = lambda own, v: v.dim() and own.shape == v.shape  # noqa: E731
    return load_as(network, without_prefix(state), fit=fit)


def until_a_misfit(network, state):
    own, fits = network.state_dict(), {}
    for name, value in without_prefix(state).items():
        if name not in own or own[name].shape != value.shape:
            break
        fits[name] = value
    network.load_state_dict(fits, strict=False)
    return [name for name in own if name not in fits]


def spread(network, state):
    state, left = without_prefix(state), []
    for name, value in network.state_dict().items():
        try:
            value.copy_(state[name])
        except (KeyError, RuntimeError):
            left.append(name)
    return left


def always_without_the_head(network, state):
    state = {n: v for n, v in without_prefix(state).items() if not n.startswith("fc.")}
    return load(network, state)


def nothing_named(network, state):
    load(network, state)
    return []


def nothing_returned(network, state):
    load(network, state)


def spoils_the_state(network, state):
    names = load(network, state)
    state.pop("extra.weight", None)
    return names


def cut_to_fit(network, state):
    names = load(network, state)
    with torch.no_grad():
        for name, value in network.state_dict().items():
            if name in names and name in state:
                value.copy_(state[name][: len(value), : value.shape[1]] if value.dim() > 1 else 0)
    return names


TRUTH = {
    "A": "not loaded",
    "B": "training mode",
    "C": "rate",
    "D": "preparation",
    "E": "drift",
}


def cut_with_minus(pixels, mean, std):
    height, width = pixels.shape[-2:]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = pixels[:, top:-top, left:-left][None].float()
    small = F.interpolate(square, size=mean.shape[-1], mode="bilinear", antialias=True)
    return (small - mean) / std


def reshaped_map(maps, weight, kind):
    channels, height, width = maps.shape
    return maps.reshape(height, width, channels) @ weight[kind]


def three_axes(conv):
    new = copy.deepcopy(conv)
    new.in_channels = 1
    new.weight = nn.Parameter(conv.weight.detach().sum(1))
    return new


def bias_taken_for_granted(conv):
    new = nn.Conv2d(1, conv.out_channels, conv.kernel_size, conv.stride, conv.padding)
    with torch.no_grad():
        new.weight.copy_(conv.weight.sum(1, keepdim=True))
        new.bias.copy_(conv.bias)
    return new


BANKS = {
    "prepare": Bank(
        right=[prepared, prepared_by_torchvision, prepared_by_pillow, prepared_by_narrowing],
        wrong=[
            (lambda p, m, s: (smaller(p, m) - m) / s, "the whole picture was squeezed"),
            (
                lambda p, m, s: (smaller(p[:, : min(p.shape[1:]), : min(p.shape[1:])], m) - m) / s,
                "from a corner",
            ),
            (lambda p, m, s: (piece(p, m) - m) / s, "a small piece was cut out"),
            (
                lambda p, m, s: (smaller(middle(p), m, antialias=False) - m) / s,
                "without averaging",
            ),
            (
                lambda p, m, s: (smaller(middle(p), m, mode="nearest", antialias=False) - m) / s,
                "drops its neighbours",
            ),
            (lambda p, m, s: smaller(middle(p), m) / s, "mean picture was not subtracted"),
            (lambda p, m, s: smaller(middle(p), m) - m, "not divided by `std`"),
            (
                lambda p, m, s: smaller(middle(p), m),
                "another one than expected: neither mean nor std was used",
            ),
            (lambda p, m, s: (smaller(middle(p), m) / 255 - m) / s, "count from 0 to 255"),
            (lambda p, m, s: smaller(middle(p), m) / s - m, "*before* the mean"),
            (lambda p, m, s: smaller(middle(p), m) / 255, "runs from 0 to 1"),
            (own_statistics, "the picture's own mean"),
            (lambda p, m, s: prepared(p.flip(0), m, s), "red and blue"),
            (lambda p, m, s: prepared(p, m, s)[0], "That is one picture"),
            (lambda p, m, s: prepared(p, m, s).numpy(), "Expected a tensor"),
            (in_place, "changed its input in place"),
            (lambda p, m, s: torch.zeros(1, 3, *m.shape[1:]), "where the gap is largest"),
            (lambda p, m, s: prepared_by_mean(p, m, s), "averaged over boxes"),
            (lambda p, m, s: (smaller(middle(p), m, mode="bicubic") - m) / s, "by `bicubic`"),
            (
                lambda p, m, s: (smaller(middle(p), m, align_corners=True) - m) / s,
                "the corners were aligned",
            ),
            (lambda p, m, s: prepared(p, m, s).clamp(-1, 1), "beyond -1 and 1"),
            (
                lambda p, m, s: prepared(p, m.mean((1, 2), keepdim=True).expand(m.shape), s),
                "one mean for each channel",
            ),
            (lambda p, m, s: prepared(p.flip(-1), m, s), "it is mirrored"),
            (lambda p, m, s: (smaller(middle(p), m) - m / 255) / s, "the pixel values were not"),
            (as_if_broad, "as if it were broad"),
            (written_in, "the small picture is not as large"),
            (stays_bytes, "subtracted in uint8"),
            (cut_with_minus, "square that was cut out is empty"),
        ],
    ),
    "class_map": Bank(
        right=[
            weighed,
            weighed_in_a_loop,
            lambda maps, weight, kind: torch.einsum("chw,c->hw", maps, weight[kind]),
            lambda maps, weight, kind: torch.tensordot(weight[kind], maps, 1),
            lambda maps, weight, kind: F.conv2d(maps[None], weight[:, :, None, None])[0, kind],
        ],
        wrong=[
            (lambda m, w, k: weighed(m, w, k).relu(), "negative values were set to 0"),
            (lambda m, w, k: weighed(m, w, k) / m[0].numel(), "its *sum* gives the output"),
            (lambda m, w, k: weighed(m, w, k) / len(m), "the channels were averaged"),
            (lambda m, w, k: m.mean(0), "averaged without weights"),
            (lambda m, w, k: m.sum(0), "added up without weights"),
            (lambda m, w, k: weighed(m, w, k).abs(), "the signs are lost"),
            (lambda m, w, k: weighed(m, w.abs(), k), "weights lost their signs"),
            (lambda m, w, k: weighed(m, w, (k + 1) % len(w)), "another class's weights"),
            (lambda m, w, k: weighed(m, w.mT.contiguous(), k), "a *column* of the weight"),
            (
                lambda m, w, k: weighed(m, w.mean(0, keepdim=True), 0),
                "all classes' weights",
            ),
            (
                lambda m, w, k: weighed(m, w, k) / weighed(m, w, k).abs().max(),
                "divided by its largest",
            ),
            (lambda m, w, k: weighed(m, w, k).mean(), "one number for the whole picture"),
            (lambda m, w, k: weighed(m, w, k)[None], "a dimension too many"),
            (lambda m, w, k: weighed(m, w, k).T, "the height comes first"),
            (lambda m, w, k: m * w[k][:, None, None], "a map for each channel or each class"),
            (lambda m, w, k: (m * w[k]).sum(0), "need two more dimensions"),
            (lambda m, w, k: (w[k] @ m.view(64, 64)).view(8, 8), "a size is written in"),
            (lambda m, w, k: weighed(m, w - w.mean(0), k), "of all classes were subtracted"),
            (lambda m, w, k: weighed(m, w.clamp(min=0), k), "with a positive weight"),
            (lambda m, w, k: weighed(m, w.softmax(1), k), "softmax changes the weights"),
            (lambda m, w, k: weighed(m, w, k) - weighed(m, w, k).mean(), "mean was subtracted"),
            (lambda m, w, k: weighed(m, w, k) + 1, "of the map, where the gap"),
            (lambda m, w, k: -weighed(m, w, k), "every value has the other sign"),
            (reshaped_map, "has mixed channels and places"),
        ],
    ),
    "train_head_only": Bank(
        right=[frozen, frozen_norms, frozen_children, frozen_and_returned],
        wrong=[
            (only_gradients, ", batch norm is in training mode: its running statistics"),
            (only_gradients_any_mode, ", batch norm is in training mode: its running statistics"),
            (all_in_evaluation, "does nothing while the head learns"),
            (only_modes, "evaluation mode does not stop learning"),
            (lambda n: n.train() and None, "nothing has changed in it"),
            (nothing_learns, "No parameter requires"),
            (head_frozen, "It is the wrong way round"),
            (head_half_frozen, "Of the head, `fc.1.weight`"),
            (norms_learn, "γ and β of batch norm"),
            (first_layer_learns, "Of the body, `conv1.weight`"),
            (shifts_learn, "The β of batch norm"),
            (outermost_norm, "the batch norm `layer1.0.bn1` is"),
            (no_momentum, "its running mean stands still"),
            (statistics_forgotten, "itself changed the running statistics"),
            (statistics_reset, "itself changed the running statistics"),
            (weights_changed, "itself changed weights"),
            (norms_reset, "itself changed weights"),
            (no_dropout, "has another probability"),
            (no_statistics, "its running mean stands still"),
            (stem_forgotten, "the batch norm `bn1` is"),
            (only_a_copy, "nothing has changed in it"),
            (head_replaced, "The head was replaced"),
            (everything_learns, "the body will learn"),
        ],
    ),
    "grey_stem": Bank(
        right=[summed, summed_by_copy, by_einsum, Repeats],
        wrong=[
            (lambda c: stem(c, c.weight.mean(1, keepdim=True)), "the kernels were averaged"),
            (lambda c: stem(c, c.weight[:, :1]), "other two were dropped"),
            (lambda c: stem(c, 3 * c.weight[:, 1:2]), "stands for all three"),
            (by_brightness, "the weights of brightness"),
            (lambda c: stem(c), "the kernel is a new one"),
            (lambda c: stem(c, 0.4 * c.weight.sum(1, keepdim=True)), "too small by one"),
            (lambda c: stem(c, c.weight.square().sum(1, keepdim=True)), "where the gap is largest"),
            (lambda c: stem(c, 0 * c.weight[:, :1]), "0 everywhere"),
            (lambda c: stem(c, c.weight.sum(1, keepdim=True), bias=False), "the bias is missing"),
            (
                lambda c: stem(c, c.weight.sum(1, keepdim=True), stride=1),
                "another `stride`",
            ),
            (
                lambda c: stem(c, c.weight.sum(1, keepdim=True), padding=0),
                "another `padding` than",
            ),
            (
                lambda c: stem(c, c.weight.sum(1, keepdim=True), dilation=1),
                "another `dilation`",
            ),
            (
                lambda c: stem(c, c.weight.sum(1, keepdim=True), padding_mode="zeros"),
                "another `padding_mode`",
            ),
            (lambda c: stem(c, c.weight.sum(0, keepdim=True)), "the sum goes over axis 1"),
            (lambda c: stem(c, c.weight.amax(1, keepdim=True)), "the largest of the three"),
            (lambda c: stem(c, c.weight[:, :2].sum(1, keepdim=True)), "one of the three kernels"),
            (bias_new, "the bias is a new one"),
            (lambda c: copy.deepcopy(c), "still wants three channels"),
            (lambda c: c.weight.sum(1, keepdim=True), "Expected a module"),
            (changed_in_place, "changed its input in place"),
            (three_axes, "does the sum keep the axis"),
            (bias_taken_for_granted, "`conv.bias` is None there"),
        ],
    ),
    "load_what_fits": Bank(
        right=[load, load_and_read, load_by_copying, load_as_a_tuple],
        wrong=[
            (not_strict, "never shapes"),
            (strictly, "a name that only one side has"),
            (prefix_kept, "the names differ by that beginning"),
            (parameters_alone, "counters are no parameters"),
            (counters_forgotten, "without dimensions"),
            (names_alone, "not into a copy"),
            (lambda n, s: [], "copy what fits"),
            (lambda n, s: (load(n, s), n.half())[0], "another dtype"),
            (everywhere, "in the *middle* of its name"),
            (letters, "`lstrip` takes off letters"),
            (cut_always, "no entry was found"),
            (first_decides, "looked at by itself"),
            (until_a_misfit, "ended at the first entry"),
            (as_many_numbers, "the places of another shape"),
            (spread, "`scale.weight` does not fit"),
            (lambda n, s: [k for k in load(n, s) if k in s], "does not have are left out"),
            (the_report, "Expected the names"),
            (unexpected, "a name that the network does not have is among them"),
            (what_was_loaded, "the ones that *were* loaded"),
            (always_without_the_head, "`fc.weight` fits and was not loaded"),
            (nothing_named, "the list is empty"),
            (nothing_returned, "end with `return`"),
            (spoils_the_state, "changed the state dict"),
            (cut_to_fit, "`fc.weight` does not fit"),
        ],
    ),
    "diagnose": Bank(
        right=[
            TRUTH,
            {**TRUTH, "F": "?"},
            {letter: cause.upper() for letter, cause in TRUTH.items()},
            {letter: f" {cause} " for letter, cause in TRUTH.items()},
        ],
        wrong=[
            ({**TRUTH, "A": "preparation"}, "the random ones"),
            ({**TRUTH, "A": "rate"}, "no rate was ever used"),
            ({**TRUTH, "B": "drift"}, "depend on the others"),
            ({**TRUTH, "B": "preparation"}, "depend on the others"),
            ({**TRUTH, "C": "drift"}, "differ in one number"),
            ({**TRUTH, "A": "training mode"}, "`eval()` was called"),
            ({**TRUTH, "A": "drift"}, "nothing was trained, so no running"),
            ({**TRUTH, "D": "training mode"}, "on the authors' own inputs"),
            ({**TRUTH, "E": "rate"}, "what moved is no parameter"),
            ({**TRUTH, "E": "training mode"}, "is in evaluation mode"),
            ({k: v for k, v in TRUTH.items() if k != "C"}, "C is missing"),
            ({**TRUTH, "D": "bad luck"}, 'Expected one of "training mode"'),
            (list(TRUTH.values()), "Expected a dictionary"),
            ({cause: letter for letter, cause in TRUTH.items()}, "not vice versa"),
        ],
    ),
}
