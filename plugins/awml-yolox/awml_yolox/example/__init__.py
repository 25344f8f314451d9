"""A small deployment to start from: streets that are drawn by code, and a network trained on them."""
