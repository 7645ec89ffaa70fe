"""The studies of a PACS behind DICOMweb: what is asked of it, what of it lies on this machine's disk, and what goes back."""
