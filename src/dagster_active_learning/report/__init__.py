"""A page to browse and to send: all candidates of a ranking or a batch in one HTML file.

It needs no server and asks nothing of any. Nothing here is loaded before a page is made.
"""
