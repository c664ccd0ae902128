"""Damaged files, made from a seed, and a process that gives them to the command line; the fit is left out."""

import faulthandler
import json
import random
import resource
import shutil
import struct
import sys
import traceback
import warnings
from pathlib import Path

import numpy as np

#: Bytes of address space that a command may take beside what the process has, and seconds for each.
ROOM, SECONDS = 3 * 2**30, 180
#: In the place of what a zarr store says of an array.
OTHER = {
    "shape": [[10**12, 4], [-1, 4], [], [2**62, 2**62], "x", None, [8]],
    "chunks": [[10**9, 4], [0, 4], [1, 1], None],
    "chunk_grid": [None, {"name": "regular", "configuration": {"chunk_shape": [10**9, 10**9]}}],
    "dtype": ["|O", "<f4", "<U100000000", "|V8", "<M8[ns]", None, ">f8"],
    "data_type": ["object", "string", "float16", "int8", None],
    "filters": [[{"id": "pickle"}], [{"id": "json2"}], [{"id": "delta", "dtype": "<f8"}], "x"],
    "codecs": [[{"name": "bytes"}, {"name": "numcodecs.pickle"}], [], None],
    "compressor": [{"id": "pickle"}, {"id": "lz4"}, {"id": "zlib", "level": 1}, None, "x"],
    "fill_value": [None, "x", "NaN", 10**30, [1]],
    "zarr_format": [1, 3, "x", None],
    "attributes": [{"_ARRAY_DIMENSIONS": ["a"]}, {"scale_factor": "x"}, None, {"units": "days since x"}],
    "dimension_names": [["time"], ["time", "time"], [1, 2], None],
}


def sources(folder):
    """A small field as a file of each kind."""
    import pandas as pd
    import xarray as xr

    random_numbers = np.random.default_rng(0)
    coords = {"time": pd.date_range("2000-01-01", periods=12), "lat": np.linspace(50, 40, 6)}
    made = xr.DataArray(280 + random_numbers.normal(size=(12, 6)), coords, ["time", "lat"], name="tas")
    made = made.where(random_numbers.random((12, 6)) > 0.2).assign_attrs(units="K", ancillary_variables="quality")
    whole = made.to_dataset().assign(quality=("lat", np.ones(6, "i1")), word=("lat", np.array(list("abcdef"))))
    packed = {"dtype": "int16", "scale_factor": 0.01, "add_offset": 280.0, "_FillValue": -32768, "zlib": True}
    found = [folder / name for name in ("packed.nc", "plain.nc", "classic.nc", "two.zarr", "three.zarr")]
    whole.to_netcdf(found[0], encoding={"tas": packed | {"chunksizes": (5, 3)}}, unlimited_dims=["time"])
    whole.to_netcdf(found[1])
    whole.to_netcdf(found[2], format="NETCDF3_64BIT")
    for version, path in ((2, found[3]), (3, found[4])):
        whole.drop_vars("word").to_zarr(path, zarr_format=version, consolidated=False)
    return found


def damaged(content, choose):
    """Bytes of a file, some of them others."""
    changed, how = bytearray(content), choose.randrange(6)
    where = choose.randrange(len(changed))
    if how == 0:
        return bytes(changed[:where])
    if how == 1:
        changed[where : where + choose.choice([8, 512, 4096])] = bytes(choose.choice([8, 512]))
    elif how == 2:
        changed[where : where + 8] = struct.pack("<Q", choose.choice([2**63, 2**40, 2**32 - 1, 10**12]))
    elif how == 3:
        number = struct.pack(choose.choice(["<Q", ">I", "<I"]), choose.choice([6, 12]))  # a dimension, perhaps
        if (place := changed.find(number, where)) >= 0:
            order = {8: "<Q"}.get(len(number), ">I")
            changed[place : place + len(number)] = struct.pack(order, choose.choice([2**31 - 1, 10**9, 0, 3]))
    else:
        for _ in range(1 if how == 4 else 30):
            changed[choose.randrange(len(changed))] ^= 1 << choose.randrange(8)
    return bytes(changed)


def damage(path, choose):
    """Changes a file, or one file of a store."""
    if path.is_file():
        path.write_bytes(damaged(path.read_bytes(), choose))
        return "bytes"
    own = sorted(p for p in path.rglob("*") if p.is_file())
    told = [p for p in own if p.name in ("zarr.json", ".zarray", ".zattrs") and p.parent.name in ("tas", "lat", "time")]
    how = choose.randrange(4)
    if how < 2:
        file = choose.choice(told)
        said = json.loads(file.read_text())
        key = choose.choice([key for key in OTHER if key in said] or ["attributes"])
        said[key] = choose.choice(OTHER[key])
        file.write_text(json.dumps(said))
        return f"{file.parent.name} {key}"
    file = choose.choice(own)
    if how == 2:
        file.write_bytes(damaged(file.read_bytes(), choose))
    else:
        file.unlink()
    return f"{file.name} {how}"


def main(folder, first, last):
    """Prints a line for each file before it is tried and one with what came of it."""
    faulthandler.enable()
    warnings.simplefilter("ignore")
    from typer.testing import CliRunner

    from probtensor import cli
    from probtensor.cli import probing
    from probtensor.labelled import fit as fitting

    def filled(data, *_, **__):
        return None, data.fillna(0.0).to_dataset(name="tas").assign(tas_filled=0 * data)

    fitting.imputed = filled
    probing.PATIENCE = 60.0
    folder = Path(folder)
    kinds = sources(folder)
    there = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (there + ROOM, resource.RLIM_INFINITY))
    for seed in range(int(first), int(last)):
        choose = random.Random(seed)
        kind = kinds[seed % len(kinds)]
        path, output = folder / f"in{kind.suffix}", folder / "out.nc"
        for old in (path, output):
            shutil.rmtree(old) if old.is_dir() else old.unlink(missing_ok=True)
        shutil.copytree(kind, path) if kind.is_dir() else shutil.copy(kind, path)
        what = damage(path, choose)
        command = ["impute", str(path), "--var", "tas", "-o", str(output)] if seed % 3 else ["info", str(path)]
        before = sorted(folder.iterdir())
        print(json.dumps({"seed": seed, "kind": f"{kind.name} {what} {command[0]}"}), flush=True)
        faulthandler.dump_traceback_later(SECONDS, exit=True)
        done = CliRunner().invoke(cli.app, command)
        faulthandler.cancel_dump_traceback_later()
        lines = [line for line in done.stderr.splitlines() if not line.startswith("Warning: ")]
        new = [p.name for p in sorted(folder.iterdir()) if p not in before]
        honest = {
            0: not lines and new == (["out.nc"] if command[0] == "impute" else []),
            2: len(lines) == 1 and lines[0].startswith("Error: ") and not new and not done.stdout,
        }.get(done.exit_code, False)
        said = "".join(traceback.format_exception(done.exception))[-1500:] if done.exit_code not in (0, 2) else lines
        outcome = ("read" if done.exit_code == 0 else "refused") if honest else "bad"
        print(json.dumps({"outcome": outcome, "said": str(said), "new": new}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
