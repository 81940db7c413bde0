"""The report: rows as a DataFrame, tables derived from it, and the only writer to disk.

Rows --frame--> results --pairs--> pairs --discrepancies, summary, write--> reports/<name>/ --read--> results.
"""

from conformance.execution.report_folder import ReportError, check_writable
from conformance.execution.run_info import RunInfo
from conformance.report.agreement import discrepancies, pairs
from conformance.report.comment import comment, marker
from conformance.report.files import read, rewrite_page, write
from conformance.report.frames import frame, from_records, merged
from conformance.report.markdown import status_table, summary
from conformance.report.page import PageSupplement, page, problems, sizes
from conformance.report.sarif import sarif
from conformance.report.support import FUNCTION_COLUMNS, function_cells
