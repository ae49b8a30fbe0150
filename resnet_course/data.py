"""Real images, small enough to keep whole on the device.

`digits` is scikit-learn's embedded set of 1,797 handwritten digits: no download, ever.
"""

from dataclasses import dataclass, replace

import torch


@dataclass(frozen=True)
class ImageData:
    """A data set that lives on one device.

    Images are float32 (N, C, H, W), standardized: pixel value minus `mean`, divided by `std`, both
    taken from the *training* images alone. Labels are int64 (N,). `classes` names the labels.
    """

    name: str
    train_images: torch.Tensor
    train_labels: torch.Tensor
    test_images: torch.Tensor
    test_labels: torch.Tensor
    mean: float
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
        return images * self.std + self.mean

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

    (N, C, H, W) -> (N, C, H, W). The paper pads CIFAR images by 4 (section 4.2). The padding has
    the value of each image's top left pixel.
    """
    n, c, h, w = images.shape
    p = pixels
    padded = images[:, :, :1, :1].expand(n, c, h + 2 * p, w + 2 * p).clone()
    padded[:, :, p : p + h, p : p + w] = images
    top, left = torch.randint(0, 2 * p + 1, (2, n), generator=generator).to(images.device)
    rows = top[:, None] + torch.arange(h, device=images.device)
    cols = left[:, None] + torch.arange(w, device=images.device)
    image = torch.arange(n, device=images.device)[:, None, None]
    cropped = padded.permute(0, 2, 3, 1)[image, rows[:, :, None], cols[:, None, :]]
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
