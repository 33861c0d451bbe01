"""`python -m cli.demo` is `petal demo`."""

import sys

from cli.__main__ import main

if __name__ == "__main__":
    sys.argv.insert(1, "demo")
    main()
