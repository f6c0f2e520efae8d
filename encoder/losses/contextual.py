"""Distillation of neighbourhoods: a student ranks a database's nearest as its teacher does.

After contextual similarity distillation (Wu et al., 2022, "Contextual similarity distillation for
asymmetric image retrieval", §3.2), which is without labels too. A vector that is off by little may
rank wrongly; what is off towards similar images costs more here than what is off elsewhere.
"""

import torch
from torch import Tensor
from torch.nn import functional


def contextual_term(
    student: Tensor, teacher: Tensor, database: Tensor, *, nearest: int, temperature: float
) -> Tensor:
    """Return mean over views of the divergence of the neighbourhoods, summed over images.

    `student` and `teacher` are unit vectors `[images, views, dim]`, `database` the teacher's of
    whole images `[n, dim]`, those of the views among them. Of each view the `nearest` images that
    the teacher finds count: their cosines over the temperature become a distribution, and the
    Kullback-Leibler divergence is that of the student's from the teacher's. Both have the same
    temperature, so that the student's aim is the teacher's vector (the paper's differ).
    """
    with torch.no_grad():
        found, places = (teacher @ database.T).topk(min(nearest, len(database)), dim=-1)
        aim = functional.log_softmax(found / temperature, dim=-1)
    cosines = (student @ database.T).gather(-1, places)
    own = functional.log_softmax(cosines / temperature, dim=-1)
    divergence = functional.kl_div(own, aim, reduction="none", log_target=True).sum(-1)
    return divergence.mean(dim=1).sum()
