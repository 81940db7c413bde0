"""The documentation: pages that people write, the parts of them that are generated, and how both become a site.

`pages/` holds the Markdown and `conf.py`, the settings of the site, which fills in what `parts.py` lists.  Nothing of a
page is a second copy: what an adapter, a schema, the ledger or a report says is read from there at every build.
"""
