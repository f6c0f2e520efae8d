"""How well k-means finds the classes again: normalised mutual information."""

import numpy as np

from encoder.errors import PocketlensError, require_extra
from encoder.evaluation.metrics import Labels, Vectors


def measure_nmi(vectors: Vectors, labels: Labels, *, seed: int = 0) -> float:
    """Return the NMI in per cent of the labels with k-means of as many clusters as classes.

    One run of k-means++ (scikit-learn). The literature reports it beside recall, but runs of
    k-means differ by more than most methods do (Musgrave et al., 2020, §3.2): do not rank by it.

    Raises:
        PocketlensError: when scikit-learn is missing, or there are fewer than two classes.
    """
    require_extra("clusters", "the mutual information of clusters")
    from sklearn.cluster import KMeans
    from sklearn.metrics import normalized_mutual_info_score

    classes = len(np.unique(labels))
    if classes < 2:
        raise PocketlensError("clusters of fewer than two classes say nothing")
    found = KMeans(classes, n_init=1, random_state=seed).fit_predict(vectors)
    return 100 * float(normalized_mutual_info_score(labels, found))
