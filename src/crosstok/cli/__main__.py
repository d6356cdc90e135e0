"""``python -m crosstok.cli``: the command line."""

from crosstok.cli import main

if __name__ == "__main__":
    main()
