"""The command line: names things, checks the whole call, works, prints."""

from tombola.cli import find, listing, ship, studies  # each adds its commands to the application
from tombola.cli.app import app, main

__all__ = ["app", "find", "listing", "main", "ship", "studies"]
