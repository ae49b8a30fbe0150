"""A trained network that runs inside the page: no kernel, no network, no library.

    network.show(network.load(folder), compact=True)

`network.js` beside this file is the forward pass and the picture around it, `network.css` its look.
Here the weights become text, and `Folded` is the same computation in PyTorch, for comparison. The
reader draws a digit, switches blocks off, and sees what comes out. In the browser's console

    document.querySelector(".course-network").run(pixels, off)

gives ten logits for 64 numbers from 0 to 16 and the numbers of the blocks that are off, counted
from 1 to 9. It is the network chosen in the picture, which is also the element's property
`network` ("plain-20"); `networks` lists the names.
"""

import base64
import copy
import json
from html import escape
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

from . import markup

MOST = 127  # weights are whole numbers from -127 to 127, times one scale for each output channel


class Folded(nn.Module):
    """A 6n+2 network without batch norm: a convolution, blocks of two, the mean, a linear layer.

    `stem` and both convolutions of every pair in `blocks` have their batch norm folded in;
    `residual` tells whether a block's input is added to its result. Images (N, 1, 8, 8), with
    pixels from 0 to 16, -> logits (N, 10). `mean` and `std` standardize the pixels.
    """

    def __init__(self, stem, blocks, fc, residual, mean, std):
        super().__init__()
        self.stem, self.fc = stem, fc
        self.blocks = nn.ModuleList(nn.ModuleList(pair) for pair in blocks)
        self.residual, self.mean, self.std = bool(residual), float(mean), float(std)

    def forward(self, pixels, off=()):
        """`off` lists blocks, counted from 1: of those only the shortcut is left, in both kinds."""
        unknown = set(off) - set(range(1, len(self.blocks) + 1))
        if unknown:
            raise ValueError(
                f"off names block {min(unknown)}: blocks count from 1 to {len(self.blocks)}"
            )
        x = F.relu(self.stem((pixels - self.mean) / self.std))
        for number, (conv1, conv2) in enumerate(self.blocks, 1):
            past = shortcut(x, conv2.out_channels, conv1.stride[0])
            if number in off:
                x = past
            else:
                f = conv2(F.relu(conv1(x)))
                x = F.relu(f + past if self.residual else f)
        return self.fc(x.mean((2, 3)))


def shortcut(x, channels, stride):
    """Option A: every `stride`-th pixel, new channels of zeros on both sides of the old ones."""
    new = channels - x.shape[1]
    return F.pad(x[:, :, ::stride, ::stride], (0, 0, 0, 0, new // 2, new - new // 2))


@torch.no_grad()
def _whole(layer):
    """(whole numbers, scale of each output channel) of a layer's weights."""
    weight = layer.weight.detach().cpu().float()
    scale = (weight.flatten(1).abs().amax(1) / MOST).clamp(min=1e-12)
    whole = (weight / scale.view(-1, *[1] * (weight.dim() - 1))).round()
    return whole.to(torch.int8), scale


@torch.no_grad()
def quantized(folded):
    """A copy with the weights as the page has them: 8 bits each, one scale per output channel."""
    rounded = copy.deepcopy(folded).cpu().float().eval()
    for layer in _layers(rounded):
        whole, scale = _whole(layer)
        layer.weight.copy_(whole * scale.view(-1, *[1] * (whole.dim() - 1)))
    return rounded


def _layers(folded):
    return [folded.stem, *(conv for pair in folded.blocks for conv in pair), folded.fc]


# Files: what `save` writes, `load` reads


def save(path, name, folded, pixels, labels, **facts):
    """Write one network in 8 bits, with test digits to show, as a `torch.save` file."""
    layers = []
    for layer in _layers(folded):
        whole, scale = _whole(layer)
        stride = getattr(layer, "stride", (1,))[0]
        layers.append((whole, scale, layer.bias.detach().cpu().float(), stride))
    content = {
        "name": name,
        "layers": layers,
        "residual": folded.residual,
        "mean": folded.mean,
        "std": folded.std,
        "pixels": pixels.flatten(1).round().to(torch.uint8).cpu(),
        "labels": labels.to(torch.uint8).cpu(),
        "facts": facts,
    }
    torch.save(content, path)


def load(folder):
    """The networks in a folder's files digits-network-*.pt -> what `show` takes."""
    paths = sorted(Path(folder).glob("digits-network-*.pt"))
    if not paths:
        raise FileNotFoundError(
            f"no digits-network-*.pt in {folder}: they are in book/recorded of the course"
        )
    networks = {}
    for path in paths:
        content = torch.load(path, map_location="cpu", weights_only=True)
        made = [_layer(*layer) for layer in content["layers"]]
        pairs = list(zip(made[1:-1:2], made[2:-1:2], strict=True))
        end = made[0], pairs, made[-1], content["residual"], content["mean"], content["std"]
        networks[content["name"]] = Folded(*end).eval()
    return Networks(networks, content["pixels"].float().view(-1, 1, 8, 8), content["labels"].long())


@torch.no_grad()
def _layer(whole, scale, bias, stride):
    outputs, inputs = whole.shape[:2]
    if whole.dim() == 4:
        layer = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1)
    else:
        layer = nn.Linear(inputs, outputs)
    layer.weight.copy_(whole * scale.view(-1, *[1] * (whole.dim() - 1)))
    layer.bias.copy_(bias)
    return layer


class Networks(dict):
    """{name: `Folded`}, with the test digits that the picture offers: (N, 1, 8, 8) and labels."""

    def __init__(self, networks, pixels, labels):
        super().__init__(networks)
        if len(pixels) != len(labels) or not len(labels):
            raise ValueError(f"{len(pixels)} images and {len(labels)} labels: give as many of both")
        self.pixels, self.labels = pixels, labels


# The picture


class Shown:
    """What `show` returns: one HTML output for Jupyter, Colab and the page."""

    def __init__(self, networks, compact):
        self.networks, self.compact = networks, compact

    def _repr_html_(self):
        content = {
            "compact": self.compact,
            "networks": [_packed(name, net) for name, net in self.networks.items()],
            "tests": [
                [int(label), "".join("0123456789abcdefg"[int(p)] for p in image.flatten())]
                for image, label in zip(self.networks.pixels, self.networks.labels, strict=True)
            ],
        }
        beside = Path(__file__)
        script, style = (
            beside.with_suffix(suffix).read_text(encoding="utf-8") for suffix in (".js", ".css")
        )
        return (
            f'<div class="course-output course-network"><style>{style}</style>'
            f'<div class="course-network-still">{self.still()}</div>'
            f'<script type="application/json">{json.dumps(content)}</script>'
            f"<script>{script}</script></div>"
        )

    def still(self):
        """What is read where scripts do not run: one digit, and what each block is worth to it."""
        image, label = self.networks.pixels[:1], int(self.networks.labels[0])
        rows, count = "", max(len(net.blocks) for net in self.networks.values())
        for name, net in self.networks.items():
            cells = "".join(
                f"<td>{self.share(net, image, label, off):.0%}</td>"
                for off in [(), *((k,) for k in range(1, count + 1))]
            )
            rows += f"<tr><th>{escape(name)}</th>{cells}</tr>"
        heads = "".join(f"<th>{k}</th>" for k in range(1, count + 1))
        words = (
            "Here a trained network runs in your browser, once scripts may run: run this cell, or "
            "trust the notebook. Without them, this is what it would show for one test digit, a "
            f"{label}: the probability of {label}, whole and with one block off."
        )
        return (
            f"<p>{markup.marked(words)}</p><table><tr><th>block off</th><th>none</th>{heads}</tr>"
            f"{rows}</table>"
        )

    @staticmethod
    @torch.no_grad()
    def share(net, image, label, off):
        return net(image, off).softmax(1)[0, label].item()

    def __repr__(self):
        names = " and ".join(self.networks)
        return f"A trained network that runs in a page or notebook: {names}"


def show(networks, compact=False):
    """The trained networks, running in the page. `networks` is a `Networks`, as `load` gives.

    `compact` leaves out the feature maps and the code.
    """
    if not isinstance(networks, Networks) or not networks:
        raise ValueError(f"networks must be what `load` gives, got {type(networks).__name__}")
    depths = {len(net.blocks) for net in networks.values()}
    if len(depths) > 1:
        raise ValueError(f"networks shown together need equally many blocks, got {sorted(depths)}")
    return Shown(networks, bool(compact))


def _packed(name, net):
    blocks = [[_text(conv) for conv in pair] for pair in net.blocks]
    return {
        "name": name,
        "residual": net.residual,
        "mean": net.mean,
        "std": net.std,
        "stem": _text(net.stem),
        "blocks": blocks,
        "fc": _text(net.fc),
    }


def _text(layer):
    """One layer's numbers, ready for JSON."""
    whole, scale = _whole(layer)
    numbers = {"weight": whole, "scale": scale, "bias": layer.bias.detach().cpu().float()}
    packed = {
        key: base64.b64encode(value.contiguous().numpy().tobytes()).decode()
        for key, value in numbers.items()
    }
    outputs, inputs = whole.shape[:2]
    return {
        "inputs": inputs,
        "outputs": outputs,
        "stride": getattr(layer, "stride", (1,))[0],
        **packed,
    }
