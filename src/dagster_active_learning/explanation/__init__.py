"""Why an image is a candidate: as a phrase in a table, and as a page with all that is known."""
