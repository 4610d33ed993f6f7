"""Networks: their training and prediction, and maps of where they look.

In come a packed cohort and a target; out come a trained network, probabilities image by image, and saliency maps
with their scores.
"""
