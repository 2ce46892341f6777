"""What the search page answers, as a Starlette application."""

import io
import json
import pathlib
import warnings
from collections.abc import Sequence

import tensorflow as tf
from PIL import Image
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse
from starlette.responses import HTMLResponse
from starlette.responses import Response
from starlette.routing import Route

from experiments._page import html
from experiments._page.shown_gallery import MODES
from experiments._page.shown_gallery import ShownGallery
from keras_dml import evaluation

MOST_BYTES = 20 * 1024**2
"""Of an image that is sent."""
MOST_PIXELS = 50_000_000
"""Of an image that is sent, as its header says before it is decoded."""

_HERE = pathlib.Path(__file__).parent
_IMAGES_A_PAGE = 60
_FIGURES = ("curves", "retrieval")
_FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP")

_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; img-src 'self' blob: data:; "
    "script-src 'self'; style-src 'self'; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def search_app(
    gallery: ShownGallery, run: pathlib.Path, hosts: Sequence[str]
) -> Starlette:
    """Makes the application.

    Args:
        gallery: the images to search.
        run: the folder of the run, whose table and figures are shown.
        hosts: names that a browser may call this server by; others are refused, so that
            no other site can be made to name it.
    """
    title = f"{run.resolve().name}: search"

    def index(request):
        mode = _mode(request)
        numbers = gallery.numbers()
        pages = max(1, -(-len(numbers) // _IMAGES_A_PAGE))
        number = min(max(_integer(request.query_params.get("page", "1")), 1), pages)
        start = (number - 1) * _IMAGES_A_PAGE
        shown = [
            (one, gallery.about(one)[1])
            for one in numbers[start : start + _IMAGES_A_PAGE]
        ]
        content = html.gallery(shown, mode, number, pages, len(numbers))
        return HTMLResponse(html.page(title, mode, content))

    def like(request):
        mode, number = _mode(request), _number(request)
        try:
            _, class_name = gallery.about(number)
            found = gallery.like(number, mode)
        except KeyError:
            raise HTTPException(404, "no such image in the gallery.") from None
        heading = f"Most like this one{class_name and f' of {class_name}'}"
        content = html.matches(_shown(gallery, found, mode), mode, heading, number)
        return HTMLResponse(html.page(title, mode, content))

    async def search(request):
        mode = _mode(request)
        content_type = request.headers.get("content-type", "")
        if content_type.partition(";")[0].strip() != "application/octet-stream":
            raise HTTPException(415, "send an image as application/octet-stream.")
        encoded = await _body(request)
        content = await run_in_threadpool(answer, encoded, mode)
        return HTMLResponse(content)

    def answer(encoded, mode):
        _check_image(encoded)
        try:
            pixels = gallery.pixels_of(encoded)
        except tf.errors.InvalidArgumentError:
            raise HTTPException(415, "this image can't be read.") from None
        found = gallery.search(pixels, mode)
        return html.matches(
            _shown(gallery, found, mode), mode, "Most like your image", None
        )

    def image(request):
        try:
            file = gallery.thumbnail(_number(request))
        except (KeyError, OSError):
            raise HTTPException(404, "this image is gone.") from None
        return Response(
            file, media_type="image/jpeg", headers={"Cache-Control": "max-age=60"}
        )

    def about_run(request):
        figures = [
            name for name in _FIGURES if (run / "report" / f"{name}.png").is_file()
        ]
        content = html.run(_table(run), figures)
        return HTMLResponse(html.page(title, _mode(request), content))

    def figure(request):
        name = request.path_params["name"]
        file = run / "report" / f"{name}.png"
        if name not in _FIGURES or not file.is_file():
            raise HTTPException(404, "no such figure.")
        return FileResponse(file, media_type="image/png")

    def own_file(name, media_type):
        def respond(request):
            return FileResponse(_HERE / name, media_type=media_type)

        return respond

    def failed(request, error):
        content = html.message(f"{error.detail[:1].upper()}{error.detail[1:]}")
        if request.method == "GET":
            content = html.page(title, MODES[0], content)
        return HTMLResponse(content, error.status_code)

    def gone(request, error):
        return failed(request, HTTPException(503, str(error)))

    return Starlette(
        routes=[
            Route("/", index),
            Route("/like/{number}", like),
            Route("/search", search, methods=["POST"]),
            Route("/image/{number}", image),
            Route("/run", about_run),
            Route("/figure/{name}", figure),
            Route("/page.css", own_file("page.css", "text/css")),
            Route("/page.js", own_file("page.js", "text/javascript")),
        ],
        middleware=[
            Middleware(_Headers),
            Middleware(TrustedHostMiddleware, allowed_hosts=list(hosts)),
        ],
        exception_handlers={HTTPException: failed, OSError: gone},
    )


class _Headers:
    """Adds the headers that keep a browser from doing anything else with the page."""

    def __init__(self, app):
        self._app = app

    async def __call__(self, scope, receive, send):
        async def send_with_headers(message):
            if message["type"] == "http.response.start":
                message["headers"] = [
                    *message["headers"],
                    *((k.lower().encode(), v.encode()) for k, v in _HEADERS.items()),
                ]
            await send(message)

        await self._app(scope, receive, send_with_headers)


def _mode(request: Request) -> str:
    mode = request.query_params.get("by", MODES[0])
    if mode not in MODES:
        raise HTTPException(400, f"by must be one of {', '.join(MODES)}.")
    return mode


def _number(request: Request) -> int:
    text = request.path_params["number"]
    if not text.isdecimal() or len(text) > 12:
        raise HTTPException(404, "no such image in the gallery.")
    return int(text)


def _integer(text):
    try:
        return int(text)
    except ValueError:
        raise HTTPException(400, "page must be a number.") from None


async def _body(request):
    """Reads what is sent, and no more than may be."""
    too_large = HTTPException(
        413, f"an image may have {MOST_BYTES // 1024**2} MB; this one has more."
    )
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > MOST_BYTES:
            raise too_large
    return bytes(body)


def _check_image(encoded):
    """Reads the header alone; nothing is decoded."""
    try:
        with warnings.catch_warnings():
            # Pillow's own limit is higher than the one here.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(encoded), formats=_FORMATS) as image:
                width, height = image.size
    except Image.DecompressionBombError:
        width = height = MOST_PIXELS
    except Exception:  # Pillow's readers raise many kinds for bytes that are no image.
        raise HTTPException(
            415, "this is no image: send a JPEG, PNG, BMP, GIF or WebP file."
        ) from None
    if width * height > MOST_PIXELS:
        raise HTTPException(
            413, f"an image may have {MOST_PIXELS:,} pixels; this one has more."
        )


def _shown(gallery, found, mode):
    return [
        (
            number,
            gallery.about(number)[1],
            f"{score:.0f}" if mode == "code" else f"{score:.3f}",
        )
        for number, score in found
    ]


def _table(run):
    try:
        metrics = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
        return evaluation.format_table(metrics)
    except (OSError, ValueError):
        return None
