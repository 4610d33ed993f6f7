"""Statistics of labels and scores, with the patient as the sampling unit.

In come arrays of labels, scores and patients of the same images; out go estimates with intervals, or the reason why
there is none. `resampling` makes resamples once, and every measure of `accuracy`, `calibration` and `agreement`
takes them, so that comparisons are paired by construction.
"""
