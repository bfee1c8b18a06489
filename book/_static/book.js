// The book opens from a file path as well as from a server, and works with the keyboard.
"use strict";

// Search shows excerpts by fetching the pages it found, which a browser refuses under file:.
if (location.protocol === "file:" && typeof DOCUMENTATION_OPTIONS !== "undefined") {
  DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = false;
}

function renderMaths() {
  for (const element of document.querySelectorAll("span.math, div.math > .tex")) {
    const displayMode = element.classList.contains("tex");
    katex.render(element.textContent, element, { displayMode, throwOnError: false });
  }
  // JupyterLab typesets dollars inside HTML outputs (hints, solutions); so does the book.
  for (const element of document.querySelectorAll(".cell_output .text_html")) {
    renderMathInElement(element, {
      delimiters: [
        { left: "$$", right: "$$", display: true },
        { left: "$", right: "$", display: false },
      ],
      throwOnError: false,
    });
  }
}

// Names such as vartutor.data.pairs.Pairs may break after a dot or an underscore, and nowhere else.
function breakNames() {
  for (const element of document.querySelectorAll("article td code .pre")) {
    const parts = element.textContent.split(/(?<=[._])/);
    element.replaceChildren(...parts.flatMap((part) => [part, document.createElement("wbr")]));
  }
}

// What scrolls sideways must take the focus, or a keyboard cannot scroll it.
function focusScrollable() {
  const selector = "pre, div.math, .pst-scrollable-table-container, .table-scroll, .cell_output .output";
  for (const element of document.querySelectorAll(selector)) {
    if (element.scrollWidth > element.clientWidth && !element.hasAttribute("tabindex")) {
      element.tabIndex = 0;
    }
  }
}

document.addEventListener("DOMContentLoaded", () => {
  renderMaths();
  breakNames();
  focusScrollable();
  // Fonts widen the formulas after the first layout.
  document.fonts.ready.then(focusScrollable);
  addEventListener("resize", focusScrollable);
});
