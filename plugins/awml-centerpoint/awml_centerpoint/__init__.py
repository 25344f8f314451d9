"""CenterPoint for awml-deploy."""
