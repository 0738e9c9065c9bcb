"""From the user's files to prepared rows on disk: reading, canonical form, split, mixing, access by
number.
"""
