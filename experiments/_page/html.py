"""The HTML of the search page."""

import html
from collections.abc import Sequence

_MODES = {
    "cosine": "Cosine",
    "code": "Binary code",
    "exact": "Exact cosine",
}
_SCALES = {
    "cosine": "Cosine similarity: 1 is the same.",
    "code": "Minus the number of bits that differ: 0 is the same.",
    "exact": "Cosine similarity to every image: 1 is the same.",
}


def page(title: str, mode: str, content: str) -> str:
    """A whole page: the place to drop an image, how to compare, and the content.

    Args:
        title: the name of the run.
        mode: how images are compared now.
        content: HTML below.
    """
    choices = "".join(
        f'<label><input type="radio" name="by" value="{value}"'
        f"{' checked' if value == mode else ''}> {name}</label>"
        for value, name in _MODES.items()
    )
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{html.escape(title)}</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="/page.css">
<script src="/page.js" defer></script>
</head>
<body>
<header>
<h1><a href="/">{html.escape(title)}</a></h1>
<nav><a href="/">Gallery</a> <a href="/run">Run</a></nav>
</header>
<form id="ask" aria-label="Search by image" autocomplete="off">
<label id="drop" for="file">
<img id="shown" alt="" hidden>
<span>Drop or paste an image, or <b>choose a file</b></span>
</label>
<input id="file" type="file" accept="image/*">
<fieldset><legend>Compare by</legend>{choices}</fieldset>
</form>
<main id="found" aria-live="polite">
{content}
</main>
</body>
</html>
"""


def message(text: str) -> str:
    """A line that says what is wrong."""
    return f'<p class="message" role="alert">{html.escape(text)}</p>'


def matches(
    found: Sequence[tuple[int, str, str]], mode: str, heading: str, number: int | None
) -> str:
    """The images found, each a link to those like it.

    Args:
        found: (number, class, score) of each, best first.
        mode: how images are compared.
        heading: what was searched for.
        number: of the gallery's image that was searched for, or None.
    """
    asked = ""
    if number is not None:
        asked = (
            f'<img class="asked" src="/image/{number}" alt="{html.escape(heading)}">'
        )
    items = "".join(
        f'<li><a href="/like/{one}?by={mode}">{_image(one, class_name)}'
        f'<span class="score">{score}</span> '
        f'<span class="class">{html.escape(class_name)}</span></a></li>'
        for one, class_name, score in found
    )
    return (
        f"<h2>{html.escape(heading)}</h2>{asked}<p>{_SCALES[mode]}</p>"
        f'<ol class="images">{items}</ol>'
    )


def gallery(
    images: Sequence[tuple[int, str]], mode: str, number: int, pages: int, total: int
) -> str:
    """One page of the gallery's images.

    Args:
        images: (number, class) of each.
        mode: how images are compared.
        number: of the page, from 1.
        pages: how many pages there are.
        total: images in the gallery.
    """
    items = "".join(
        f'<li><a href="/like/{one}?by={mode}">{_image(one, class_name)}'
        f'<span class="class">{html.escape(class_name)}</span></a></li>'
        for one, class_name in images
    )
    links = [
        f'<a rel="{rel}" href="/?page={to}&amp;by={mode}">{text}</a>'
        for rel, to, text in (
            ("prev", number - 1, "Previous"),
            ("next", number + 1, "Next"),
        )
        if 1 <= to <= pages
    ]
    return (
        f"<h2>{total:,} images</h2>"
        f'<ol class="images">{items}</ol>'
        f'<nav class="pages">{" ".join(links)} Page {number} of {pages}</nav>'
    )


def run(table: str | None, figures: Sequence[str]) -> str:
    """What a run came to: its table and its figures.

    Args:
        table: as text; None if the run has none.
        figures: names of the figures that there are.
    """
    alts = {
        "curves": "Training loss and Recall@K by epoch",
        "retrieval": "Queries and their nearest images",
    }
    shown = "".join(
        f'<img class="figure" src="/figure/{name}" alt="{alts[name]}">'
        for name in figures
    )
    table = html.escape(table or "This run has no metrics.json.")
    return f"<h2>Retrieval on the test classes, %</h2><pre>{table}</pre>{shown}"


def _image(number, class_name):
    return (
        f'<img src="/image/{number}" alt="{html.escape(class_name) or "image"}" '
        'width="160" height="160" loading="lazy">'
    )
