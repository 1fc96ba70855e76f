"""A table that exists becomes partitioned, and back; a default partition is emptied.

shape.py      what hangs on a table: triggers, views, publications, sequences, names of indexes
plan.py       what an adoption would do; obstacles.py: everything that forbids it; names.py
forward.py    the steps in order: check.py (CHECK, VALIDATE), swap.py (one short transaction)
back.py       the way back
default.py    the rows of a default partition go to their months
locks.py      how all three ask for locks
"""
