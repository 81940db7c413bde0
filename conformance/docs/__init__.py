"""The documentation: written pages, their generated parts, and how both become a site.

`pages/` has the Markdown and `conf.py`, the settings of the site, which inserts what `generated_parts.py` lists. No
part of a page is a second copy: what an adapter, a schema, the ledger or a report says is read from there at each
build.
"""
