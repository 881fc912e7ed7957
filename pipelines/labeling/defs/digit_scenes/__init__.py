"""Pool ``digit_scenes``: scenes of several handwritten digits, and a detector that finds them."""
