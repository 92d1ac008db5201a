"""Segmentation studies: do generated hearts improve segmentation, on known and on unseen vendors?"""
