"""CenterPoint is announced, so that its configs can be checked; it cannot be run yet.

Still missing: the two graphs, voxelisation and decoding.
"""
