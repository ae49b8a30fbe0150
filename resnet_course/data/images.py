"""Real images, small enough to keep whole on the device.

`digits` is scikit-learn's embedded set of 1,797 handwritten digits: no download, ever.
`cifar10` is 60,000 colour photographs, downloaded once (170 MB) and kept as one fast file; how it
gets here is in `cifar10_files` and `download`.
"""

from dataclasses import dataclass, replace

import torch
from torch.nn import functional as F

from .cifar10_files import DataUnavailable, cifar10_arrays

CIFAR10_CLASSES = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)


@dataclass(frozen=True)
class ImageData:
    """A data set that lives on one device.

    Images are float32 (N, C, H, W), standardized: pixel value minus `mean`, divided by `std`, both
    taken from the *training* images alone: one number each, or for `mean` one per pixel and channel
    (C, H, W). Labels are int64 (N,). `classes` names the labels.
    """

    name: str
    train_images: torch.Tensor
    train_labels: torch.Tensor
    test_images: torch.Tensor
    test_labels: torch.Tensor
    mean: float | torch.Tensor
    std: float
    classes: tuple

    @property
    def in_channels(self):
        return self.train_images.shape[1]

    @property
    def image_shape(self):
        """(C, H, W) of one image."""
        return tuple(self.train_images.shape[1:])

    def to(self, device):
        """The same data on another device."""
        names = ("train_images", "train_labels", "test_images", "test_labels")
        return replace(self, **{name: getattr(self, name).to(device) for name in names})

    def pixels(self, images):
        """Standardized images back in their original units, for looking at them."""
        return images * self.std + torch.as_tensor(self.mean).to(images.device)

    def batches(self, batch_size, generator, augment=None, drop_last=True):
        """One epoch of shuffled training batches: yields (images, labels).

        `generator` (a CPU `torch.Generator`) decides the order, the same on every device.
        `augment(images, generator)` may change a batch. `drop_last` leaves out the rest that does
        not fill a batch: batch norm should not see a batch of 3.
        """
        count = len(self.train_labels)
        if not 1 <= batch_size <= count:
            raise ValueError(f"batch_size must be between 1 and {count}, got {batch_size}")
        order = torch.randperm(count, generator=generator).to(self.train_labels.device)
        stop = count - count % batch_size if drop_last else count
        for start in range(0, stop, batch_size):
            chosen = order[start : start + batch_size]
            images = self.train_images[chosen]
            if augment is not None:
                images = augment(images, generator)
            yield images, self.train_labels[chosen]

    def batches_per_epoch(self, batch_size, drop_last=True):
        count = len(self.train_labels)
        return count // batch_size if drop_last else -(-count // batch_size)


def shift(images, generator, pixels=1):
    """Augmentation: pad with `pixels` background pixels, crop each image at a random place.

    (N, C, H, W) -> (N, C, H, W). The padding has the value of each image's top left pixel.
    """
    n, c, h, w = images.shape
    p = pixels
    padded = images[:, :, :1, :1].expand(n, c, h + 2 * p, w + 2 * p).clone()
    padded[:, :, p : p + h, p : p + w] = images
    top, left = torch.randint(0, 2 * p + 1, (2, n), generator=generator)
    return _crop(padded, top, left[:, None] + torch.arange(w), h)


def crop_and_flip(images, generator, pixels=4):
    """The paper's augmentation (section 4.2): pad by `pixels`, crop at random, mirror every other.

    (N, C, H, W) -> (N, C, H, W), on the images' device; `generator` is a CPU one, so every device
    sees the same crops. The padding is 0: in standardized images that is the mean image.
    """
    n, _, h, w = images.shape
    padded = F.pad(images, (pixels,) * 4)
    top, left = torch.randint(0, 2 * pixels + 1, (2, n), generator=generator)
    mirrored = torch.randint(0, 2, (n, 1), generator=generator).bool()
    cols = torch.where(mirrored, torch.arange(w - 1, -1, -1), torch.arange(w))
    return _crop(padded, top, left[:, None] + cols, h)


def _crop(images, top, cols, height):
    """From each image its own `height` rows from `top` (N,) on, and its own columns (N, W)."""
    rows = (top[:, None] + torch.arange(height)).to(images.device)
    cols = cols.to(images.device)
    image = torch.arange(len(images), device=images.device)[:, None, None]
    cropped = images.permute(0, 2, 3, 1)[image, rows[:, :, None], cols[:, None, :]]
    return cropped.permute(0, 3, 1, 2)


def digits(seed=0, test_size=360, device="cpu"):
    """1,797 real 8 x 8 handwritten digits (scikit-learn; UCI Optical Recognition, 1998), offline.

    Split into training and test images with the share of each digit kept; `seed` decides the
    split. Images are (N, 1, 8, 8); the original pixels run from 0 to 16.
    """
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    if not 10 <= test_size <= 1787:
        raise ValueError(f"test_size must be between 10 and 1787 images, got {test_size}")
    pixels, labels = load_digits(return_X_y=True)
    train_x, test_x, train_y, test_y = train_test_split(
        pixels.reshape(-1, 1, 8, 8), labels, test_size=test_size, stratify=labels, random_state=seed
    )
    mean, std = float(train_x.mean()), float(train_x.std())
    data = ImageData(
        name="digits",
        train_images=torch.from_numpy((train_x - mean) / std).float(),
        train_labels=torch.from_numpy(train_y).long(),
        test_images=torch.from_numpy((test_x - mean) / std).float(),
        test_labels=torch.from_numpy(test_y).long(),
        mean=mean,
        std=std,
        classes=tuple("0123456789"),
    )
    return data.to(device)


def cifar10(root=None, device="cpu"):
    """CIFAR-10: 50,000 + 10,000 colour photographs in ten classes (Krizhevsky 2009) -> `ImageData`.

    Images are (N, 3, 32, 32); the original pixels run from 0 to 255. As in the paper (section 4.2)
    the mean image of the training set is subtracted, so `mean` is (3, 32, 32). We also divide by
    one number, `std`, the standard deviation of what remains: after a convolution with batch norm
    it makes no difference, and it lets networks without batch norm train.

    `root` and errors: see `cifar10_arrays`.
    """
    arrays = cifar10_arrays(root)
    mean = torch.from_numpy(arrays["train_images"].mean(0).transpose(2, 0, 1)).float()

    def centred(images):
        images = torch.from_numpy(images).permute(0, 3, 1, 2).to(device)
        images = images.to(torch.float32, memory_format=torch.contiguous_format)
        return images.sub_(mean.to(device))

    train_images, test_images = centred(arrays["train_images"]), centred(arrays["test_images"])
    std = float(train_images.std())
    return ImageData(
        name="cifar10",
        train_images=train_images.div_(std),
        train_labels=torch.from_numpy(arrays["train_labels"]).to(device),
        test_images=test_images.div_(std),
        test_labels=torch.from_numpy(arrays["test_labels"]).to(device),
        mean=mean,
        std=std,
        classes=CIFAR10_CLASSES,
    )


def load(preset, device="cpu", root=None):
    """The data of a chapter's preset, "digits" or "cifar10" -> `ImageData`.

    `root` and errors: see `cifar10_arrays`.
    """
    if preset == "digits":
        return digits(device=device)
    if preset == "cifar10":
        return cifar10(root, device)
    raise ValueError(f'preset must be "digits" or "cifar10", got {preset!r}')


def preset(device, root=None):
    """The preset for this machine: "cifar10" with CUDA, if the data is here or arrives.

    Else it is "digits", and one printed sentence says why.
    """
    if torch.device(device).type != "cuda":
        print("No CUDA device: this chapter uses the digits, small enough for a CPU.")
        return "digits"
    try:
        cifar10_arrays(root)
    except DataUnavailable as error:
        print(f"This chapter uses the digits: {error}")
        return "digits"
    return "cifar10"
