"""One module for each kind of destination; `distribution/table.py` lists them."""
