"""A small deployment to try: a drawn town, a simulated LiDAR, a small network and the script that trained it."""
