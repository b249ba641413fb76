"""How the pages are built: `make docs`."""

import sys
from importlib import metadata
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

project = "pacbayes_sft"
author = "the pacbayes_sft authors"
try:
    release = metadata.version("pacbayes-sft")
except metadata.PackageNotFoundError:
    release = "not installed"
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = "pacbayes_sft"
default_role = "py:obj"  # `a_name` in a docstring is a link where there is one
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True  # attributes are described in the class; their properties have words too
autodoc_default_options = {  # scikit-learn's own, whose words link into its manual
    "exclude-members": "get_metadata_routing, set_fit_request, set_partial_fit_request, "
    "set_score_request"
}
myst_heading_anchors = 3
