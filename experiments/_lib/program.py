"""How every program here starts and how it fails."""

import re
import sys
from collections.abc import Callable

import keras
import tensorflow as tf
from absl import app
from absl import flags
from absl import logging

from keras_dml import data
from keras_dml import training

_RENAMED = {"'warm_up_epochs'": "frozen_epochs"}
"""Settings by the name that they had in version 0.1, as ml_collections quotes it."""

_CONFIG_EXAMPLE = "--config=experiments/configs/glyphs.py"


def run(main: Callable[[list[str]], None]) -> None:
    """Runs `main(argv)` as absl's `app.run` does, with input errors in one line.

    A wrong flag, value, file or folder, or a package that is not installed, ends the
    program with its message and exit code 2. The traceback is shown with
    `--verbosity=1`.

    Args:
        main: the program, which takes the name that it was started by, in a list.
    """

    def main_with_short_errors(argv):
        if not flags.FLAGS["verbosity"].present:
            logging.set_verbosity(logging.WARNING)
        if len(argv) > 1:
            _end(f"unknown argument {argv[1]!r}; options start with --.")
        if keras.backend.backend() != "tensorflow":
            # It reads images, and would take the whole GPU from the backend.
            tf.config.set_visible_devices([], "GPU")
        try:
            main(argv)
        except (ValueError, FloatingPointError, OSError, ImportError) as error:
            _end(str(error))
        except tf.errors.OpError as error:
            message = data.unreadable_image(error) or _without_a_worker(error)
            if message is None:
                raise
            _end(message)
        except KeyboardInterrupt:
            print("\ninterrupted; files written so far are kept.", file=sys.stderr)
            sys.exit(130)

    app.run(main_with_short_errors, flags_parser=_parse_flags)


def _without_a_worker(error):
    lost = training.lost_worker(error)
    if lost is not None:
        return (
            f"{lost} Start the same command on every worker again: a run goes on from "
            "its newest checkpoint."
        )
    return None


def _parse_flags(argv):
    try:
        rest = flags.FLAGS(argv)
        if "config" in flags.FLAGS:
            # A file that can't be read says so when something is read of it.
            _ = flags.FLAGS.config.is_locked
        return rest
    except flags.Error as error:
        _end(_flag_reason(error))
    except (AttributeError, KeyError, OSError, TypeError, ValueError) as error:
        _end(
            f"--config or one of its overrides: {_reason(error)} The settings are in "
            "experiments/configs/recipe.py, the files in experiments/configs/."
        )


def _flag_reason(error):
    text = " ".join(str(error).split())
    missing = re.findall(r"Flag (--\w+) must have a value other than None", text)
    unknown = getattr(error, "flagname", "")
    if unknown.startswith("config."):  # which are flags once there is a config file
        missing = ["--config"]
    if missing:
        text = f"{' and '.join(missing)} must be given"
        if "--config" in missing:
            text += f", such as {_CONFIG_EXAMPLE}"
    # For a value of the wrong type absl quotes the reason and the value as a tuple.
    reason = error.__context__
    if isinstance(reason, ValueError) and len(reason.args) > 1:
        text = text.replace(str(reason), str(reason.args[0]))
    return f"{text.rstrip('.')}. --help lists the flags."


def _reason(error):
    # For an unknown setting, ml_collections raises a KeyError, or an AttributeError
    # with that in it. Its text is the quoted name, and below that a similar one.
    cause = next((arg for arg in error.args if isinstance(arg, KeyError)), error)
    if isinstance(cause, OSError):
        # Its last line is the operating system's.
        last_line = str(cause).strip().splitlines()[-1]
        return re.sub(r"^\s*\[Errno \d+\] ", "", last_line).rstrip(".") + "."
    if not isinstance(cause, KeyError):
        return f"{' '.join(str(cause).split())}."
    name, _, hint = str(cause.args[0]).partition("\n")
    if name in _RENAMED:
        hint = f"It is called {_RENAMED[name]} now."
    return f"no setting {name}. {hint}".rstrip()


def _end(message):
    logging.debug("traceback", exc_info=True)
    print(f"error: {message}", file=sys.stderr)
    sys.exit(2)
