"""Cohorts: images with a row each, from wherever they come, packed into one memory-mapped store.

In comes a source (`sources`: simulated, NIH's layout, one's own folder, torchxrayvision's classes); out come a store
and a list of everything that was not taken. `splits` divides a store by patient.
"""
