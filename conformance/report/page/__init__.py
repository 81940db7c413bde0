"""A report as one page that opens from disk: no network, no library, no script but its own.

Rows are third-party text.  They lie in the page as JSON inside `<script type="application/json">`,
never as markup, and the page's script puts them into text nodes only.  What may run and how it may look
is named by hash in a content-security policy, which forbids everything else.

The rows lie there by column, each distinct text once.  What a table needs is apart from the long texts of
single rows, which are decoded when one is looked at; what `PageSupplement` has is a third part.
"""

from conformance.report.page.building import page, source_hash, static_parts
from conformance.report.page.packing import DETAIL, INDEX, LONG, embedded, packed
from conformance.report.page.supplement import PageSupplement, problems, sizes

__all__ = [
    "DETAIL",
    "INDEX",
    "LONG",
    "PageSupplement",
    "embedded",
    "packed",
    "page",
    "problems",
    "sizes",
    "source_hash",
    "static_parts",
]
