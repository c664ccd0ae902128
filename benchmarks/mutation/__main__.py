"""Mutation testing: small changes of the source, each of which some test should notice.

Changes are made by Cosmic Ray in a copy of the tree, one at a time, and asked the tests that `rooms.toml` has for their
file. They are drawn at random, so many of each room, from those places where a change has a meaning: not in types,
messages, assertions for the type checker, or decorators that only compile or keep.

Run: make mutation, or python benchmarks/mutation [--number 26] [--rooms linalg terms] [--whole] [--only ID ...]

Results go to mutants.csv and a table of them to standard output. A mutant that survives is equivalent, so that no test
could notice it, or it asks for a test; which of them it is, the column `verdict` says, by hand.
"""

from __future__ import annotations

import argparse
import ast
import csv
import hashlib
import itertools
import os
import random
import re
import shutil
import sys
import tempfile
import time
import tomllib
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

from cosmic_ray.commands.init import _all_work_items
from cosmic_ray.mutating import mutate_and_test
from cosmic_ray.work_item import MutationSpec

HERE = Path(__file__).parent
ROOT, RESULTS = HERE.parents[1], HERE / "mutants.csv"
FIELDS = ("room", "id", "file", "line", "operator", "outcome", "by", "seconds", "change", "verdict")
#: Tests of a mutant that take longer have found it: most loop for ever.
SECONDS = 180
#: Changes that are none: small numbers are their own identity; a comparison with None is one way or the other.
MEANINGLESS = re.compile(r"Eq_Is|Is_|IsNot_(?!Is$)|Is(Not)?_(Eq|NotEq)|(Lt|LtE|Gt|GtE|Eq|NotEq)_Is(Not)?$|NoOp")
#: Decorators without which a function gives the same.
QUIET = {"compiled", "abstractmethod", "cache", "lru_cache"}
QUICK = "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false"


def left_out(source: str) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Ranges (line, column) in which a change has no meaning."""
    nodes: list[ast.AST] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Raise | ast.Assert | ast.JoinedStr):
            nodes.append(node)
        elif isinstance(node, ast.AnnAssign):
            alias = "TypeAlias" in ast.unparse(node.annotation)
            nodes.append(node if alias else node.annotation)
        elif isinstance(node, ast.arg) and node.annotation is not None:
            nodes.append(node.annotation)
        elif isinstance(node, ast.FunctionDef):
            nodes += [] if node.returns is None else [node.returns]
            nodes += [d for d in node.decorator_list if QUIET & set(re.findall(r"\w+", ast.unparse(d)))]
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            nodes.append(node)
    return [((n.lineno, n.col_offset), (n.end_lineno, n.end_col_offset)) for n in nodes]  # type: ignore[attr-defined]


def mutants(room: str) -> dict[tuple, list[MutationSpec]]:
    """The changes of a room by the place where they are made."""
    found = defaultdict(list)
    for path in sorted((ROOT / "probtensor" / room).rglob("*.py")):
        ranges = left_out(path.read_text())
        for item in _all_work_items([path], {}):
            (spec,) = item.mutations
            decorator = 1 if "Decorator" in spec.operator_name else 0
            start = (spec.start_pos[0], spec.start_pos[1] + decorator)
            if MEANINGLESS.search(spec.operator_name) or any(a <= start < b for a, b in ranges):
                continue
            found[(path, spec.start_pos)].append(spec)
    return found


def drawn(room: str, number: int, seed: int) -> list[MutationSpec]:
    """So many of a room, at different places: first the place, then which of its changes."""
    own, lot = mutants(room), random.Random(f"{seed} {room}")
    return [lot.choice(own[place]) for place in lot.sample(sorted(own), min(number, len(own)))]


def name_of(spec: MutationSpec) -> str:
    """A short name that stays while the file does."""
    place = Path(spec.module_path).relative_to(ROOT)
    return hashlib.sha1(f"{place} {spec.operator_name} {spec.occurrence}".encode()).hexdigest()[:8]


def command(room: str, file: str, whole: bool) -> str:
    """The tests for a file."""
    tests = tomllib.loads((HERE / "rooms.toml").read_text())[room]
    own = f"tests/{room}" if whole else tests.get(file, tests[""])
    return f"{sys.executable} -m pytest -x -q -p no:cacheprovider -p no:xdist {own}"


def found_by(output: str) -> str:
    """The first test that failed; where none did, what pytest said."""
    failed = re.search(r"^(?:FAILED|ERROR) (.+?)(?: - |$)", output, re.MULTILINE)
    return failed[1] if failed else (output.strip().splitlines() or [""])[-1]


def changed(diff: str) -> str:
    """The lines of a difference that changed."""
    lines = [x for x in diff.splitlines() if x[:1] in "+-" and x[:3] not in ("+++", "---")]
    return " => ".join(x[1:].strip() for x in lines)


def measured(specs: list[tuple[str, MutationSpec]], whole: bool) -> Iterator[dict[str, object]]:
    """Each mutant in turn, in a copy of the tree."""
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder)
        for part in ("probtensor", "tests"):
            shutil.copytree(ROOT / part, tree / part, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "pyproject.toml", tree)
        os.environ |= {
            "PYTHONPATH": str(tree),
            "OMP_NUM_THREADS": "1",
            "JAX_COMPILATION_CACHE_DIR": str(ROOT / ".cache" / "jax"),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.3",
            "XLA_FLAGS": QUICK,
        }
        os.chdir(tree)
        for room, spec in specs:
            place, begun = Path(spec.module_path).relative_to(ROOT), time.perf_counter()
            there = MutationSpec(**{**_fields(spec), "module_path": tree / place})
            found = mutate_and_test([there], command(room, place.name, whole), SECONDS)
            outcome = "timeout" if found.output == "timeout" else found.test_outcome.value
            yield {
                "room": room,
                "id": name_of(spec),
                "file": place.relative_to(Path("probtensor")),
                "line": spec.start_pos[0],
                "operator": spec.operator_name.removeprefix("core/"),
                "outcome": outcome,
                "by": found_by(found.output or ""),
                "seconds": round(time.perf_counter() - begun),
                "change": changed(found.diff or ""),
                "verdict": "",
            }


def _fields(spec: MutationSpec) -> dict[str, object]:
    names = ("module_path", "operator_name", "operator_args", "occurrence", "start_pos", "end_pos", "definition_name")
    return {name: getattr(spec, name) for name in names}


def known() -> dict[str, dict]:
    """Results so far, by the mutant's name."""
    if not RESULTS.exists():
        return {}
    with RESULTS.open(newline="") as file:
        return {row["id"]: row for row in csv.DictReader(file)}


def kept(rows: dict[str, dict]) -> None:
    """Writes all results."""
    with RESULTS.open("w", newline="") as file:
        writer = csv.DictWriter(file, FIELDS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows.values())


def table(rows: dict[str, dict]) -> str:
    """Numbers of each room."""
    lines = [
        "| room | mutants | killed | by the time limit | survived | of these equivalent |",
        "| --- " + "| --: " * 5 + "|",
    ]
    for room in dict.fromkeys(row["room"] for row in rows.values()):
        own = [row for row in rows.values() if row["room"] == room]
        many = Counter(row["outcome"] for row in own)
        same = sum(row["outcome"] == "survived" and row["verdict"].startswith("equivalent") for row in own)
        numbers = (len(own), many["killed"] + many["timeout"], many["timeout"], many["survived"], same)
        lines.append(f"| {room} | " + " | ".join(map(str, numbers)) + " |")
    return "\n".join(lines)


def main() -> None:
    """Draws mutants, asks the tests, and keeps what they say."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rooms", nargs="*", default=["linalg", "statespace", "priors", "terms"])
    parser.add_argument("--number", type=int, default=26, help="mutants of each room")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--whole", action="store_true", help="ask all quick tests of the room")
    parser.add_argument("--resume", action="store_true", help="leave out those whose results are known")
    parser.add_argument("--only", nargs="*", help="ask these again")
    parser.add_argument("--dry", action="store_true", help="only say what would be done")
    options = parser.parse_args()
    # Room by room in turn, so that a run that is cut short has as many of each.
    each = [[(room, spec) for spec in drawn(room, options.number, options.seed)] for room in options.rooms]
    specs = [one for turn in itertools.zip_longest(*each) for one in turn if one is not None]
    before, again = known(), options.only or ()
    rows = before if options.resume or again else {}
    todo = [(r, s) for r, s in specs if (name_of(s) in again if again else name_of(s) not in rows)]
    if options.dry:
        for room, spec in todo:
            print(room, name_of(spec), Path(spec.module_path).name, spec.start_pos, spec.operator_name)
        return
    for row in measured(todo, options.whole):
        same = before.get(str(row["id"]), {})
        rows = rows | {
            str(row["id"]): row | {"verdict": same["verdict"] if same.get("change") == row["change"] else ""}
        }
        kept(rows)
        print(*(row[name] for name in ("room", "id", "file", "line", "outcome", "by", "seconds", "change")), flush=True)
    print(table(rows))


if __name__ == "__main__":
    main()
