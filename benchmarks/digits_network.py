"""Train the two networks that run inside the page: plain-20 and residual-20, on the digits.

    python benchmarks/digits_network.py --out book/recorded

Both get the same: 40 epochs of randomly shifted digits (by at most one pixel, so that they read a
hand that does not hit the middle), the paper's schedule, seed 0. Their batch norms are folded into
the convolutions and the weights stored in 8 bits; the facts go into digits-network.json.
"""

import copy
from pathlib import Path

import torch
from _common import describe, origin, parser, save

from resnet_course import batch_norm, data, resnet, train
from resnet_course.teaching import network

BUILD = {"plain-20": resnet.cifar_plain, "residual-20": resnet.cifar_resnet}


def fold(model, digits):
    """The network without its batch norms -> `network.Folded`"""
    model = copy.deepcopy(model).cpu().eval()
    blocks = [block for layers in (model.layer1, model.layer2, model.layer3) for block in layers]
    return network.Folded(
        batch_norm.fold(model.conv1, model.bn1),
        [(batch_norm.fold(b.conv1, b.bn1), batch_norm.fold(b.conv2, b.bn2)) for b in blocks],
        model.fc,
        isinstance(blocks[0], resnet.BasicBlock),
        digits.mean,
        digits.std,
    ).eval()


@torch.no_grad()
def test_error(folded, digits):
    pixels = digits.pixels(digits.test_images)
    return (folded(pixels).argmax(1) != digits.test_labels).float().mean().item()


def main():
    p = parser(__doc__)
    p.add_argument("--out", type=Path, default=Path("book/recorded"))
    options = p.parse_args()
    digits, epochs = data.digits(), 1 if options.quick else 40
    record = origin(__file__)
    print(describe(record))
    record["epochs"], record["networks"] = epochs, {}
    updates = epochs * digits.batches_per_epoch(128)
    for name, build in BUILD.items():
        train.seed_everything(0)
        model = build(20, in_channels=1)
        history = train.fit(
            model,
            digits,
            epochs,
            0.02,
            schedule=lambda step: train.paper_schedule(step, updates),
            augment=data.shift,
            evaluate_every=epochs,
        )
        folded = fold(model, digits)
        facts = {
            "test_error": history.test_error[-1],
            "test_error_8_bits": test_error(network.quantized(folded), digits),
        }
        print(name, facts)
        record["networks"][name] = facts
        chosen = torch.arange(100)
        pixels = digits.pixels(digits.test_images)[chosen].clamp(0, 16)
        options.out.mkdir(parents=True, exist_ok=True)
        path = options.out / f"digits-network-{name}.pt"
        network.save(path, name, folded, pixels, digits.test_labels[chosen], **facts)
    save(record, options.out / "digits-network.json")


if __name__ == "__main__":
    main()
