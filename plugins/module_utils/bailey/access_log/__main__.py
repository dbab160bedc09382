"""python3 -m bailey.access_log: see --help."""

from __future__ import annotations

import logging
import sys

from ..errors import BaileyError
from .service import LOG, serve
from .settings import parse_settings


def main() -> int:
    """Run the access log and return its exit status."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    try:
        serve(parse_settings(sys.argv[1:]))
    except (BaileyError, OSError) as error:
        LOG.critical("%s", error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
