"""How every program here starts and how it fails."""

import sys

import tensorflow as tf
from absl import app
from absl import flags
from absl import logging

from keras_dml.data._pipeline.images import unreadable_image


def run(main):
    """Runs `main(argv)` as absl's `app.run` does, with input errors in one line.

    A wrong value, file or folder, or a package that is not installed, ends the
    program with its message and exit code 2. The traceback is shown with
    `--verbosity=1`.
    """

    def main_with_plain_errors(argv):
        if not flags.FLAGS["verbosity"].present:
            logging.set_verbosity(logging.WARNING)
        if len(argv) > 1:
            _end(f"unknown argument {argv[1]!r}; options start with --.")
        try:
            main(argv)
        except (ValueError, FloatingPointError, OSError, ImportError) as error:
            _end(str(error))
        except tf.errors.InvalidArgumentError as error:
            message = unreadable_image(error)
            if message is None:
                raise
            _end(message)
        except KeyboardInterrupt:
            print("\ninterrupted; what was written stays.", file=sys.stderr)
            sys.exit(130)

    app.run(main_with_plain_errors, flags_parser=_parse_flags)


def _parse_flags(argv):
    try:
        return app.parse_flags_with_usage(argv)
    except (AttributeError, KeyError, OSError, TypeError, ValueError) as error:
        _end(
            f"--config or one of its overrides: {error}. The settings are in "
            "experiments/recipe.py, the files in experiments/configs/."
        )


def _end(message):
    logging.debug("traceback", exc_info=True)
    print(f"error: {message}", file=sys.stderr)
    sys.exit(2)
