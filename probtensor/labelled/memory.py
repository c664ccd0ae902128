"""How much memory there is, how much a fit took, and the refusal of one that cannot fit."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import NamedTuple

import jax

from probtensor.engines.cost import DATA_ARRAYS, FEWER_ENTRIES, Cost
from probtensor.errors import DataError, ModelError

_GIB = 2**30


class Memory(NamedTuple):
    """The most memory that was in use, in bytes, and whose it is: ``"this process"`` or ``"the device"``."""

    bytes: int
    of: str


def peak_memory() -> Memory | None:
    """The most that was in use so far: of an accelerator's own memory, or of the process since it began.

    A fit that needs less than the process did before it does not show. None where the system does not say.
    """
    stats = jax.local_devices()[0].memory_stats() or {}
    if "peak_bytes_in_use" in stats:
        return Memory(int(stats["peak_bytes_in_use"]), "the device")
    try:
        import resource
    except ImportError:  # Windows
        return None
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return Memory(int(most) * (1 if sys.platform == "darwin" else 1024), "this process")


def device_memory() -> int | None:
    """Bytes that programs can still have: of an accelerator's own memory, or else as `host_memory`."""
    stats = jax.local_devices()[0].memory_stats() or {}
    if "bytes_limit" in stats:
        return int(stats["bytes_limit"]) - int(stats.get("bytes_in_use", 0))
    return host_memory()


def host_memory(root: Path = Path("/")) -> int | None:
    """Bytes that this process can still have: what the machine has left, or its control group may use, if less.

    Where the system only says how much there is in all, that. None where it says nothing (Windows).

    root: of the file system that Linux says it in.
    """
    found = [left for group in _groups(root) if (left := _left_of(group)) is not None]
    told = _table(root / "proc" / "meminfo")
    if "MemAvailable:" in told:
        found.append(told["MemAvailable:"] * 1024)
    elif "SC_PHYS_PAGES" in getattr(os, "sysconf_names", {}):
        found.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    return min(found, default=None)


def _groups(root: Path) -> list[Path]:
    """Folders of the process's control groups for memory and of those above, which can limit it, too."""
    folders = []
    for line in _read(root / "proc" / "self" / "cgroup").splitlines():
        _, controllers, place = line.split(":", 2)
        if controllers not in ("", "memory"):
            continue
        top = root / "sys" / "fs" / "cgroup" / controllers
        inside = top / place.lstrip("/")
        folders += [folder for folder in (inside, *inside.parents) if folder.is_relative_to(top)]
    return folders


def _left_of(group: Path) -> int | None:
    """What a control group may still use; None: no limit. Cached files are given up when there is need."""
    names = ("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes")
    for limit, usage in (tuple(_read(group / name).strip() for name in pair) for pair in names):
        if limit.isdigit() and usage.isdigit():
            stat = _table(group / "memory.stat")
            cached = sum(stat.get(name, 0) for name in ("active_file", "inactive_file"))
            return int(limit) - int(usage) + cached
    return None


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def _table(path: Path) -> dict[str, int]:
    """Numbers by the word before them."""
    rows = (line.split() for line in _read(path).splitlines())
    return {row[0]: int(row[1]) for row in rows if len(row) > 1 and row[1].isdigit()}


def size(number: float) -> str:
    """Bytes as a person reads them."""
    return f"{number / _GIB:,.1f} GiB" if number >= _GIB else f"{number / 2**20:,.0f} MiB"


def has_room(entries: int, lazy: bool) -> bool:
    """Whether memory can hold so many entries with what is made of them; lazy: they are not in memory yet."""
    there = host_memory()
    return there is None or _taken_by(entries, lazy) <= there


def _taken_by(entries: int, lazy: bool) -> int:
    return 8 * entries * (DATA_ARRAYS - (not lazy))


def check_data(entries: int, lazy: bool) -> None:
    """Raises DataError for data that `has_room` says no of."""
    if not has_room(entries, lazy):
        raise DataError(
            f"the data have {entries:,} entries, gaps included, which take at least {size(_taken_by(entries, lazy))} "
            f"of memory to fit; {size(host_memory() or 0)} are available. {FEWER_ENTRIES}"
        )


def check_cost(cost: Cost) -> None:
    """Raises ModelError for a fit that would need more than there is, beside the observations that are there."""
    needed, there = cost.bytes - cost.held, device_memory()
    if there is not None and needed > there:
        part = cost.largest
        raise ModelError(
            f"this fit would take about {size(needed)} more memory, and {size(there)} are available: {part.what} "
            f"alone take {size(part.bytes)}. {part.remedy}"
        )
