"""The command line: names things, checks the whole call, works, prints."""

from tombola.cli import (
    bench,
    data,
    find,
    gc,
    listing,
    probe,
    report,
    ship,
    studies,
    theory,
)  # each adds its commands to the application
from tombola.cli.app import app, main

__all__ = [
    "app",
    "bench",
    "data",
    "find",
    "gc",
    "listing",
    "main",
    "probe",
    "report",
    "ship",
    "studies",
    "theory",
]
