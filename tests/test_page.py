"""A report's page, opened in headless Chromium: silent, as wide as the window, and with the figures of the report."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import dataclass, field, replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from saved import IDS, IMAGES, made
from test_report import FRONTIER, HOSTILE, diagnosis, hostile

from tinyml import models
from tinyml.plan.info import FrontierPoint
from tinyml.report import Report
from tinyml.report.figures import COLUMNS
from tinyml.report.style import CSS

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
browser = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed (apt-get install chromium)")
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--enable-logging=stderr")
WIDTHS = (390, 1280)
# Windows have a least width, frames none. A frame of srcdoc is of its parent's origin, so that it may be measured.
AROUND = """<!doctype html><meta charset="utf-8"><body><pre id="found"></pre><script>
const page = PAGE, widths = WIDTHS, frames = [], violations = [];
for (const width of widths) {
  const frame = document.createElement("iframe");
  frame.style.cssText = `border:0;height:900px;width:${width}px`;
  frame.srcdoc = page;
  document.body.append(frame);
  frames.push(frame);
}
window.onload = () => {
  document.getElementById("found").textContent = JSON.stringify(frames.map(frame => {
    const root = frame.contentDocument.documentElement;
    frame.contentDocument.querySelectorAll("details").forEach(d => d.open = true);
    const wide = [...frame.contentDocument.querySelectorAll("body *")].filter(e => !e.closest(".scroll, .skip, thead")
      && e.getBoundingClientRect().right > frame.contentWindow.innerWidth + 1).map(e => e.outerHTML.slice(0, 80));
    return {scroll: root.scrollWidth, inner: frame.contentWindow.innerWidth, height: root.scrollHeight, wide};
  }));
};
</script>"""


def opened(path: Path, folder: Path) -> tuple[str, list[str]]:
    """The DOM of a page as Chromium has it after loading, and what it wrote to the console."""
    run = subprocess.run([CHROMIUM, *FLAGS, f"--user-data-dir={folder}", "--window-size=1280,1000", "--dump-dom",
                          path.as_uri()], capture_output=True, text=True, timeout=120, check=True)
    return run.stdout, [line for line in run.stderr.splitlines() if "CONSOLE" in line]


@dataclass
class Reader(HTMLParser):
    """Collects the cells of the table of layers by their keys, the JSON, and what has to do with access."""

    rows: list[dict[str, str]] = field(default_factory=list)
    json: str = ""
    ids: list[str] = field(default_factory=list)
    images: list[dict] = field(default_factory=list)
    focusable: list[tuple[str, dict]] = field(default_factory=list)
    outside: list[tuple[str, str, str]] = field(default_factory=list)       # what a browser would fetch or run
    _into: tuple | None = None

    def __post_init__(self):
        super().__init__()

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.outside += [(tag, name, value) for name, value in attrs.items() if name.startswith("on") or
                         (name in ("src", "srcset", "href", "data", "action", "poster") and not value.startswith("#"))]
        self.ids += [attrs["id"]] if "id" in attrs else []
        self.images += [attrs] if tag == "svg" else []
        self.focusable += [(tag, attrs)] if tag in ("a", "summary") or attrs.get("tabindex") == "0" else []
        if tag == "tr" and {"layer", "total"} & set(attrs.get("class", "").split()):
            self.rows.append({})
        if tag == "th" and attrs.get("scope") == "row":
            self._into = ("th", "layer")
        elif tag == "small" and self._into and self._into[0] == "th":
            self._into = ("th", "ops")
        elif tag == "td" and "data-key" in attrs:
            self._into = ("td", attrs["data-key"])
        elif tag == "script":
            self._into = ("script", "")

    def handle_endtag(self, tag):
        if self._into and tag == self._into[0]:
            self._into = None

    def handle_data(self, data):
        if self._into and self._into[0] == "script":
            self.json += data
        elif self._into:
            self.rows[-1][self._into[1]] = self.rows[-1].get(self._into[1], "") + data


def read(page: str) -> Reader:
    reader = Reader()
    reader.feed(page)
    return reader


def cnn() -> Report:
    plan, _ = made("static CifarCNN")
    plan.info = replace(plan.info, frontier=[FrontierPoint(**point) for point in FRONTIER])
    return plan.report([IMAGES], batch=2, seconds=0.05, diagnosis=diagnosis("0", "3", "7", "22"))


def gpt(static: bool) -> Report:
    model = models.TinyGPT(11, 6, 2, 2, 8)
    return (model.to_int8(calibration=[IDS]) if static else model.to_int8()).report([IDS], seconds=0.05)


REPORTS = {
    "CifarCNN": cnn,
    "TinyGPT, static": lambda: gpt(True),
    "TinyGPT, dynamic": lambda: gpt(False),
    "without times": lambda: made("CifarCNN")[0].report(),
    "hostile names": lambda: hostile().report([IMAGES], diagnosis=diagnosis(HOSTILE, "0", metric="loss"), seconds=0.01),
}


@browser
@pytest.mark.parametrize("kind", REPORTS)
def test_the_page_is_silent_fits_the_window_and_has_the_figures(kind, tmp_path):
    r = REPORTS[kind]()
    path = tmp_path / "page.html"
    r.to_html(path)
    dom, console = opened(path, tmp_path / "a")
    assert console == []
    found = read(dom)
    assert json.loads(found.json) == r.as_dict()
    shown = [{key: row.get(key, "") for key in COLUMNS} for row in found.rows[: len(r.rows())]]
    assert shown == r.rows()
    check_access(found)
    around = tmp_path / "around.html"
    around.write_text(AROUND.replace("PAGE", json.dumps(path.read_text(encoding="utf-8")).replace("</", "<\\/"))
                      .replace("WIDTHS", json.dumps(WIDTHS)), encoding="utf-8")
    dom, console = opened(around, tmp_path / "b")
    assert console == []
    measured = json.loads(dom.partition('<pre id="found">')[2].partition("</pre>")[0])
    assert [m["inner"] for m in measured] == list(WIDTHS)
    for m in measured:
        assert m["scroll"] <= m["inner"] and m["wide"] == [] and m["height"] > 500, m


def check_access(found: Reader) -> None:
    """What a keyboard and a screen reader need: the way past the head first, names for charts and regions."""
    assert len(set(found.ids)) == len(found.ids)
    assert found.focusable[0][1]["class"] == "skip" and found.focusable[0][1]["href"] == "#table"
    for tag, attrs in found.focusable:
        assert tag != "a" or attrs["href"].removeprefix("#") in found.ids
        assert tag != "div" or (attrs["role"] == "region" and attrs["aria-label"])
    assert found.images and all(image["role"] == "img" and set(image["aria-labelledby"].split()) <= set(found.ids)
                                for image in found.images)


@pytest.mark.parametrize("kind", REPORTS)
def test_the_page_needs_nothing_else(kind, tmp_path):
    r = REPORTS[kind]()
    r.to_html(tmp_path / "page.html")
    assert [p.name for p in tmp_path.iterdir()] == ["page.html"]
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    found = read(page)
    assert found.outside == [] and "url(" not in CSS and "@import" not in CSS
    assert "prefers-color-scheme:dark" in page and "default-src 'none'" in page
    assert json.loads(found.json) == r.as_dict()
    check_access(found)


@browser
def test_chromium_tells_what_is_wrong(tmp_path):
    """The checks above see what they look for: a script that the page's policy stops, and a box wider than a phone."""
    r = made("CifarCNN")[0].report()
    r.to_html(tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    bad = page.replace("<main>", '<main><script>alert(1)</script><div style="width:700px">wide</div>')
    (tmp_path / "bad.html").write_text(bad, encoding="utf-8")
    _, console = opened(tmp_path / "bad.html", tmp_path / "a")
    assert len(console) == 1 and "Content Security Policy" in console[0]
    (tmp_path / "around.html").write_text(AROUND.replace("PAGE", json.dumps(bad).replace("</", "<\\/"))
                                          .replace("WIDTHS", json.dumps(WIDTHS)), encoding="utf-8")
    dom, _ = opened(tmp_path / "around.html", tmp_path / "b")
    narrow, wide = json.loads(dom.partition('<pre id="found">')[2].partition("</pre>")[0])
    assert narrow["scroll"] > narrow["inner"] and wide["scroll"] <= wide["inner"]
