"""`python -m explorer`: the command line without an installed script."""

from explorer.cli import main

if __name__ == "__main__":
    main()
