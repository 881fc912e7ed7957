"""Metadata of materializations: one module per asset, and what they share."""
