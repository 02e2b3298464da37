"""From an answer back to the rows that made its score; manifests and logs say all of it.

``answer`` finds it in the prediction log, ``learnt`` what its version has learnt, ``feature_rows``
which partitions the rows that it read are of, and ``sources`` what these were computed from.
"""
