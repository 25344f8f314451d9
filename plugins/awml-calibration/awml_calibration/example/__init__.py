"""A small deployment to start from: a street that is drawn and scanned by code, and a network trained on it."""
