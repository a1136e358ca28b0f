"""``python -m pieria`` is ``pieria``."""

from pieria.cli.main import main

if __name__ == "__main__":
    main()
