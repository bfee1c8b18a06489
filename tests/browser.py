"""Open pages of the book in headless Chromium from their file paths and note what goes wrong."""

import shutil
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

# Why the browser tests cannot run here; empty where they can.
MISSING = (
    "no Chromium found: install chromium"
    if CHROMIUM is None
    else "no playwright or axe-playwright-python: pip install -e '.[test]'"
    if find_spec("playwright") is None or find_spec("axe_playwright_python") is None
    else ""
)

FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
LOCAL = ("file:", "data:", "blob:")
RULES = ["wcag2a", "wcag2aa", "wcag21aa"]


# Fonts are there, pictures are decoded, and the theme's colour transitions are over: axe measures what stays.
SETTLED = """async () => {
    await document.fonts.ready;
    await Promise.allSettled([...document.images].map(image => image.decode()));
    const finite = document.getAnimations().filter(a => isFinite(a.effect.getComputedTiming().endTime));
    await Promise.allSettled(finite.map(animation => animation.finished));
}"""


@contextmanager
def chromium():
    """A running browser."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def visit(context, path: Path, query: str = ""):
    """Open a file in a browser or context; yields the page and a list of its errors and network requests."""
    page, faults = context.new_page(), []
    page.on("console", lambda message: faults.append(f"console: {message.text}") if message.type == "error" else None)
    page.on("pageerror", lambda error: faults.append(f"page error: {error}"))
    page.on("requestfailed", lambda request: faults.append(f"failed request: {request.url}"))
    page.on("request", lambda r: None if r.url.startswith(LOCAL) else faults.append(f"request: {r.url}"))
    try:
        page.goto(path.resolve().as_uri() + query, wait_until="load")
        page.evaluate(SETTLED)
        yield page, faults
    finally:
        page.close()


def axe(page) -> list[str]:
    """Violations of WCAG 2.1 A and AA that axe-core calls serious or critical, one line each."""
    import axe_playwright_python

    page.evaluate((Path(axe_playwright_python.__file__).parent / "axe.min.js").read_text(encoding="utf-8"))
    # Without preload: it fetches the style sheets, which a browser refuses under file:.
    options = {"preload": False, "runOnly": RULES}
    report = page.evaluate("options => axe.run(document, options)", options)
    return [
        f"axe {violation['id']} ({violation['impact']}): {node['html'][:120]}"
        for violation in report["violations"]
        if violation["impact"] in ("serious", "critical")
        for node in violation["nodes"]
    ]
