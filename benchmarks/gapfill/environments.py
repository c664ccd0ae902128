"""A virtual environment for each package that probtensor is compared with, so that none has to agree with another."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / ".cache" / "peers"
PINS = ROOT / "benchmarks" / "peers"


class Unavailable(Exception):
    """The package cannot be installed here; the text says why."""


def python(name: str) -> Path:
    """The interpreter of an environment, which is made when it is not there or its pins have changed.

    Raises:
        Unavailable: pip could not install the pinned packages.
    """
    if not name:
        return Path(sys.executable)
    pins, folder = PINS / f"{name}.txt", FOLDER / name
    stamp, wanted = folder / "pins", hashlib.sha256(pins.read_bytes()).hexdigest()
    if not stamp.exists() or stamp.read_text() != wanted:
        print(f"installing {name} into {folder.relative_to(ROOT)}", flush=True)
        _call([sys.executable, "-m", "venv", "--clear", str(folder)])
        _call(
            [str(folder / "bin/python"), "-m", "pip", "--disable-pip-version-check", "install", "-q", "-r", str(pins)]
        )
        stamp.write_text(wanted)
    return folder / "bin" / "python"


def versions(name: str) -> dict[str, str]:
    """The pinned packages of an environment."""
    lines = (PINS / f"{name}.txt").read_text().splitlines() if name else []
    return dict(line.split("==") for line in lines if "==" in line and not line.startswith("#"))


def _call(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        complaint = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or ["no reason given"]
        raise Unavailable(f"cannot be installed: {complaint[0].split(' (from versions')[0][:200]}")
