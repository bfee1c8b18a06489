"""Sphinx settings of the book. Everything it needs lies in ``_static``: it opens from a file path, offline."""

import os

from docutils import nodes
from sphinx.util.math import get_node_equation_number

project = "vartutor"
author = "the vartutor authors"
copyright = "the vartutor authors. Text and figures: CC BY 4.0; code: Apache-2.0"

extensions = ["myst_nb", "sphinx_copybutton", "sphinx_design", "sphinxcontrib.bibtex"]
exclude_patterns = ["README.md"]
myst_enable_extensions = ["amsmath", "attrs_inline", "colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3

# Chapters come with their outputs; building the book runs nothing.
nb_execution_mode = "off"
nb_merge_streams = True
nb_ipywidgets_js = {}  # widgets need a kernel; each has a static figure beside it

bibtex_bibfiles = ["references.bib"]
bibtex_default_style = "plain"
bibtex_reference_style = "author_year"

numfig = True
numfig_format = {"figure": "Figure %s", "table": "Table %s"}

html_theme = "sphinx_book_theme"
html_title = "vartutor"
html_logo = "_static/logo.svg"
html_favicon = "_static/favicon.svg"
html_static_path = ["_static"]
html_css_files = ["katex/katex.min.css", "custom.css"]
html_js_files = ["katex/katex.min.js", "katex/auto-render.min.js", "book.js"]
html_sourcelink_suffix = ""  # so that a chapter downloads as .ipynb
html_context = {"default_mode": "auto"}
html_theme_options = {
    "logo": {"text": "vartutor", "alt_text": "vartutor, home"},
    "use_download_button": True,
    "use_fullscreen_button": False,
    "use_issues_button": False,
    "home_page_in_toc": True,
    "navbar_persistent": [],  # one search button is enough
    "show_toc_level": 2,
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}
if repository := os.environ.get("VARTUTOR_REPOSITORY"):  # none in the book that works offline
    html_theme_options |= {"repository_url": repository, "repository_branch": "main", "use_repository_button": True}
    html_theme_options["launch_buttons"] = {"binderhub_url": "https://mybinder.org", "notebook_interface": "jupyterlab"}


def inline_math(self, node):
    self.body.append(self.starttag(node, "span", "", CLASS="math notranslate nohighlight"))
    self.body.append(self.encode(node.astext()) + "</span>")
    raise nodes.SkipNode


def block_math(self, node):
    self.body.append(self.starttag(node, "div", CLASS="math notranslate nohighlight"))
    if node["number"]:
        self.body.append(f'<span class="eqno">({get_node_equation_number(self, node)})')
        self.add_permalink_ref(node, "Link to this equation")
        self.body.append("</span>")
    self.body.append(f'<div class="tex">{self.encode(node.astext())}</div></div>')
    raise nodes.SkipNode


def plain_citations(app, page, template, context, doctree):
    # docutils gives citations list roles that their markup does not fulfil, and a role that ARIA has dropped.
    if "body" in context:
        body = context["body"].replace('<div role="list" class="citation-list">', '<div class="citation-list">')
        context["body"] = body.replace(' role="doc-biblioentry"', "")


def setup(app):
    app.connect("html-page-context", plain_citations)
    # KaTeX itself runs in the reader's browser (book.js): rendering here would need Node.
    app.add_html_math_renderer("vendored_katex", (inline_math, None), (block_math, None))


html_math_renderer = "vendored_katex"
