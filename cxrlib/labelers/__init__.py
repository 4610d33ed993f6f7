"""Report labelers: rules that name the words that decided, and language models.

In come texts; out comes a row of findings a text: 1 present, 0 absent, -1 uncertain, NaN not mentioned. `registry`
lists them by name; `phrases/` holds the rules as text that a radiologist can edit.
"""
