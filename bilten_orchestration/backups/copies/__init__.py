"""The second bucket.

plan.py          what it lacks, and how far it is behind
copy.py          brought there, in an order that never lists what is not whole
checked_copy.py  one object: streamed, hashed on the way
files.py         the application's files, copied likewise
"""
