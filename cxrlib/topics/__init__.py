"""Topics of reports, and vectors of their words.

In come documents, an id and a text each; out come topics with their key words, every document's share of them, which
image has which topic at three levels, pages for readers, and word vectors. Nothing here needs an image or a label.
"""
