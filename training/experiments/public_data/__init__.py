"""A benchmark that anyone can repeat: public data sets, one protocol, every ranker.

``data`` is what all readers produce, a module for each format reads it, ``protocol`` trains and
evaluates one seed and tunes on the validation set, ``run`` is the command.
"""
