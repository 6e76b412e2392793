"""Walks picture files from end to end without decoding a pixel: what they are, whether they are whole, and their bytes
without what a picture does not need.
"""
