"""The folder .devnode: a virtual environment with what the demo's node needs, made once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parent.parent / ".devnode"
PACKAGES = Path(__file__).with_name("dev_node.txt")
READY = FOLDER / ".ready"  # holds the list that was installed, so that a changed list is installed anew


class InstallFailed(Exception):
    """The packages could not be installed; the message says what to do."""


def python() -> Path:
    """The interpreter of .devnode, which is made first if needed. Raises InstallFailed."""
    interpreter = FOLDER / "bin" / "python"
    if not READY.exists() or READY.read_bytes() != PACKAGES.read_bytes():
        print("Installing the demo's model and its runtime into .devnode (once, about 130 MB) ...", flush=True)
        _install(interpreter)
        READY.write_bytes(PACKAGES.read_bytes())
    return interpreter


def _install(interpreter: Path) -> None:
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", str(interpreter), "install", "-q"]
    try:
        # The gateway's pip installs for the other interpreter: .devnode needs none of its own.
        subprocess.run([sys.executable, "-m", "venv", "--clear", "--without-pip", str(FOLDER)], check=True)
        subprocess.run([*pip, "--no-deps", "--require-hashes", "-r", str(PACKAGES)], check=True)
    except subprocess.CalledProcessError:
        raise InstallFailed(
            "The demo's packages could not be installed (see above); the network is needed once."
        ) from None
