"""The search page as a program, and Chromium to open it in."""

import contextlib
import pathlib
import re
import shutil
import subprocess
import sys

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")

needs_chromium = pytest.mark.skipif(
    CHROMIUM is None, reason="no Chromium: make browser"
)


@contextlib.contextmanager
def served_page(*arguments):
    """Runs `experiments.search_page`; gives its address."""
    program = subprocess.Popen(
        [sys.executable, "-m", "experiments.search_page", "--port=0", *arguments],
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


@contextlib.contextmanager
def chromium(playwright):
    """Starts it without its sandbox, which a container lets nobody make."""
    browser = playwright.chromium.launch(
        executable_path=CHROMIUM, args=["--no-sandbox"]
    )
    try:
        yield browser
    finally:
        browser.close()


def shown_classes(page):
    """The classes of the images found, in their order, once they are there."""
    page.wait_for_selector("#found .score")
    return page.locator("#found .images .class").all_inner_texts()
