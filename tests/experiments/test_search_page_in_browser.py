"""The search page as people use it, in Chromium."""

import re

import pytest
from PIL import Image

from tests.experiments.page_gallery import write_run
from tests.experiments.served_page import chromium
from tests.experiments.served_page import needs_chromium
from tests.experiments.served_page import served_page
from tests.experiments.served_page import shown_classes

sync_api = pytest.importorskip("playwright.sync_api", reason="drives Chromium")
sync_api.expect.set_options(timeout=60_000)

pytestmark = [pytest.mark.slow, needs_chromium]


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
    with served_page(f"--run={root / 'run'}", "--k=6") as address:
        yield address


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright, chromium(playwright) as browser:
        yield browser


@pytest.fixture(params=["desk", "phone"])
def page(request, browser, address):
    """The page on a screen; it must ask no other server, and log no error."""
    sizes = {"desk": (1100, 900), "phone": (380, 760)}
    width, height = sizes[request.param]
    page = browser.new_page(viewport={"width": width, "height": height})
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


def test_gallery_is_shown_with_its_images(page):
    page.wait_for_load_state("networkidle")
    images = page.locator("#found .images img")
    assert images.count() == 20
    for image in images.all():
        image.scroll_into_view_if_needed()
        sync_api.expect(image).not_to_have_js_property("naturalWidth", 0)


def test_chosen_image_finds_its_like_and_is_compared_otherwise(page, root):
    page.set_input_files("#file", root / "red.png")
    assert shown_classes(page)[:5] == ["red"] * 5
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
    first = shown_classes(page)
    assert first[:4] == [first[0]] * 4
    page.get_by_label("Exact cosine").check()
    page.wait_for_url("**/like/12?by=exact")
    sync_api.expect(page.get_by_label("Exact cosine")).to_be_focused()
    assert shown_classes(page) == first
    page.locator("#found .images a").first.click()
    page.wait_for_url(re.compile(r"/like/\d+\?by=exact$"))
    assert shown_classes(page)[:4] == first[:4]


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
    assert shown_classes(page)[0] == "red"


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
    assert shown_classes(page)[0] == "red"
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
