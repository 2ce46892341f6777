"""How every program here starts and how it fails."""

import sys

from absl import app
from absl import flags
from absl import logging


def run(main):
    """Runs `main(argv)` as absl's `app.run` does, with input errors in one line.

    A wrong value, file or folder ends the program with its message and exit code 2.
    The traceback is shown with `--verbosity=1`.
    """

    def main_with_plain_errors(argv):
        if not flags.FLAGS["verbosity"].present:
            logging.set_verbosity(logging.WARNING)
        if len(argv) > 1:
            sys.exit(f"error: unknown argument {argv[1]!r}; options start with --.")
        try:
            main(argv)
        except (ValueError, OSError) as error:
            logging.debug("traceback", exc_info=True)
            print(f"error: {error}", file=sys.stderr)
            sys.exit(2)

    app.run(main_with_plain_errors)
