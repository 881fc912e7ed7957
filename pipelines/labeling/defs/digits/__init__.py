"""Pool ``digits``: 1,797 handwritten digits, a classifier that has seen 50 of them."""
