"""Make or refresh the virtual environment: python environment.py FOLDER REQUIREMENTS.

Does nothing when the environment already fits. Written for any Python 3, so that an old one can
say that it is too old. TORCH_INDEX in the environment names another index for torch and
torchvision, for instance PyTorch's CPU builds, which save 5 GB.
"""

import hashlib
import os
import shutil
import subprocess
import sys

OLDEST = (3, 11)
SPACE_GB = 8  # torch with its CUDA libraries; a CPU build needs 2
TROUBLE = [  # what pip prints, and what to tell the reader
    ("No space left on device", "the disk is full: free {space} GB and run the same command again"),
    (
        "Temporary failure in name resolution",
        "no network: the first install needs it (afterwards the book builds without)",
    ),
    ("NewConnectionError", "no network: the first install needs it (afterwards none is needed)"),
    ("Read timed out", "the network is too slow or broke off: run the same command again"),
    (
        "Could not find a version that satisfies",
        "a package is not to be had for this Python, or the package index cannot be reached: "
        "check the network, then run the same command again",
    ),
]


def stop(sentence):
    sys.exit("environment: " + sentence)


def files_behind(requirements):
    """The requirements file and those it names with -r or -c."""
    found = [requirements]
    with open(requirements) as lines:
        for line in lines:
            if line.startswith(("-r ", "-c ")):
                found += [name for name in files_behind(line.split()[1]) if name not in found]
    return found


def digest(requirements, index):
    """Changes with everything that decides what is installed, and with the folder's place."""
    import tomllib  # Python 3.11

    with open("pyproject.toml", "rb") as content:
        needs = tomllib.load(content)["project"]["dependencies"]
    sha = hashlib.sha256((sys.version + index + os.getcwd() + "".join(needs)).encode())
    for name in files_behind(requirements):
        with open(name, "rb") as content:
            sha.update(content.read())
    return sha.hexdigest()[:16]


def stamp_file(folder, requirements, index):
    return os.path.join(folder, "installed-" + digest(requirements, index))


def main(folder, requirements):
    index = os.environ.get("TORCH_INDEX", "")
    if sys.version_info < OLDEST:
        stop(
            "Python %d.%d is too old: the book needs 3.11 or newer. Install one and name it, "
            "like `make book PYTHON=python3.12`." % sys.version_info[:2]
        )
    stamp = stamp_file(folder, requirements, index)
    python = os.path.join(folder, "bin", "python")
    if os.path.exists(stamp) and os.path.exists(python):
        return
    space = 2 if index else SPACE_GB
    free = shutil.disk_usage(".").free / 1e9
    fresh = not os.path.exists(os.path.join(folder, "bin", "pip"))  # made last: all is there
    if fresh and free < space:
        stop("%.1f GB free on this disk, about %d GB are needed: make room first." % (free, space))
    print("Installing packages into %s (about %d GB, some minutes)" % (folder, space))
    sys.stdout.flush()
    if fresh:
        made = subprocess.run(
            [sys.executable, "-m", "venv", folder],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        if made.returncode:
            shutil.rmtree(folder, ignore_errors=True)
            stop(
                "this Python cannot make virtual environments: install its venv module "
                "(Debian and Ubuntu: apt install python3-venv) and run the same command again."
            )
    base = [python, "-m", "pip", "install", "--disable-pip-version-check"]
    if index:
        with open("requirements.txt") as lines:
            torch = [line.strip() for line in lines if line.startswith("torch")]
        install([*base, "--index-url", index, *torch], space)
    install([*base, "-r", requirements], space)
    for name in files_behind(requirements):
        if name.startswith("requirements"):  # with the tests' packages, the book's are there too
            with open(stamp_file(folder, name, index), "w") as done:
                done.write(name + "\n")


def install(command, space):
    """Run pip with one line per package; on failure say why in one sentence."""
    log = []
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True
    )
    for line in process.stdout:
        log.append(line)
        if line.startswith("Collecting "):
            print("  " + line.split()[1].split("<")[0].split(">")[0])
            sys.stdout.flush()
    if process.wait():
        text = "".join(log)
        with open("environment.log", "w") as out:
            out.write(text)
        for sign, sentence in TROUBLE:
            if sign in text:
                stop(sentence.format(space=space) + ". Details: environment.log")
        errors = [line.strip(" .\n") for line in log if line.lower().startswith("error")]
        stop("pip failed (%s). Details: environment.log" % "".join(errors[-1:]))


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(sys.argv[1], sys.argv[2])
