"""`python -m doctune`."""

from doctune.cli import main

if __name__ == "__main__":
    main()
