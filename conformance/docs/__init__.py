"""The documentation: written pages, their generated parts, and how both become a site.

`pages/` has the Markdown and `conf.py`, the settings of the site. What an adapter, a schema, the ledger or a report
says is not written but generated, by `readme.py`, and committed, so that a page can be read in the repository.
"""
