"""topofix gives a segmentation the topology that its anatomy is known to have."""

__version__ = "0.1.0"
