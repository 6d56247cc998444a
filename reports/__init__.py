"""What people read of a finished run. Everything here returns data or a rich renderable; nothing prints.

The command line and the flows use the names of this module only.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import RenderableType

from reports import diff_view, explain_view
from reports import doctor as _doctor
from reports import funnel as _funnel
from reports.demo_view import demo_view
from reports.diff import diff as _diff
from reports.documents import documents, write_report
from reports.explain import explain as _explain
from reports.inspection_view import inspection_view
from reports.listings import plan_view, stages_view, store_entries, store_view
from reports.manifest import load, parse
from reports.records import stored
from reports.sql import query, to_csv, to_jsonl, to_parquet, to_table
