"""MONAI Label: the detectors behind 3D Slicer, OHIF and a PACS. It needs MONAI Label (``make label``); nothing else in the package imports it."""
