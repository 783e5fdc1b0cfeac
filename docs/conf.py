"""How Sphinx builds the documentation: `make docs`. The pages are plain Markdown, readable without it."""

import tomllib
from pathlib import Path

project = "Data Compliance API"
author = "the Data Compliance API authors"
release = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]["version"]
version = release

extensions = ["myst_parser"]
root_doc = "docs/index"
# From the project's folder, since README and the guide for contributors are linked, too.
include_patterns = ["docs/**.md", "README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md"]
exclude_patterns = [".*", "node_modules", "var"]
# Anchors as forges make them, so that links work in the files, too.
myst_heading_anchors = 4
# Code that Pygments cannot colour is shown without colours.
suppress_warnings = ["misc.highlighting_failure"]

html_theme = "pydata_sphinx_theme"
html_title = project
# The pages are below docs/.
html_extra_path = ["site"]
html_show_sourcelink = False
html_theme_options = {"navbar_align": "left", "header_links_before_dropdown": 7, "footer_start": [], "footer_end": []}
