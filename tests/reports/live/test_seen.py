"""What is seen in a browser: the command's page, on which bits are flipped by mouse, keyboard and address."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest

_spec = importlib.util.spec_from_file_location("live_browser", Path(__file__).with_name("browser.py"))
browser = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(browser)

pytestmark = [
    pytest.mark.skipif(browser.CHROMIUM is None, reason="no Chromium here"),
    pytest.mark.skipif(sys.platform == "win32", reason="the browser is held by pipes of POSIX"),
]
BIT = ".bit:nth-child({})"
CODE = '[...document.querySelectorAll(".bit")].map(b => b.getAttribute("aria-checked") === "true" ? "1" : "0").join("")'
SETTLED = f"document.body.dataset.decoded === {CODE} && document.body.dataset.read === {CODE} && {CODE}"
PICTURES = '[...document.querySelectorAll("#pictures canvas")].map(c => c.toDataURL()).join()'


@pytest.fixture
def url(spawn, workshop):
    process = spawn("explore", "runs/tiny", "--json", "--quiet")
    return json.loads(process.stdout.readline())["url"]


@pytest.fixture
def page(url, tmp_path):
    held = browser.Browser(tmp_path / "profile")
    held.open(url)
    yield held
    held.close()


def flipped(code, *bits):
    return "".join("10"[int(bit)] if i in bits else bit for i, bit in enumerate(code))


def test_playing(page, url, tmp_path):
    """One story, since a browser takes seconds to start."""
    code = page.until(SETTLED)
    first = page.js(PICTURES)
    assert page.js('document.querySelectorAll("#pictures canvas").length') == 9
    assert page.js('document.querySelectorAll("#steps-strip canvas").length') == 10
    assert "bits" in page.js('document.querySelector(".meter p").textContent')

    # A click flips one bit, and what it decodes to is another picture.
    page.click(BIT.format(3))
    page.until(f"{SETTLED} === '{flipped(code, 2)}'")
    assert page.js(PICTURES) != first
    assert "not as encoded" in page.js(
        f"document.querySelector('{BIT.format(3)}').getAttribute('aria-label')"
    )

    # By keyboard: the arrow moves, space flips, L locks, and a locked bit stays.
    page.key("ArrowRight")
    page.key(" ", "Space", " ")
    page.until(f"{CODE} === '{flipped(code, 2, 3)}'")
    page.key("l", "KeyL", "l")
    page.until(f"document.querySelector('{BIT.format(4)}').classList.contains('locked')")
    page.key(" ", "Space", " ")
    page.until("document.getElementById('status').textContent === 'bit 3 is locked'")

    # A stroke over several bits gives all the value of the first; the locked one stays.
    value = "10"[int(flipped(code, 2, 3)[4])]
    page.mouse("mouseMoved", BIT.format(5))
    page.mouse("mousePressed", BIT.format(5))
    for place in (6, 7):
        page.mouse("mouseMoved", BIT.format(place))
    page.mouse("mouseReleased", BIT.format(7))
    painted = flipped(code, 2, 3)[:4] + 3 * value + code[7]
    page.until(f"{SETTLED} === '{painted}'")

    # The address is all of it: another page shows the same.
    address = page.js("location.href")
    pictures = page.js(PICTURES.replace("#pictures canvas", "#pictures figure canvas:first-child"))
    page.open("about:blank")
    page.open(address)
    page.until(f"{SETTLED} === '{painted}'")
    page.until(f"document.querySelector('{BIT.format(4)}').classList.contains('locked')")
    same = PICTURES.replace("#pictures canvas", "#pictures figure canvas:first-child")
    assert page.js(same) == pictures

    # The buttons: as encoded, more of a class, a completion, neighbors, a path.
    page.click("#set-a")
    page.click("#reset")
    page.until(f"{CODE} === '{flipped(code, 3)}' || {CODE} === '{code}'")
    page.click("#set-b")
    page.click("#walk")
    page.until("document.querySelectorAll('#path canvas').length > 1")
    page.click("#neighbors")
    page.until("document.querySelectorAll('#near canvas').length === 12")
    page.click(".reading:nth-child(4) button:last-child")
    page.until("/flipped for more|no free bit/.test(document.getElementById('status').textContent)")
    page.click("#complete")
    page.until("/draw given|Gibbs/.test(document.getElementById('status').textContent)")

    # An address of another run's code is told, and nothing breaks.
    page.open("about:blank")
    page.open(f"{url}#c=ffffff")
    page.until("document.getElementById('status').classList.contains('bad')")
    assert page.log == []


def test_it_fits_a_phone_and_has_names(page, tmp_path):
    page.until(SETTLED)
    for width in (360, 1200):
        page.resize(width, 800, mobile=width < 500)
        page.until(f"innerWidth === {width}")
        assert page.js("document.documentElement.scrollWidth") <= width
        page.screenshot(tmp_path / f"{width}.png")
    unnamed = (
        '[...document.querySelectorAll("button,input,select,canvas")].filter(e => '
        '!(e.getAttribute("aria-label") || e.textContent.trim() || e.labels?.length)).length'
    )
    assert page.js(unnamed) == 0
    assert page.js('document.querySelectorAll(".bit[role=switch][tabindex=\\"0\\"]").length') == 1
    assert page.log == []
