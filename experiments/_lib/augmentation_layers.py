"""From `config.augment`, a line of text, to Keras's layers."""

import ast
import inspect

import keras

from keras_dml._ops import IS_KERAS_2

_EXAMPLE = "RandomRotation(0.05), RandAugment"

# They mix classes, or draw one change for all images; see class_balanced_batches.
_NOT_FOR_EACH_IMAGE = ("AugMix", "CutMix", "MixUp")

AUGMENTATION_LAYERS = {
    name: kind
    for name, kind in vars(keras.layers).items()
    if inspect.isclass(kind)
    and hasattr(kind, "transform_images")
    and name not in _NOT_FOR_EACH_IMAGE
}
"""Keras's image preprocessing layers by their names; none on Keras 2."""


def augmentation_layers(text: str) -> list[keras.layers.Layer]:
    """Makes the layers that `config.augment` names.

    Args:
        text: names of `AUGMENTATION_LAYERS`, separated by commas, each with literal
            arguments or without any, such as "RandomRotation(0.05), RandAugment"; ""
            for none. Nothing else in it is run.

    Raises:
        ValueError: if it is anything else, or a layer refuses its arguments.
    """
    if not isinstance(text, str):
        raise _wrong(text, "is no text")
    if not text:
        return []
    if IS_KERAS_2:
        raise _wrong(text, "needs Keras 3")
    try:
        listed = ast.parse(f"[{text}]", mode="eval").body
    except SyntaxError:
        raise _wrong(text, "can't be read") from None
    if not isinstance(listed, ast.List) or not listed.elts:
        raise _wrong(text, "can't be read")
    return [_layer(element, text) for element in listed.elts]


def _layer(element, text):
    call = element if isinstance(element, ast.Call) else None
    name = element.func if call else element
    if not isinstance(name, ast.Name):
        raise _wrong(text, f"{ast.unparse(element)} is no layer's name")
    if name.id not in AUGMENTATION_LAYERS:
        known = ", ".join(sorted(AUGMENTATION_LAYERS))
        raise _wrong(text, f"{name.id} is none of {known}")
    try:
        arguments = [ast.literal_eval(one) for one in call.args] if call else []
        options = (
            {one.arg: ast.literal_eval(one.value) for one in call.keywords}
            if call
            else {}
        )
        return AUGMENTATION_LAYERS[name.id](*arguments, **options)
    except (TypeError, ValueError) as error:
        raise _wrong(text, f"{ast.unparse(element)}: {error}") from None


def _wrong(text, reason):
    return ValueError(
        "--config.augment must be layers of Keras with their arguments, such as "
        f"{_EXAMPLE!r}, or empty: {reason}; got {text!r}."
    )
