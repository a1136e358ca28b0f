"""``python -m pieria.testing FAMILY [CHECK…]``: ask a family (a name, or the path of a file) everything it promises."""

import argparse
import sys

from pieria.errors import PieriaError
from pieria.testing import CHECKS, run_checks


def main() -> int:
    """Print one line a question; 1 if a check failed, 2 if asked wrongly."""
    parser = argparse.ArgumentParser(prog="python -m pieria.testing", description=__doc__)
    parser.add_argument("family", help="a family's name, or ./mine.py")
    parser.add_argument("checks", nargs="*", metavar="check", help=f"of {', '.join(CHECKS)}; all if none is named")
    asked = parser.parse_args()
    counts = {"passed": 0, "skipped": 0, "failed": 0}
    try:
        for result in run_checks(asked.family, asked.checks or None):
            counts[result.outcome] += 1
            print(
                f"{result.outcome:8} {result.check:13} {result.form:25} {result.seconds:6.2f} s  {result.said}", flush=True
            )
    except PieriaError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    print(", ".join(f"{count} {outcome}" for outcome, count in counts.items()))
    return 1 if counts["failed"] else 0


if __name__ == "__main__":
    raise SystemExit(main())
