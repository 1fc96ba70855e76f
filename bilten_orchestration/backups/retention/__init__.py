"""What may go, and why the rest stays.

rules.py       the numbered cases: decided from listings alone
orphans.py     what belongs to no listed backup
replayable.py  how much time could be restored to
prune.py       carried out, in both buckets
"""
