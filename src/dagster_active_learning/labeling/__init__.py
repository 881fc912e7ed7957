"""Labeling tools: tasks out, annotations back."""
