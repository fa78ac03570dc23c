"""A study's report: one self-contained HTML page."""

from tombola.out.report.page import report, report_path

__all__ = ["report", "report_path"]
