"""The version, where every room can read it and the build does too."""

__version__ = "0.2.0"
