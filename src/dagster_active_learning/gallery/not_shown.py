"""The reason why a picture is missing."""

from __future__ import annotations


class NotShownError(Exception):
    """An image cannot be shown.

    The message is a short reason for people. It stands in a picture that many may see: it holds
    neither a user, a password nor a query of the image's uri.
    """
