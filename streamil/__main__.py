"""`python -m streamil` is the command `streamil`."""

from streamil.cli import main

main()
