"""Run, keep, judge."""
