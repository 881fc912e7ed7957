"""Pool ``labeled_digits``: the digits again, labeled by people in Label Studio.

It is there where ``LABEL_STUDIO_URL`` is set; the README beside says how.
"""
