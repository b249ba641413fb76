"""The page in a real browser: where there is no Chromium, these are skipped."""

import base64
import json
import re
import shutil
import subprocess

import pytest

from pacbayes_sft.plots import plot_bound
from pacbayes_sft.report.html import render_record

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome", "headless_shell")
BROWSER = next(filter(None, map(shutil.which, NAMES)), None)
pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")
OWN = re.compile(r"https?://([\w.-]+\.)?(google|googleapis|gvt1)\.com[:/]")  # the browser's calls
WORDS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    "--allow-file-access-from-files",
)
DARK, LIGHT = 0, 1
# Measures a page in a frame of its own, in which the page's policy holds as it does alone.
FRAME = """<!doctype html><iframe id=f style="width:400px;height:900px;border:0"></iframe><pre id=o>
</pre><script>
const f = document.getElementById("f");
f.onload = () => {
  const d = f.contentDocument, view = f.contentWindow, root = d.documentElement;
  const style = view.getComputedStyle(d.body);
  const beyond = [...d.body.querySelectorAll("*")].filter(
    e => !e.closest(".figure") && e.getBoundingClientRect().right > 401).map(e => e.outerHTML);
  const small = [...d.body.querySelectorAll("*")].map(
    e => parseFloat(view.getComputedStyle(e).fontSize));
  const bars = [...d.querySelectorAll(".bar")].map(e => e.getBoundingClientRect().width);
  document.getElementById("o").textContent = JSON.stringify({
    wide: root.scrollWidth, beyond, smallest: Math.min(...small), bars,
    ink: style.color, paper: style.backgroundColor,
    loaded: [...d.images].every(i => i.complete && i.naturalWidth > 0)});
};
f.srcdoc = new TextDecoder().decode(Uint8Array.from(atob("PAGE"), c => c.charCodeAt(0)));
</script>"""


def browse(page, tmp_path, *words):
    """Open a page; return what it printed, its console and every address that was asked for."""
    log = tmp_path / "net.json"
    done = subprocess.run(
        [
            *(BROWSER, *WORDS, f"--user-data-dir={tmp_path / 'profile'}", f"--log-net-log={log}"),
            *("--enable-logging=stderr", "--virtual-time-budget=3000", *words, page.as_uri()),
        ],
        capture_output=True,
        text=True,
        timeout=100,
        check=True,
    )
    console = [line for line in done.stderr.splitlines() if ":CONSOLE" in line]
    asked = set(re.findall(r'"url":"(https?://[^"]+)"', log.read_text()))
    return done.stdout, console, {url for url in asked if not OWN.match(url)}


def measured(page, tmp_path, scheme):
    frame = tmp_path / "frame.html"
    frame.write_text(FRAME.replace("PAGE", base64.b64encode(page.encode()).decode()))
    words = ("--dump-dom", f"--blink-settings=preferredColorScheme={scheme}")
    dom, _, _ = browse(frame, tmp_path, *words)
    return json.loads(re.search(r"<pre[^>]*>\s*(\{.*?\})\s*</pre>", dom, re.S)[1])


def brightness(colour):
    return sum(map(int, re.findall(r"\d+", colour)[:3])) / 3


@pytest.fixture
def page(certificate, record, tmp_path):
    plot_bound(certificate, tmp_path / "bound.png")
    record["shift"]["reason"] += " " + "unbroken" * 20  # a long name must not push the page apart
    return render_record(record, tmp_path / "bound.png", "pacbayes-sft bound --base " + "x" * 90)


def test_no_console_message_and_no_request(page, tmp_path):
    (tmp_path / "report.html").write_text(page)
    _, console, asked = browse(tmp_path / "report.html", tmp_path, "--dump-dom")
    assert console == [] and asked == set()
    # the same eyes see both on a page that has them
    bad = tmp_path / "bad.html"
    bad.write_text("<img src='http://elsewhere.invalid/a.png'><script>console.error(1)</script>")
    _, console, asked = browse(bad, tmp_path, "--dump-dom")
    assert console and asked == {"http://elsewhere.invalid/a.png"}


def test_it_is_readable_at_400_pixels_in_light_and_dark(page, tmp_path):
    light, dark = (measured(page, tmp_path, scheme) for scheme in (LIGHT, DARK))
    for found in (light, dark):
        assert found["wide"] <= 400 and found["beyond"] == []
        assert found["smallest"] >= 12 and found["loaded"]
        assert len(found["bars"]) >= 6 and min(found["bars"]) >= 2
    assert brightness(light["paper"]) > 250 and brightness(light["ink"]) < 60
    assert brightness(dark["paper"]) < 60 and brightness(dark["ink"]) > 200


def test_it_prints(page, tmp_path):
    (tmp_path / "report.html").write_text(page)
    pdf = tmp_path / "report.pdf"
    browse(tmp_path / "report.html", tmp_path, f"--print-to-pdf={pdf}", "--no-pdf-header-footer")
    assert pdf.read_bytes().startswith(b"%PDF") and pdf.stat().st_size > 20_000
