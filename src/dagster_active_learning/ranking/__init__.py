"""Scores in, ranks out."""
