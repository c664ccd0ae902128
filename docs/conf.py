"""Sphinx's settings. The pages are the repository's own files where they are, so that links between them hold."""

import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

import probtensor  # noqa: E402  the copy beside these pages, whatever is installed

project = "probtensor"
version = release = probtensor.__version__
copyright = "the authors of probtensor"

extensions = ["sphinx.ext.autodoc", "sphinx.ext.autosummary", "sphinx.ext.napoleon", "myst_nb"]
root_doc = "docs/index"
include_patterns = [
    "docs/*.md",
    "docs/api/*.rst",
    "notebooks/*.ipynb",
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "benchmarks/README.md",
    "benchmarks/RESULTS.md",
    "benchmarks/RELIABILITY.md",
]
exclude_patterns = [".*", "build"]  # what need not be looked through

nitpicky = True
default_role = "any"
autosummary_generate = False
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_attr_annotations = False

myst_heading_anchors = 3
nb_execution_mode = "off"

html_theme = "furo"
html_title = f"probtensor {release}"
templates_path = ["_templates"]
html_additional_pages = {"index": "to_the_first_page.html"}

# Names in signatures: no inventory of another project is fetched, so those of other libraries are words without a link.
nitpick_ignore_regex = [
    ("py:.*", r"(collections|jax|jaxlib|jaxtyping|matplotlib|np|numpy|optax|os|pandas|pathlib|pd|xarray|xr)\..*"),
    ("py:.*", r"Array|ArrayLike|Bool|Figure|Float|Int|ndarray"),
    ("py:.*", r"'[\w .*]*'"),  # a shape
]


def tidied(app, what, name, found, options, signature, returned):
    """The public name of an array's type, which is shown where annotations are evaluated."""
    return tuple(text and text.replace("jaxlib._jax.Array", "jax.Array") for text in (signature, returned))


def setup(app):
    """Called by Sphinx."""
    app.connect("autodoc-process-signature", tidied)
