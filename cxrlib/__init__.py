"""What chest X-ray labels are worth: the library behind the notebooks."""

__version__ = "0.1.0"
