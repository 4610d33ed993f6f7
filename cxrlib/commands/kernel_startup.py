"""What the kernel of a stage runs first where its place has a Dask cluster (`places.at_place`): it joins that."""

from cxrlib.commands import places as _places

_places.join_dask()
del _places
