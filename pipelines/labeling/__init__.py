"""A code location that runs: pools of images with real models, to copy and begin with."""
