"""The label sets that data owners have published, each read from its owner's table with a card.

In come tables of the torchxrayvision package, or those that `cxr fetch` fetches; out comes a `LabelSet` in the shared
vocabulary. `pixels` says which releases label the same images, so that none is taken for external to another.
"""
