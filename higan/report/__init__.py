"""Pages people look at: each is one .html file that needs nothing else, offline, on a phone, on paper."""

from __future__ import annotations

from higan.report.grid import grid_size, write_grid_page
from higan.report.manipulation import step_headings, write_manipulation_page
from higan.report.mixing import write_mixing_page
from higan.report.page import describe_origin, write_page
from higan.report.rescoring import write_rescoring_page

__all__ = [
    "describe_origin",
    "grid_size",
    "step_headings",
    "write_grid_page",
    "write_manipulation_page",
    "write_mixing_page",
    "write_page",
    "write_rescoring_page",
]
