"""What a run leaves on the disk: checkpoints, logs, and where the numbers came from."""

import contextlib
import hashlib
import json
import math
import os
import platform
import subprocess
import tempfile
from pathlib import Path

import torch

FORMAT = 1


def write_atomically(path, write):
    """Call `write(file)` on a temporary file beside `path`, then put it in the place of `path`.

    A reader, and a killed process, find the old file or the new one, never a half.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}-", suffix=".tmp", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
    remove_leftovers(path)


def remove_leftovers(path):
    """Delete the temporary files that killed processes left beside `path`."""
    for left in path.parent.glob(f".{path.name}-*.tmp"):
        with contextlib.suppress(OSError):
            left.unlink()


def save_checkpoint(path, content):
    write_atomically(path, lambda file: torch.save(content, file))


def load_checkpoint(path):
    """The content of a checkpoint. Raises ValueError in one sentence if it cannot be read."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ValueError(
            f"{path} is not a checkpoint of this program ({type(error).__name__}): delete it, or "
            "name another folder with --out"
        ) from None


def write_runs(path, runs):
    """Runs (dictionaries) -> one JSON log: a line for each entry, no NaN."""
    text = ",\n".join(
        "{\n"
        + ",\n".join(f'"{key}": {json.dumps(value, allow_nan=False)}' for key, value in run.items())
        + "\n}"
        for run in map(finite, runs)
    )
    content = f'{{"format": {FORMAT}, "runs": [\n{text}\n]}}\n'
    write_atomically(path, lambda file: file.write(content.encode()))


def finite(value):
    """The same value with five significant digits, and None in the place of NaN and infinity."""
    if isinstance(value, dict):
        return {key: finite(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [finite(entry) for entry in value]
    if isinstance(value, float):
        return float(f"{value:.5g}") if math.isfinite(value) else None
    return value


def versions():
    """Versions of what computed the numbers -> {name: version}."""
    import numpy
    import torchvision

    from resnet_course import __version__

    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "numpy": numpy.__version__,
        "resnet_course": __version__,
    }


def hardware(device):
    """Processor, threads and GPU -> dictionary; nothing that names this machine's owner."""
    cuda = torch.device(device).type == "cuda"
    return {
        "processor": processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name(device) if cuda else None,
    }


def processor():
    """The processor's model as Linux tells it, else what Python knows."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def commit():
    """The commit this package was checked out at -> {"hash", "changed"}, or None without git.

    `changed` says whether files of the package differed from it.
    """
    folder = Path(__file__).resolve().parent
    tracked = git(folder, "ls-files", "--error-unmatch", "resnet.py")
    found = git(folder, "rev-parse", "HEAD") if tracked else None
    if not found:
        return None
    return {"hash": found, "changed": bool(git(folder, "status", "--porcelain", "--", "."))}


def git(folder, *arguments):
    try:
        run = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True)
    except OSError:
        return None
    return run.stdout.strip() if run.returncode == 0 else None


def code_digest():
    """Twelve digits that change when a module that decides the numbers changes."""
    folder, digest = Path(__file__).resolve().parent, hashlib.sha256()
    for name in ("resnet.py", "train.py", "_fast.py", "reproduce.py"):
        digest.update((folder / name).read_bytes())
    return digest.hexdigest()[:12]


def images_digest(images):
    """Twelve digits of the training images in their order: copies may be ordered differently."""
    return hashlib.sha256(images.cpu().contiguous().numpy().tobytes()).hexdigest()[:12]
