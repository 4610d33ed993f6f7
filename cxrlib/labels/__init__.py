"""The label sets that a cohort has, and the targets that networks learn.

In come a packed cohort and `label_sets` of `params.yaml`; out come label tables with a card each (`kinds`), and the
training tables made of them (`targets`).
"""
