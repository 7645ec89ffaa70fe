"""What pytest leaves out where the software for it is missing."""

from importlib.util import find_spec

# Examples in them are run by `make test-label`; tests that need MONAI Label say so themselves.
collect_ignore_glob = [] if find_spec("monailabel") else ["monai_anomaly/label/*", "tests/support/label*.py", "tests/support/orthanc.py"]
