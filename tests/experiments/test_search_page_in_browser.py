"""The search page as people use it, in Chromium."""

import pathlib
import re
import shutil
import subprocess
import sys

import pytest
from PIL import Image

from tests.experiments.page_gallery import write_run

sync_api = pytest.importorskip("playwright.sync_api", reason="drives Chromium")
sync_api.expect.set_options(timeout=60_000)
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: make browser"),
]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("page")
    write_run(root)
    for color in ("red", "blue"):
        Image.new("RGB", (40, 30), color).save(root / f"{color}.png")
    (root / "hostile.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100))
    return root


@pytest.fixture(scope="module")
def address(root):
    """Where the program serves the page."""
    program = subprocess.Popen(
        [
            *(sys.executable, "-m", "experiments.search_page"),
            *(f"--run={root / 'run'}", "--port=0", "--k=6"),
        ],
        cwd=pathlib.Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        yield re.match(r"(http://127\.0\.0\.1:\d+) ", program.stdout.readline())[1]
    finally:
        program.terminate()
        program.wait(30)
        program.stdout.close()


@pytest.fixture(scope="module")
def chromium():
    with sync_api.sync_playwright() as playwright:
        # Without its sandbox, which a container lets nobody make.
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox"]
        )
        yield browser
        browser.close()


@pytest.fixture(params=["desk", "phone"])
def page(request, chromium, address):
    """The page on a screen; it must ask no other server, and log no error."""
    sizes = {"desk": (1100, 900), "phone": (380, 760)}
    width, height = sizes[request.param]
    page = chromium.new_page(viewport={"width": width, "height": height})
    page.set_default_timeout(60_000)
    faults, asked = [], []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(address)
    yield page
    assert faults == []
    own = (address, f"blob:{address}", "data:,")
    assert [url for url in asked if not url.startswith(own)] == []
    wider = "document.documentElement.scrollWidth > innerWidth"
    assert not page.evaluate(wider)
    page.close()


def classes_of(page):
    page.wait_for_selector("#found .score")
    return page.locator("#found .images .class").all_inner_texts()


def test_gallery_is_shown_with_its_images(page):
    page.wait_for_load_state("networkidle")
    images = page.locator("#found .images img")
    assert images.count() == 20
    for image in images.all():
        image.scroll_into_view_if_needed()
        sync_api.expect(image).not_to_have_js_property("naturalWidth", 0)


def test_chosen_image_finds_its_like_and_is_compared_otherwise(page, root):
    page.set_input_files("#file", root / "red.png")
    assert classes_of(page)[:5] == ["red"] * 5
    assert page.locator("#shown").is_visible()
    score = page.locator("#found .score").first
    assert float(score.inner_text()) > 0.9
    page.get_by_label("Binary code").check()
    sync_api.expect(page.locator("#found .score").first).to_have_text("0")
    page.set_input_files("#file", root / "blue.png")
    sync_api.expect(page.locator("#found .class").first).to_have_text("blue")


def test_image_of_the_gallery_is_clicked_through(page):
    page.locator("#found .images a").nth(12).click()
    page.wait_for_url("**/like/12?by=cosine")
    first = classes_of(page)
    assert first[:4] == [first[0]] * 4
    page.get_by_label("Exact cosine").check()
    page.wait_for_url("**/like/12?by=exact")
    assert classes_of(page) == first
    page.locator("#found .images a").first.click()
    page.wait_for_url(re.compile(r"/like/\d+\?by=exact$"))
    assert classes_of(page)[:4] == first[:4]


def test_pasted_and_dropped_images_are_searched_for(page, root):
    give = """([kind, numbers]) => {
        const data = new DataTransfer();
        const file = new File([new Uint8Array(numbers)], "a.png", {type: "image/png"});
        data.items.add(file);
        const event = kind === "paste"
            ? new ClipboardEvent("paste", {clipboardData: data, bubbles: true})
            : new DragEvent("drop", {dataTransfer: data, bubbles: true});
        document.getElementById("drop").dispatchEvent(event);
    }"""
    for kind, color in (("paste", "red"), ("drop", "blue")):
        page.evaluate(give, [kind, list((root / f"{color}.png").read_bytes())])
        page.wait_for_selector("#found .score")
        sync_api.expect(page.locator("#found .class").first).to_have_text(color)


def test_hostile_file_is_a_message_and_the_page_goes_on(page, root):
    page.set_input_files("#file", root / "hostile.png")
    page.wait_for_selector("#found .message")
    assert page.locator("#found .images").count() == 0
    page.set_input_files("#file", root / "red.png")
    assert classes_of(page)[0] == "red"


def test_keyboard_alone_is_enough(page, root):
    def focused():
        return page.evaluate("document.activeElement.id || document.activeElement.href")

    # Playwright takes over file choosers from the first listener on, but doesn't wait
    # for Chromium to know of it: one asked for at once would be Chromium's own.
    page.on("filechooser", lambda _: None)
    for _ in range(4):
        page.keyboard.press("Tab")
    assert focused() == "file"
    with page.expect_file_chooser() as chooser:
        page.keyboard.press("Enter")
    chooser.value.set_files(root / "red.png")
    assert classes_of(page)[0] == "red"
    page.keyboard.press("Tab")
    page.keyboard.press("ArrowRight")
    sync_api.expect(page.locator("#found .score").first).to_have_text("0")
    page.keyboard.press("Tab")
    assert "/like/" in focused()
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile(r"/like/\d+\?by=code$"))


def test_run_is_shown(page):
    page.get_by_role("link", name="Run", exact=True).click()
    page.wait_for_load_state("networkidle")
    assert "R@1" in page.locator("pre").inner_text()
    assert page.get_by_alt_text("Training loss").evaluate("i => i.naturalWidth") == 20
