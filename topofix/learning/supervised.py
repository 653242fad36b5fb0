"""The losses by which a network learns from labels: Dice, cross-entropy, both, or squared errors.

The loss that looks at topology is `topofix.learning.loss`.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from topofix.records import LossName


def make_loss(name: LossName) -> Callable[[Tensor, Tensor], Tensor]:
    """The supervised loss called `name`: logits (N, K + 1, *S) and labels (N, 1, *S) to a scalar.

    Example:
        >>> logits, labels = torch.tensor([[[9.0], [-9.0]]]), torch.tensor([[[0]]])
        >>> round(make_loss("bce")(logits, labels).item(), 3)
        0.0
    """
    from monai.losses.dice import DiceCELoss, DiceLoss  # MONAI takes seconds to import

    match name:
        case "dice":
            loss = DiceLoss(to_onehot_y=True, softmax=True, include_background=False, batch=True)
        case "dice_bce":
            loss = DiceCELoss(to_onehot_y=True, softmax=True, include_background=False, batch=True)
        case "bce":
            return lambda logits, labels: F.cross_entropy(logits, labels[:, 0].long())
        case "mse":
            return lambda logits, labels: F.mse_loss(
                torch.softmax(logits, 1),
                F.one_hot(labels[:, 0].long(), logits.shape[1]).movedim(-1, 1).float(),
            )
    return lambda logits, labels: loss(logits, labels)
