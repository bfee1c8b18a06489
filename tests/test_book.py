"""The book: how chapters are staged, how a build fails, and what a reader's browser makes of the result."""

import copy
import importlib
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from browser import MISSING, axe, chromium, visit

from vartutor.course import book
from vartutor.course.book import build_book, executed_chapters, photo_table, stage_notebook
from vartutor.errors import UserError

ROOT = Path(__file__).resolve().parents[1]
ALT = "One photo at three sizes, blurred on the left and sharp on the right."
needs_sphinx = pytest.mark.skipif(not all(map(book._installed, book.NEEDED)), reason="the book extra is not installed")
needs_browser = pytest.mark.skipif(bool(MISSING), reason=MISSING)


# --- staging ---------------------------------------------------------------------------------------


def code(source: str, *outputs: dict, tags: tuple[str, ...] = ()) -> dict:
    metadata = {"tags": list(tags)} if tags else {}
    return {"cell_type": "code", "source": source, "metadata": metadata, "outputs": list(outputs), "execution_count": 1}


def display(data: dict, **metadata) -> dict:
    return {"output_type": "display_data", "data": data, "metadata": metadata}


def stream(name: str, text: str) -> dict:
    return {"output_type": "stream", "name": name, "text": text}


def figure(kind: str = "image/png", **note) -> list[dict]:
    """What the course's ``show`` leaves in a cell: the picture, then its caption for JupyterLab."""
    note = {"caption": "A photo at **three** sizes.", **note}
    picture = display({kind: "iVBORw0KGgo="}, **{kind: {"alt": ALT}, "vartutor": note})
    return [picture, display({"text/markdown": "*A photo*"}, vartutor={"role": "caption"})]


def notebook(*cells: dict) -> dict:
    return {"nbformat": 4, "nbformat_minor": 5, "metadata": {"widgets": {"state": 1}}, "cells": list(cells)}


def test_injected_parameters_are_dropped_and_the_chapters_own_stay():
    own, injected = code("SEED = 0", tags=("parameters",)), code("SEED = 7", tags=("injected-parameters",))
    assert [cell["source"] for cell in stage_notebook(notebook(own, injected))["cells"]] == ["SEED = 0"]


def test_widget_outputs_and_state_are_cleared():
    view = display({"application/vnd.jupyter.widget-view+json": {"model_id": "1"}, "text/plain": "Slider"})
    staged = stage_notebook(notebook(code("slider()", view, tags=("widget",))))
    assert staged["cells"][0]["outputs"] == []
    assert staged["cells"][0]["source"] == "slider()"
    assert "widgets" not in staged["metadata"]


def test_stderr_is_dropped_and_stdout_stays():
    staged = stage_notebook(notebook(code("f()", stream("stdout", "kept"), stream("stderr", "a warning"))))
    assert [output["text"] for output in staged["cells"][0]["outputs"]] == ["kept"]


@pytest.mark.parametrize("kind", ["image/png", "image/jpeg"])
def test_caption_and_alt_text_move_to_the_cell(kind):
    cell = stage_notebook(notebook(code("show(x)", *figure(kind), tags=("hide-input",))))["cells"][0]
    assert cell["metadata"]["mystnb"] == {"image": {"alt": ALT}, "figure": {"caption": "A photo at **three** sizes."}}
    assert cell["metadata"]["tags"] == ["hide-input"]
    assert [list(output["data"]) for output in cell["outputs"]] == [[kind]]


def test_a_named_figure_keeps_its_name():
    cell = stage_notebook(notebook(code("show(x)", *figure(name="fig-sizes"))))["cells"][0]
    assert cell["metadata"]["mystnb"]["figure"]["name"] == "fig-sizes"


def test_two_figures_in_a_cell_are_refused():
    with pytest.raises(ValueError, match="cell 0 shows 2 figures: split it"):
        stage_notebook(notebook(code("show(x); show(y)", *figure(), *figure())))


def test_links_to_the_pages_of_the_book_are_turned():
    lines = ["See [it](../book/notation.md)", " and [on](02.ipynb)."]
    cell = {"cell_type": "markdown", "metadata": {}, "source": lines}
    staged = stage_notebook(notebook(cell))["cells"][0]["source"]
    assert staged == "See [it](../notation.md) and [on](02.ipynb)."


def test_staging_leaves_its_argument_alone():
    before = notebook(code("show(x)", *figure(), stream("stderr", "w")), code("w()", tags=("injected-parameters",)))
    kept = copy.deepcopy(before)
    stage_notebook(before)
    assert before == kept


def test_executed_chapters_win_and_missing_ones_fall_back(tmp_path):
    committed, executed = tmp_path / "notebooks", tmp_path / "run"
    for folder, names in ((committed, ("00_a", "01_b", "draft")), (executed, ("01_b",))):
        folder.mkdir()
        for name in names:
            (folder / f"{name}.ipynb").write_text("{}")
    assert executed_chapters(committed, executed) == [committed / "00_a.ipynb", executed / "01_b.ipynb"]


def test_photo_table_links_the_source_and_escapes_bars():
    row = {"file": "a.jpg", "author": "A|B", "licence": "CC0-1.0", "source": "https://example.org/x", "changes": "none"}
    assert "\n| `a.jpg` | A\\|B | CC0-1.0 | [source](<https://example.org/x>) | none |\n" in photo_table([row])


# --- failing builds --------------------------------------------------------------------------------


def small_root(tmp_path: Path, page: str = "# Title\n", conf: str = 'extensions = ["myst_nb"]\n') -> Path:
    (tmp_path / "book").mkdir(parents=True)
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "book" / "conf.py").write_text(conf)
    (tmp_path / "book" / "index.md").write_text(page)
    return tmp_path


@needs_sphinx
def test_a_failed_build_gives_one_line_and_keeps_the_old_book(tmp_path):
    root = small_root(tmp_path)
    index = build_book(root)
    assert index == root / "build" / "book" / "index.html"
    old = index.read_text(encoding="utf-8")
    (root / "book" / "index.md").write_text("# New\n\n[gone](gone.md)\n", encoding="utf-8")
    with pytest.raises(UserError) as failure:
        build_book(root, strict=True)
    message = str(failure.value)
    assert "\n" not in message
    assert all(word in message for word in ("index.md", "gone.md", "WARNING"))
    assert "book-stage" not in message
    log = Path(re.search(r"\(log: (.*)\)$", message).group(1))
    assert "gone.md" in log.read_text(encoding="utf-8")
    assert index.read_text(encoding="utf-8") == old
    assert sorted(path.name for path in (root / "build").iterdir()) == ["book", "book.log"]


@needs_sphinx
def test_a_second_build_replaces_the_first(tmp_path):
    root = small_root(tmp_path)
    stale = build_book(root).parent / "stale.html"
    stale.write_text("old")
    (root / "book" / "index.md").write_text("# New title\n")
    assert "New title" in build_book(root, strict=True).read_text(encoding="utf-8")
    assert not stale.exists()


@needs_sphinx
def test_a_public_repository_gives_chapters_a_button_for_binder(tmp_path):
    root = small_root(tmp_path, page="# Title\n\n```{toctree}\nnotebooks/00_a\n```\n")
    for name in ("conf.py", "references.bib", "_static"):
        (shutil.copytree if name == "_static" else shutil.copy)(ROOT / "book" / name, root / "book" / name)
    shutil.copy(ROOT / "notebooks" / "03_residual_vq.ipynb", root / "notebooks" / "00_a.ipynb")
    for repository, there in (("https://github.com/owner/name", True), ("", False)):
        index = build_book(root, repository=repository)
        page = (index.parent / "notebooks" / "00_a.html").read_text(encoding="utf-8")
        address = "https://mybinder.org/v2/gh/owner/name/main?urlpath=lab/tree/notebooks/00_a.ipynb"
        assert (address in page) is there
        assert ("mybinder" in page) is there


@needs_sphinx
def test_a_book_elsewhere_writes_nothing_into_the_clone(tmp_path):
    root = small_root(tmp_path / "root")
    assert build_book(root, out=tmp_path / "elsewhere" / "mine").is_file()
    assert not (root / "build").exists()
    assert sorted(path.name for path in (tmp_path / "elsewhere").iterdir()) == ["mine", "mine.log"]


@needs_sphinx
def test_a_broken_configuration_is_named(tmp_path):
    root = small_root(tmp_path, conf='extensions = ["no_such_extension"]\n')
    with pytest.raises(UserError, match=r"the book was not built: .*no_such_extension"):
        build_book(root)
    assert not (root / "build" / "book").exists()


@needs_sphinx
@pytest.mark.parametrize("text", ["not json", "[]", '{"metadata": {}}'])
def test_an_unreadable_notebook_is_named(tmp_path, text):
    root = small_root(tmp_path)
    (root / "notebooks" / "00_a.ipynb").write_text(text)
    with pytest.raises(UserError, match=r"00_a\.ipynb: not a notebook that the book can show") as failure:
        build_book(root)
    assert "\n" not in str(failure.value)


def test_without_sphinx_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(book, "_installed", lambda module: module != "sphinx")
    with pytest.raises(UserError, match=r"the book needs the book extra: pip install -e '\.\[book\]'"):
        build_book(small_root(tmp_path))
    assert not (tmp_path / "build").exists()


# --- the real book ---------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def html(tmp_path_factory) -> Path:
    """The book of the committed notebooks; any warning of Sphinx fails here."""
    if not all(map(book._installed, book.NEEDED)):
        pytest.skip("the book extra is not installed")
    return build_book(ROOT, out=tmp_path_factory.mktemp("html") / "book", strict=True).parent


@pytest.fixture(scope="module")
def browser():
    if MISSING:
        pytest.skip(MISSING)
    with chromium() as running:
        yield running


@pytest.fixture(params=["light", "dark"])
def context(request, browser):
    opened = browser.new_context(color_scheme=request.param, viewport={"width": 1280, "height": 1000})
    opened.scheme = request.param
    yield opened
    opened.close()


def pages(html: Path) -> list[Path]:
    return sorted(path for path in html.rglob("*.html") if "_static" not in path.parts)


def chapter_pages(html: Path) -> list[Path]:
    return [html / "notebooks" / f"{path.stem}.html" for path in executed_chapters(ROOT / "notebooks")]


def test_every_chapter_is_a_page_and_the_index_knows_it(html):
    chapters = executed_chapters(ROOT / "notebooks")
    assert chapters
    assert all(page.is_file() for page in chapter_pages(html))
    linked = re.findall(r"\(notebooks/(\w+\.ipynb)\)", (ROOT / "book" / "index.md").read_text(encoding="utf-8"))
    assert linked == [path.name for path in chapters]


def test_figures_have_alt_text_numbers_and_captions(html):
    for source, page in zip(executed_chapters(ROOT / "notebooks"), chapter_pages(html), strict=True):
        outputs = [o for cell in json.loads(source.read_text("utf-8"))["cells"] for o in cell.get("outputs", [])]
        expected = sum("caption" in output.get("metadata", {}).get("vartutor", {}) for output in outputs)
        text = page.read_text(encoding="utf-8")
        assert len(re.findall(r'<span class="caption-number">Figure \d+', text)) == expected
        assert len(re.findall(r"<figcaption", text)) == expected


class Links(HTMLParser):
    """Link targets and anchors of a page."""

    def __init__(self, page: Path):
        super().__init__()
        self.targets, self.anchors = [], {"top"}
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.anchors |= {attrs[key] for key in ("id", "name") if attrs.get(key)}
        self.targets += [attrs[key] for key in ("href", "src") if attrs.get(key)]


def test_internal_links_are_not_broken(html):
    parsed = {page.resolve(): Links(page) for page in pages(html)}
    broken, seen = [], 0
    for page, links in parsed.items():
        for target in links.targets:
            parts = urlsplit(target)
            if parts.scheme or parts.netloc:
                continue
            seen += 1
            path = (page.parent / unquote(parts.path)).resolve() if parts.path else page
            missing_anchor = parts.fragment and path in parsed and unquote(parts.fragment) not in parsed[path].anchors
            if not path.is_file() or missing_anchor:
                broken.append(f"{page.name}: {target}")
    assert seen > 100
    assert not broken


def test_the_pages_load_nothing_from_the_network(html):
    loads = re.compile(r"<(?:script|img|link|iframe)\b[^>]*\b(?:src|href)=\"(https?:)?//[^\"]*\"")
    assert [page.name for page in pages(html) if loads.search(page.read_text(encoding="utf-8"))] == []


def test_download_button_hands_out_the_committed_notebook(html):
    for source, page in zip(executed_chapters(ROOT / "notebooks"), chapter_pages(html), strict=True):
        links = [target for target in Links(page).targets if target.endswith(".ipynb") and "_sources" in target]
        assert links
        assert (page.parent / links[0]).resolve().read_bytes() == source.read_bytes()


def test_photo_credits_list_every_photo(html):
    text = (html / "photo-credits.html").read_text(encoding="utf-8")
    files = [path.name for path in (ROOT / "assets" / "photos").glob("*.jpg")]
    assert files
    assert [name for name in files if name not in text] == []


def test_code_names_of_the_notation_import():
    names = re.findall(r"`(vartutor(?:\.\w+)+)`", (ROOT / "book" / "notation.md").read_text(encoding="utf-8"))
    assert len(names) > 10
    for name in names:
        module, _, attribute = name.rpartition(".")
        assert hasattr(importlib.import_module(module), attribute), name


def test_quoted_lines_stand_in_the_package():
    text = (ROOT / "book" / "from-varsr.md").read_text(encoding="utf-8")
    quotes = re.findall(r"```\{code-block\} python\n:caption: (\S+)\n(.*?)```", text, re.DOTALL)
    assert len(quotes) > 3
    for file, lines in quotes:
        source = {line.strip() for line in (ROOT / file).read_text(encoding="utf-8").splitlines()}
        assert set(lines.strip().splitlines()) <= source, file


def test_every_cited_key_is_in_the_bibliography():
    keys = set(re.findall(r"^@\w+\{(\w+),", (ROOT / "book" / "references.bib").read_text(encoding="utf-8"), re.M))
    text = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "book").glob("*.md"))
    cited = {key for group in re.findall(r"\{cite:\w+\}`([^`]+)`", text) for key in group.split(",")}
    assert cited
    assert cited <= keys


@needs_browser
def test_every_page_is_sound_and_accessible(html, context):
    faults = {}
    for path in pages(html):
        with visit(context, path) as (page, found):
            nameless = page.eval_on_selector_all("img", "all => all.filter(i => !i.alt.trim()).map(i => i.outerHTML)")
            blank = page.eval_on_selector_all("img", "all => all.filter(i => !i.naturalWidth).map(i => i.src)")
            theme = page.evaluate("document.documentElement.dataset.theme")
            found += [f"img without alt: {image[:120]}" for image in nameless]
            found += [f"img does not show: {image}" for image in blank]
            found += [] if theme == context.scheme else [f"theme is {theme}, not {context.scheme}"]
            found += axe(page)
            if found:
                faults[path.name] = found
    assert not faults


@needs_browser
def test_formulas_render(html, browser):
    rendered = 0
    for path in pages(html):
        with visit(browser, path) as (page, _):
            maths = page.locator("span.math, div.math").count()
            assert page.locator(".katex-error").count() == 0, path.name
            assert page.locator("span.math > .katex, div.math .katex-display > .katex").count() == maths, path.name
            rendered += maths
    assert rendered > 20


@needs_browser
def test_search_finds_psnr_from_a_file_path(html, browser):
    with visit(browser, html / "search.html", "?q=PSNR") as (page, faults):
        page.wait_for_selector("#search-results li a", timeout=10_000)
        found = page.eval_on_selector_all("#search-results li a", "all => all.map(a => a.getAttribute('href'))")
        page.wait_for_timeout(500)  # excerpts, if any were fetched, would fail by now
        assert any("notation.html" in href for href in found)
        assert not faults


@needs_browser
def test_dark_mode_switch_and_neighbours(html, browser):
    with visit(browser, chapter_pages(html)[-1]) as (page, faults):
        for mode in ("dark", "light", "dark"):
            page.locator("button.theme-switch-button:visible").click()
            page.locator(f"button.theme-change-button[data-mode={mode}]:visible").click()
            assert page.evaluate("document.documentElement.dataset.theme") == mode
        assert page.locator("a.left-prev").count() == 1
        page.locator("a.right-next").click()
        page.wait_for_load_state()
        assert page.url.endswith("whole-model.html")
        assert page.evaluate("document.documentElement.dataset.theme") == "dark"  # the choice is kept
        assert not faults


@needs_browser
def test_code_and_pictures_fit_into_a_window_of_1280_pixels(html, browser):
    wide = browser.new_context(viewport={"width": 1280, "height": 900})
    for path in [*chapter_pages(html), html / "whole-model.html"]:
        with visit(wide, path) as (page, _):
            clipped = "all => all.filter(e => e.scrollWidth > e.clientWidth + 1).map(e => e.textContent.slice(0, 60))"
            assert page.eval_on_selector_all(".highlight-python pre, div.cell_input pre", clipped) == [], path.name
            sizes = "all => all.map(i => [i.naturalWidth, Math.round(i.getBoundingClientRect().width)])"
            shown = page.eval_on_selector_all(".cell_output figure img", sizes)
            assert [pair for pair in shown if pair[0] != pair[1]] == [], path.name
    wide.close()


@needs_browser
def test_the_slider_moves_by_keys(html, browser):
    with visit(browser, chapter_pages(html)[0]) as (page, faults):
        slider = page.locator(".before-after input")
        seen = "() => getComputedStyle(document.querySelector('.before-after')).getPropertyValue('--seen')"
        assert page.evaluate(seen) == "50%"
        slider.focus()
        for _ in range(7):
            page.keyboard.press("ArrowRight")
        assert page.evaluate(seen) == "57%"
        assert not faults


@needs_browser
def test_what_scrolls_sideways_takes_the_focus(html, browser):
    narrow = browser.new_context(viewport={"width": 380, "height": 800})
    unreachable, scrollable = [], 0
    for path in pages(html):
        with visit(narrow, path) as (page, _):
            page.wait_for_timeout(100)
            wide = page.eval_on_selector_all(
                "article pre, article div.math, article .pst-scrollable-table-container",
                "all => all.filter(e => e.scrollWidth > e.clientWidth + 1).map(e => e.tabIndex)",
            )
            scrollable += len(wide)
            unreachable += [path.name for index in wide if index < 0]
    narrow.close()
    assert scrollable
    assert not unreachable
