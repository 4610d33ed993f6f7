"""Radiology reports: of a release's images, from one's own files, or written for simulated images.

In come files or archives; out come rows with an id and the text that a labeler reads. What cannot be read is a row
that says why.
"""
