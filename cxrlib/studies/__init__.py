"""What the studies and audits compute: comparisons of labels, of networks and of readers.

In come case tables, one row an image with every label and every probability; out come tables of estimates with
intervals. Nothing here needs an image.
"""
