"""`python -m topofix` is the `topofix` command."""

from topofix.cli import main

if __name__ == "__main__":
    main()
