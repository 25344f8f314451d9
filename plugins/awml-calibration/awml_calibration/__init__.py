"""CalibrationStatusClassification for awml-deploy."""
