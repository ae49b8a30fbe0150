"""What a run leaves on the disk: checkpoints, logs, and where the numbers came from.

Only `reproduce` uses this module; `recorded` reads the logs.
"""

import contextlib
import errno
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


class Refused(ValueError):
    """The run cannot start or go on like this. The message is one sentence, with what to do."""


@contextlib.contextmanager
def on_the_disk(path):
    """What the file system refuses, in one sentence. Raises `Refused`."""
    try:
        yield
    except NotImplementedError:  # filelock below 3.14, on a folder without locks
        reason = "its files cannot be locked"
    except OSError as error:
        locks = error.errno in (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS)
        reason = "its files cannot be locked" if locks else error.strerror or str(error)
    else:
        return
    raise Refused(
        f"{path} cannot be written ({reason}): make room, or name another folder with --out"
    ) from None


def write_atomically(path, write):
    """Call `write(file)` on a temporary file beside `path`, then put it in the place of `path`.

    A reader, and whoever comes after a killed process, finds the old file or the new one, never a
    half.
    """
    path = Path(path)
    name = {"prefix": f".{path.name}-", "suffix": ".tmp", "dir": path.parent}
    with on_the_disk(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(**name)
        try:
            with os.fdopen(handle, "wb") as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(temporary, 0o644)  # mkstemp's files are private
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise


@contextlib.contextmanager
def only_one_process(path):
    """Hold a lock beside `path`, and clear away what killed processes left there.

    Raises `Refused` when another process holds it. A killed process holds none.
    """
    from filelock import FileLock, Timeout

    with on_the_disk(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path.parent / f".{path.name}.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise Refused(f"another process is writing {path}: wait for it") from None
    try:
        for left in path.parent.glob(f".{path.name}-*.tmp"):
            left.unlink(missing_ok=True)
        yield
    finally:
        lock.release()


def save_checkpoint(path, content):
    write_atomically(path, lambda file: torch.save(content, file))


def load_checkpoint(path):
    """The dictionary in a checkpoint. Raises `Refused` if there is none."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        if "config" in content and "updater" in content:
            return content
        reason = "it holds something else"
    except Exception as error:  # a damaged zip file, a pickle that is refused, a foreign file
        reason = type(error).__name__
    raise Refused(
        f"{path} is not a checkpoint of this program ({reason}): move it away, or name another "
        "folder with --out"
    )


def write_runs(path, runs):
    """Runs (dictionaries) -> one JSON log, one entry a line, numbers rounded, no NaN."""
    entries = [
        ",\n".join(f'"{key}": {json.dumps(value, allow_nan=False)}' for key, value in run.items())
        for run in map(rounded, runs)
    ]
    text = ",\n".join(f"{{\n{entry}\n}}" for entry in entries)
    content = f'{{"format": {FORMAT}, "runs": [\n{text}\n]}}\n'
    write_atomically(path, lambda file: file.write(content.encode()))


def rounded(value):
    """The same value with five significant digits, and None in the place of NaN and infinity."""
    if isinstance(value, dict):
        return {key: rounded(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(entry) for entry in value]
    if isinstance(value, float):
        return float(f"{value:.5g}") if math.isfinite(value) else None
    return value


def export_weights(path, content, facts):
    """Weights as a `torch.save` file, and `facts` with its checksum in `pretrained.json` beside it.

    `facts` is a dictionary for JSON with a `network`, the name it is found under.
    """
    path = Path(path)
    write_atomically(path, lambda file: torch.save(content, file))
    index = path.parent / "pretrained.json"
    entries = json.loads(index.read_text()) if index.exists() else {}
    entries[facts["network"]] = rounded({"file": path.name, "sha256": sha256(path), **facts})
    text = json.dumps(entries, indent=1) + "\n"
    write_atomically(index, lambda file: file.write(text.encode()))


def sha256(path):
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


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
    """Processor, threads and GPU -> dictionary."""
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
    folder = Path(__file__).resolve().parent.parent
    tracked = git(folder, "ls-files", "--error-unmatch", "resnet.py")  # else: installed, in a venv
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
    folder, digest = Path(__file__).resolve().parent.parent, hashlib.sha256()
    for name in ("resnet.py", "train.py", "reproduce/fast.py", "reproduce/run.py"):
        digest.update((folder / name).read_bytes())
    return digest.hexdigest()[:12]


def images_digest(images):
    """Twelve digits of the training images in their order: copies may be ordered differently."""
    return hashlib.sha256(images.cpu().contiguous().numpy().tobytes()).hexdigest()[:12]
