"""What every other room stands on: paths, planned runs, the vocabulary, label tables, figures.

In comes `params.yaml` and a CSV of anyone's; out go checked tables in one vocabulary. Nothing here knows of a data
owner, a network or a study.
"""
