"""Where the benchmarks write down what they measured: one section of RESULTS.md each."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
import re
from pathlib import Path

import probtensor as pt

FILE = Path(__file__).with_name("RESULTS.md")
_TITLE = "# Results\n\nWritten by the scripts in this folder; README.md says how to run them again.\n"
_PACKAGES = ("jax", "numpy", "tensorly", "xarray")


def environment() -> str:
    """Date, versions and machine, in one line."""
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in _PACKAGES)
    threads = os.environ.get("OMP_NUM_THREADS", "not set")
    today = datetime.datetime.now(datetime.UTC).date()
    return (
        f"{today}; probtensor {pt.__version__}, Python {platform.python_version()}, {versions}; "
        f"{platform.machine()} with {os.cpu_count()} cores, "
        f"OMP_NUM_THREADS {threads}."
    )


def read(section: str) -> str:
    """What RESULTS.md says in the section of that name; nothing if there is none."""
    parts = re.split(r"(?m)^## ", FILE.read_text() if FILE.exists() else "")
    return next((part for part in parts if part.startswith(f"{section}\n")), "")


def record(section: str, text: str) -> None:
    """Prints a section and puts it into RESULTS.md, in place of the one of that name."""
    body = f"## {section}\n\n{environment()}\n\n{text.strip()}\n"
    print(body, flush=True)
    old = FILE.read_text() if FILE.exists() else _TITLE
    head, *sections = re.split(r"(?m)^(?=## )", old)
    kept = [part.strip() + "\n" for part in sections if not part.startswith(f"## {section}\n")]
    FILE.write_text("\n".join([head.strip() + "\n", *sorted([*kept, body])]))
