"""Slides of the committed chapters: all figures and equations are there, and a browser shows them offline."""

import json
import re
from pathlib import Path

import browser
import pytest

from vartutor.cli import main
from vartutor.course.slides import LEFT_OUT

ROOT = Path(__file__).resolve().parents[1]
CHAPTERS = [path.stem for path in sorted((ROOT / "notebooks").glob("[0-9]*.py"))]


@pytest.fixture(scope="module")
def slides(tmp_path_factory):
    out = tmp_path_factory.mktemp("slides")
    assert main(["slides", "--out", str(out)]) == 0
    return {name: (out / f"{name}.html").read_text(encoding="utf-8") for name in CHAPTERS} | {"out": out}


@pytest.mark.parametrize("name", CHAPTERS)
def test_every_figure_and_equation_of_a_chapter_is_shown_once(name, slides):
    cells = json.loads((ROOT / "notebooks" / f"{name}.ipynb").read_text(encoding="utf-8"))["cells"]
    images = [kind for cell in cells for output in cell.get("outputs", ()) for kind in output.get("data", ())]
    shown = slides[name].split("<script")[0]
    assert shown.count("<figcaption>") == sum(kind.startswith("image/") for kind in images) > 0
    assert "In five lines" in shown
    assert "Your turn" not in re.findall(r"<h2[^>]*>(.*?)<", shown)
    assert all(f">{title}" not in shown for title in LEFT_OUT)
    for path in re.findall(r"(?:src|href)=\"(?!data:|#|katex/)([^\"]*)\"", shown):
        assert path.startswith("https://") or path.endswith((".ipynb", ".html")), path  # links in the notes alone


@pytest.mark.skipif(bool(browser.MISSING), reason=browser.MISSING)
@pytest.mark.parametrize("name", ["00_start_here", "05_hierarchical_tokenizer", "08_dpo"])
def test_slides_turn_without_a_network(name, slides):
    with browser.chromium() as chromium:
        context = chromium.new_context(viewport={"width": 1280, "height": 720})
        with browser.visit(context, slides["out"] / f"{name}.html") as (page, faults):
            count = page.locator("section").count()
            assert page.locator("nav").inner_text() == f"1 / {count} · N: notes"
            page.keyboard.press("ArrowRight")
            page.wait_for_function("() => document.querySelector('nav').textContent.startsWith('2 /')")
            page.keyboard.press("End")
            page.wait_for_function(f"() => document.querySelector('nav').textContent.startsWith('{count} /')")
            assert not page.locator("aside").first.is_visible()
            page.keyboard.press("n")
            assert page.locator("aside").first.is_visible()
            page.keyboard.press("n")
            assert page.locator(".katex-error").count() == 0
            high = (
                "slides => slides.filter(s => s.scrollHeight > 1.2 * s.clientHeight).map(s => s.innerText.slice(0, 60))"
            )
            assert page.locator("section").evaluate_all(high) == []
            assert (
                page.locator("section").evaluate_all("s => s.filter(x => x.scrollWidth > x.clientWidth + 2).length")
                == 0
            )
            assert faults == []
            assert browser.axe(page) == []
