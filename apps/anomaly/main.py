"""MONAI Label's entry: it looks here for a class whose direct base is called MONAILabelApp. The code is in ``monai_anomaly.label``."""

from monailabel.interfaces.app import MONAILabelApp

from monai_anomaly.label.app import AnomalyApp


class Main(AnomalyApp, MONAILabelApp):
    """Anomaly detection by the bundles that ``--conf models`` names."""
