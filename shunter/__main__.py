"""`python -m shunter` is the `shunter` command."""

from shunter.cli import main

if __name__ == "__main__":
    main()
