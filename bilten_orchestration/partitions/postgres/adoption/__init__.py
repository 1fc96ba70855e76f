"""A table that exists becomes partitioned, and back; a default partition is emptied.

shape.py     what hangs on a table: triggers, views, publications, sequences, names of indexes
plan.py      what an adoption would do, and everything that forbids it
forward.py   CHECK, VALIDATE, one short swap
back.py      the way back
default.py   the rows of a default partition go to their months
"""
