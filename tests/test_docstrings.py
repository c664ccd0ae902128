"""What docstrings say: what goes in, what comes out and what is refused; of kernels and priors more."""

import ast
import builtins
import inspect
import re
import textwrap
from pathlib import Path

import pytest

import probtensor as pt
from probtensor import errors
from tests.public import MADE, methods, public

KERNELS = (
    pt.Matern,
    pt.RBF,
    pt.Periodic,
    pt.Cosine,
    pt.SpectralMixture,
    pt.RandomWalk,
    pt.IntegratedRandomWalk,
    pt.Linear,
)
PRIORS = (pt.Markov, pt.Dense, pt.Nearest, pt.Sphere, pt.Basis, pt.Cyclic, pt.Categorical)


@pytest.mark.parametrize("documented", [*KERNELS, *PRIORS], ids=lambda kind: kind.__name__)
def test_says_when_at_what_cost_and_by_whom(documented):
    text = " ".join(documented.__doc__.split())
    assert "Use " in text and "Source: " in text
    assert ("State size" if documented in KERNELS else "ost") in text


@pytest.mark.parametrize("kernel", [pt.Matern(7 / 2), pt.RBF(order=5), pt.Periodic(1.0), pt.Cosine(1.0), pt.Linear()])
def test_state_sizes_in_the_readme(kernel):
    """The table of kernels there: nu + 1/2, the order, 13, 2 and 2."""
    assert kernel.state_size == {"Matern": 4, "RBF": 5, "Periodic": 13}.get(type(kernel).__name__, 2)


PUBLIC = public()
#: What may open a docstring that says what is given; any other word with an s at its end is a verb ("Fits ...").
THINGS = {"Boxes", "Continuous", "Gaps", "Its", "Names", "Numbers", "Posteriors", "Quantiles", "This", "Values"}
SECTION = re.compile(r"^(Args|Attributes|Returns|Yields|Raises):\n((?:    .*\n|\n)+)", re.MULTILINE)


def sections(kind):
    """{heading: text} of a docstring."""
    return dict(SECTION.findall(inspect.cleandoc(kind.__doc__ or "") + "\n"))


def described(documented):
    """Names that a docstring has an entry for."""
    entries = "".join(text for heading, text in sections(documented).items() if heading in ("Args", "Attributes"))
    return {name.lstrip("*") for name in re.findall(r"^    (\*{0,2}\w+):", entries, re.MULTILINE)}


def names_a_thing(documented):
    """Whether the first line is what the function gives, as is the custom here, and not what it does."""
    first = re.match(r"\W*(\w*)", documented.__doc__ or "")[1]
    return first in THINGS or not first.endswith("s")


def parameters(function):
    return {name for name in inspect.signature(function).parameters if name != "self" and not name.startswith("_")}


def refusals(function):
    """Kinds of error that a function's own lines raise; none if a decorator wrote it."""
    if not Path(inspect.getfile(function)).is_file():
        return set()
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    raised = {
        ast.unparse(node.exc.func)
        for node in ast.walk(tree)
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call)
    }
    return {name for name in raised if hasattr(errors, name) or hasattr(builtins, name)} - {"NotImplementedError"}


def function_complaints(function, told=()):
    """What a function's docstring lacks; told: the methods it stands for, whose docstrings speak for it."""
    texts = [function, *told]
    known = set().union(*map(described, texts))
    takes, gives = parameters(function), inspect.signature(function).return_annotation
    wrong = [f"says nothing of {name}" for name in sorted(takes - known)]
    wrong += [f"speaks of {name}, which it does not take" for name in sorted(described(function) - takes)]
    if not function.__doc__:
        wrong.append("has no docstring")
    says = any({"Returns", "Yields"} & set(sections(text)) or names_a_thing(text) for text in texts)
    if takes and gives not in (None, "None", "NoReturn") and not says:
        wrong.append("does not say what it returns")
    for name in refusals(function):
        if not any(name in sections(text).get("Raises", "") for text in texts):
            wrong.append(f"does not say that it raises {name}")
    return wrong


def class_complaints(kind):
    """What the docstrings of a class, of its constructor and of its methods lack."""
    wrong = [] if vars(kind).get("__doc__") else ["has no docstring"]
    if issubclass(kind, Exception):
        return wrong
    if not inspect.isabstract(kind) and kind not in MADE:
        takes = parameters(kind)
        wrong += [f"says nothing of {name}" for name in sorted(takes - described(kind))]
        wrong += [
            f"speaks of {name}, which it has not"
            for name in sorted(described(kind) - takes)
            if not (hasattr(kind, name) or name.endswith("_"))
        ]
    for made in ("__init__", "__check_init__", "__post_init__"):
        if made in vars(kind):
            wrong += [
                f"does not say that it raises {name}"
                for name in refusals(vars(kind)[made])
                if name not in sections(kind).get("Raises", "")
            ]
    for name, method in methods(kind).items():
        bodies = [
            getattr(base, name) for base in kind.__mro__ if name in vars(base) and "probtensor" in base.__module__
        ]
        if isinstance(method, property):
            wrong += [] if method.fget.__doc__ else [f"{name} has no docstring"]
        elif callable(bodies[0]) and not inspect.isclass(bodies[0]):
            wrong += [f"{name} {complaint}" for complaint in function_complaints(bodies[0], bodies[1:])]
    return wrong


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_says_what_goes_in_what_comes_out_and_what_is_refused(name):
    """A method that stands for one of an abstract class is described there."""
    found = PUBLIC[name]
    assert (class_complaints(found) if inspect.isclass(found) else function_complaints(inspect.unwrap(found))) == []


def test_the_test_itself():
    def bad(one, two):
        """Does it.

        Args:
            one: the first.
            three: is not there.
        """
        if two:
            raise pt.errors.DataError("no")
        raise ValueError("no")

    assert function_complaints(bad) == [
        "says nothing of two",
        "speaks of three, which it does not take",
        "does not say what it returns",
        "does not say that it raises ValueError",
    ]
    assert len(PUBLIC) > 100
