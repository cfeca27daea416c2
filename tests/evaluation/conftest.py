"""The maker of made-up metrics, which the tests of reports have too."""

from __future__ import annotations

from ..report.conftest import metrics

__all__ = ["metrics"]
