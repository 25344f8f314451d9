"""YOLOX is announced, so that its configs can be checked; it cannot be run yet.

Still missing: the network, its data and its decoding.
"""
