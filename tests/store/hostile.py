"""Mutants of stores, made from a seed, and a process that tries to read them with little memory and little time."""

import faulthandler
import hashlib
import io
import json
import random
import resource
import shutil
import struct
import sys
import traceback
import warnings
import zipfile
from pathlib import Path

HEADER, TREE = "probtensor.json", "tree.json"
#: Bytes of address space that a mutant may take beside what the process has, and seconds for each.
ROOM, SECONDS = 2 * 2**30, 100
#: Names that are no files of a store.
OUTSIDE = ["../outside", "/etc/passwd", "a\0b"]
#: What stands in the place of another value.
WRONG = [
    *(None, True, "", "x", -1, 0, 1, 3, 10**12, 10**30, 1e308, -0.5, [], {}, [[]], "nan", "../../etc/passwd"),
    *({"kind": "blank", "value": {"kind": "float", "value": "nan"}, "shape": [10**12]}, {"kind": "blank"}),
    *({"kind": "again", "number": 0}, {"kind": "array", "at": 0}, {"kind": "array", "at": -1}, {"kind": "float"}),
    *({"kind": "tuple", "items": []}, {"kind": "list", "items": [1]}, {"kind": "dict", "items": []}, {"kind": "nat"}),
    {"kind": "labels", "dtype": "<U500000000", "shape": [200], "items": ["a"] * 200},
    {"kind": "labels", "dtype": "|O", "shape": [1], "items": [{"kind": "list", "items": []}]},
    {"kind": "array", "at": 0, "dtype": "|O"},
    {"kind": "timestamp", "value": "2000-01-01", "zone": "dateutil//dev/zero", "unit": "ns"},
    {"kind": "record", "class": "os:system", "fields": {}},
    {"kind": "distribution", "class": "LogNormal", "arguments": {"loc": "x", "scale": 1.0}},
]
#: The same of what an array says of itself.
OTHER_ARRAYS = {
    "shape": [[10**12], [-1], [], [10**30], ["3"], [2, 10**9], "x", None, [3.0], [True], [0], [1] * 70, 10**12],
    "data_type": ["object", "string", "float32", "int64", "bool", "complex128", "float16", "x", None, "r8000000000"],
    "codecs": [
        [],
        None,
        [{"name": "numcodecs.pickle"}],
        [{"name": "bytes"}, {"name": "gzip", "configuration": {"level": 1}}],
        [{"name": "bytes", "configuration": {"endian": "little"}}],
        [{"name": "sharding_indexed", "configuration": {}}],
        [{"name": "vlen-utf8"}, {"name": "zstd", "configuration": {"level": 0, "checksum": False}}],
    ],
    "chunk_grid": [
        None,
        {"name": "regular", "configuration": {"chunk_shape": [10**12]}},
        {"name": "regular", "configuration": {"chunk_shape": [0]}},
        {"name": "regular", "configuration": {"chunk_shape": [-3]}},
        {"name": "rectilinear", "configuration": {}},
    ],
    "chunk_key_encoding": [None, {"name": "v2", "configuration": {"separator": "."}}],
    "fill_value": [None, "x", "NaN", 1e400, [1], "0x7ff8000000000001"],
    "zarr_format": [2, 4, "3", None],
    "node_type": ["group", None],
    "attributes": [None, [], {"a": [1]}],
    "storage_transformers": [[{"name": "x"}], None],
    "consolidated_metadata": [{"kind": "inline", "metadata": {}, "must_understand": False}],
}


def zstd(content):
    from numcodecs.zstd import Zstd

    return bytes(Zstd().encode(content))


def bombs():
    """Chunks that unpack to much: told, and not told."""
    large = zstd(bytes(2**26))
    streamed = b"\x28\xb5\x2f\xfd\x00\x58" + b"\x02\x00\x10\x00" * 1000 + b"\x03\x00\x10\x00"
    claims = b"\x28\xb5\x2f\xfd\xe0" + struct.pack("<Q", 2**50) + b"\x01\x00\x00"
    return [large, streamed, claims, large * 2, b"", b"\x28\xb5\x2f\xfd", b"\x50\x2a\x4d\x18\x01\x00\x00\x00x"]


def nodes(tree, path=()):
    """Places in a tree."""
    yield path
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in items:
        yield from nodes(value, (*path, key))


def at(tree, path):
    for key in path:
        tree = tree[key]
    return tree


def flipped(content, choose, number=1):
    changed = bytearray(content)
    for _ in range(number):
        changed[choose.randrange(len(changed))] ^= 1 << choose.randrange(8)
    return bytes(changed)


def a_tree(files, choose):
    """A value of the tree is another."""
    tree = json.loads(files[TREE])
    path = choose.choice([p for p in nodes(tree) if p])
    above, key = at(tree, path[:-1]), path[-1]
    how = choose.randrange(6)
    if how < 3:
        above[key] = choose.choice(WRONG)
    elif how == 3:
        del above[key]
    elif how == 4:
        above[key] = at(tree, choose.choice(list(nodes(tree))))  # of another place, itself perhaps
        if above[key] is tree or path[:1] == ():
            above[key] = None
    elif isinstance(above[key], int):
        above[key] += choose.choice([-1, 1, 2**31, 2**63])
    else:
        other = choose.choice([k for k in (above if isinstance(above, dict) else range(len(above)))])
        above[key], above[other] = above[other], above[key]
    try:
        text = json.dumps(tree)
    except ValueError:  # it holds itself
        text = "[" * 10**5
    return {TREE: text.encode()}


def a_tree_as_text(files, choose):
    """The text of the tree is other text."""
    text = files[TREE]
    where = choose.randrange(len(text))
    return {
        TREE: choose.choice(
            [
                flipped(text, choose),
                flipped(text, choose, 20),
                text[:where],
                text[:where] + b"NaN" + text[where:],
                text[:where] + b"9" * 5000 + text[where:],
                b"[" * 10**6,
                b'{"kind":"tuple","items":[' * 10**4 + b"]}" * 10**4,
                b"9" * 10**6,
                b"",
                b"null",
                b"\xff" * 100,
                text * 2,
                doubling().encode(),
            ]
        )
    }


def doubling(depth=60):
    """Records that hold the one before twice."""
    records = [{"kind": "record", "class": "kernels.matern:Matern", "fields": {"nu": 1.5}}]
    for number in range(depth):
        twice = {"kind": "tuple", "items": [{"kind": "again", "number": number}] * 2}
        fields = {"nu": 1.5, "lengthscale": twice}
        records.append({"kind": "record", "class": "kernels.matern:Matern", "fields": fields})
    return json.dumps({"kind": "set", "items": records})


def an_array(files, choose):
    """An array says something else of itself."""
    name = choose.choice([name for name in files if name.endswith("/zarr.json")])
    said = json.loads(files[name])
    key = choose.choice(list(OTHER_ARRAYS))
    value = choose.choice(OTHER_ARRAYS[key])
    said[key] = value
    if key == "shape" and isinstance(value, list) and choose.random() < 0.7:
        said["chunk_grid"]["configuration"]["chunk_shape"] = choose.choice([value, [1] * len(value)])
    return {name: json.dumps(said).encode()}


def a_chunk(files, choose):
    """The numbers of an array are others, or none."""
    chunks = [name for name in files if "/c" in name]
    name, other = choose.sample(chunks, 2)
    content = files[name]
    return choose.choice(
        [
            {name: flipped(content, choose)},
            {name: content[: choose.randrange(len(content))]},
            {name: None},
            {name: content + b"\0" * 100},
            {name: files[other], other: content},
            {name: choose.choice(bombs())},
            {name: zstd(bytes(choose.choice([0, 8, 10**6])))},
            {name: bytes(len(content))},
        ]
    )


def members(files, choose):
    """Files are missing, or there are more, or they stand in each other's place."""
    name, other = choose.sample(sorted(files), 2)
    array, another = (str(choose.randrange(len(files) // 2)) for _ in range(2))
    swapped = {}
    for one, two in ((array, another), (another, array)):
        of_one = {n: c for n, c in files.items() if n.startswith(f"{one}/")}
        swapped |= {n.replace(f"{one}/", f"{two}/", 1): c for n, c in of_one.items()}
    extra = choose.choice(["more", "c/0", "999999/zarr.json", "0/c/7", ".zarray", "0/.zarray", "a b", "0/c/0/x"])
    return choose.choice([{name: None}, {name: files[other]}, {name: b""}, swapped, {extra: b"{}"}])


def a_header(files, choose):
    """The header says something else; its own digest is right again if that is wanted."""
    said = json.loads(files[HEADER])
    key = choose.choice(list(said))
    said[key] = choose.choice([*WRONG, 10**9, {"../x": "0" * 64}, {"a": 1}, {TREE: None}, ["fit"]])
    if choose.random() < 0.2:
        said["files"] = json.loads(files[HEADER])["files"] | {choose.choice(OUTSIDE): "0" * 64}
    return {HEADER: json.dumps(said).encode()}


def a_header_as_text(files, choose):
    text = files[HEADER]
    texts = [flipped(text, choose), text[: choose.randrange(len(text))], b"[" * 10**5, b"null", b"[]", b'{"a":NaN}']
    return {HEADER: choose.choice(texts)}


KINDS = [*[a_tree] * 4, a_tree_as_text, an_array, an_array, a_chunk, members, a_header, a_header_as_text]


def digested(files):
    """The same with the digests of its files and its own in the header, where that can still be read."""
    try:
        said = json.loads(files[HEADER])
        listed = said["files"]
        own = {n: hashlib.sha256(c).hexdigest() for n, c in files.items() if n != HEADER and "." != n.split("/")[-1][0]}
        said["files"] = own | {n: d for n, d in listed.items() if n.startswith(("..", "/")) or "\0" in n}
        if not isinstance(listed, dict) or not all(isinstance(d, str) for d in listed.values()):
            said["files"] = listed
        said.pop("digest", None)
        whole = hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()
        return files | {HEADER: json.dumps(said | {"digest": whole}).encode()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return files


def mutant(files, seed):
    """What is changed, and all files after it; every other one with right digests again."""
    choose = random.Random(seed)
    kind = choose.choice(KINDS)
    try:
        changes = kind(files, choose)
    except (KeyError, IndexError):
        changes = {TREE: b"{}"}
    after = {name: content for name, content in (files | changes).items() if content is not None}
    right = choose.random() < 0.75
    return f"{kind.__name__}{' digested' if right else ''}", digested(after) if right else after


#: Ways in which the one file is changed, the last of which is none.
HOWS = 8


def packed(files, seed):
    """The same as one file, which is itself changed in some."""
    choose = random.Random(f"packed {seed}")
    stream, how = io.BytesIO(), HOWS - 1 if seed % 2 else choose.randrange(HOWS)
    squeezed = zipfile.ZIP_DEFLATED if how == 0 else zipfile.ZIP_STORED
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with zipfile.ZipFile(stream, "w", squeezed) as whole:
            for name, content in files.items():
                whole.writestr(name, content)
            if how == 1:
                names = ["../outside", "/outside", "tree.json", "C:\\x", "a/../b", "0", "tree.json/x"]
                whole.writestr(choose.choice(names), "x")
            if how == 2:
                whole.writestr("more", bytes(10**7), zipfile.ZIP_DEFLATED)
            if how == 3:
                link = zipfile.ZipInfo("link")
                link.external_attr = 0o120777 << 16
                whole.writestr(link, "/etc")
    content = stream.getvalue()
    if how == 4:
        content = flipped(content, choose, 3)
    if how == 5:
        content = content[: choose.randrange(len(content))]
    if how == 6:
        end = bytearray(content)
        place = content.rindex(b"PK\x01\x02") + choose.choice([20, 24, 28, 42])
        end[place : place + 4] = struct.pack("<I", choose.choice([2**31, 2**32 - 1, 0, 10**9]))
        content = bytes(end)
    return f"packed {how}", content


def written(files, folder):
    shutil.rmtree(folder, ignore_errors=True)
    for name, content in files.items():
        path = folder / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        except (OSError, ValueError):
            continue  # a file in the place of a folder


def read_from(path):
    return {p.relative_to(path).as_posix(): p.read_bytes() for p in path.rglob("*") if p.is_file()}


class Posteriors:
    """Stores of posteriors, asked for what they predict and say."""

    def __init__(self, source, folder, asked):
        import probtensor as pt

        self.load, self.asked, self.files, self.place = pt.load, asked, read_from(source), folder / "mutant.zarr"
        self.answer = self.asked_of(self.read(source))

    def read(self, path):
        return self.load(path)

    def asked_of(self, post):
        predicted = post.predict(self.asked)
        found = [hashlib.sha256(own.to_numpy().tobytes()).hexdigest() for own in predicted.variables.values()]
        return [*found, post.summary(), post.hyperparameters().to_csv(), repr(post.model)]

    def made(self, seed):
        kind, files = mutant(self.files, seed)
        written(files, self.place)
        return kind


class Checkpoints:
    """Packed stores of how far a fit is, with which it goes on."""

    def __init__(self, source, folder, asked):
        from probtensor.store import archive, checkpoint, tree

        self.archive, self.tree, self.running = archive, tree, checkpoint.running
        self.place = folder / "fit.zarr.checkpoint"
        unpacked = folder / "unpacked"
        with zipfile.ZipFile(source) as whole:
            whole.extractall(unpacked)
        self.files = read_from(unpacked)
        self.answer = self.asked_of(self.read(source))

    def read(self, path):
        return self.running(path)

    def asked_of(self, found):
        _, structure, found = found
        return self.archive.digest(self.tree.described((structure, found), {}))

    def made(self, seed):
        kind, files = mutant(self.files, seed)
        how, content = packed(files if seed % 2 else self.files, seed)
        self.place.write_bytes(content)
        return f"{kind if seed % 2 else ''} {how}"


def main(jobs):
    """Prints a line for each mutant before it is tried and one with what came of it."""
    faulthandler.enable()
    warnings.simplefilter("ignore")
    import jax
    import numpy as np

    jax.config.update("jax_enable_x64", True)
    for what, source, folder, asked, first, last in json.loads(jobs):
        asked = {name: np.array(own, "M8[ns]") if name == "time" else own for name, own in asked.items()}
        Path(folder).mkdir(exist_ok=True)
        mutants = {"posteriors": Posteriors, "checkpoints": Checkpoints}[what](Path(source), Path(folder), asked)
        there = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (there + ROOM, resource.RLIM_INFINITY))
        for seed in range(first, last):
            print(json.dumps({"store": Path(source).name, "seed": seed, "kind": mutants.made(seed)}), flush=True)
            faulthandler.dump_traceback_later(SECONDS, exit=True)
            outcome, said = tried(mutants)
            faulthandler.cancel_dump_traceback_later()
            print(json.dumps({"outcome": outcome, "said": said}), flush=True)


def tried(mutants):
    """What came of it: refused, an error of the package, the same answers or others, or another exception."""
    from probtensor.errors import DataError, FormatError, ModelError

    when = "at load"
    try:
        found = mutants.read(mutants.place)
        when = "at use"
        return ("same" if mutants.asked_of(found) == mutants.answer else "other"), ""
    except (DataError, FormatError, ModelError) as error:
        return ("refused" if isinstance(error, FormatError) else f"an error {when}"), str(error)[:200]
    except BaseException:
        return f"bad {when}", traceback.format_exc()[-1500:]


if __name__ == "__main__":
    main(*sys.argv[1:])
