"""The disturbed branch should disagree with its teacher where the image was disturbed, and only there (DRD, Neurocomputing 2025)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import OptionError
from ..networks import Features
from .cosine import level_map

__all__ = ["SegmentationLoss"]


class SegmentationLoss(nn.Module):
    r"""Mean of :math:`|Q - K|` at the size of the image.

    :math:`Q` is the mean over the levels of :math:`1 - \cos_c(N_l, A_l)`, brought to the image's size; :math:`K` says where the image was disturbed.

    Args:
        target: how :math:`K` is made. ``"colour"`` (the paper's code): :math:`1 - \cos_c` of the two images over their normalised colours, up to 2. It
            sees grey values only near the mean of ImageNet: a change from 0.8 to 1.0 is 0.0006, one from 0.45 to 0.5 is 0.43. ``"mask"``: 1 where
            a pixel was changed. ``"absdiff"``: mean over the colours of the normalised images' absolute difference, clipped at 1.

    Raises:
        OptionError: an unknown target.

    Example:
        >>> from monai_anomaly.transforms.pseudo import PseudoAbnormal
        >>> t, image = (torch.rand(1, 8, 4, 4),), torch.rand(1, 3, 16, 16)
        >>> unchanged = PseudoAbnormal(image, torch.zeros(1, 1, 16, 16, dtype=torch.bool))
        >>> features = Features(teacher=t, student=t, pseudo_teacher=t, pseudo_student=t, image=image, pseudo=unchanged)
        >>> round(SegmentationLoss()(features).item(), 6) == 0
        True
    """

    def __init__(self, target: str = "colour"):
        super().__init__()
        if target not in ("colour", "mask", "absdiff"):
            raise OptionError(f"target is {target!r}; expected 'colour', 'mask' or 'absdiff'.")
        self.target = target

    def forward(self, features: Features) -> Tensor:
        """Return the scalar loss of a batch of :class:`~monai_anomaly.networks.Features`.

        Raises:
            OptionError: the system was not given pseudo-abnormal images, or has no branch for them.
        """
        teacher, student, image, pseudo = features.required("pseudo_teacher", "pseudo_student", "image", "pseudo", by="SegmentationLoss")
        with torch.no_grad():
            wanted = self._wanted(image, pseudo.image, pseudo.mask)
        maps = [level_map(t.detach(), s).unsqueeze(1) for t, s in zip(teacher, student, strict=True)]
        enlarged = [F.interpolate(m, size=image.shape[-2:], mode="bilinear", align_corners=True) for m in maps]
        return F.l1_loss(torch.stack(enlarged).mean(dim=0), wanted)

    def _wanted(self, image: Tensor, disturbed: Tensor, mask: Tensor) -> Tensor:
        """K, ``(B, 1, H, W)``."""
        if self.target == "colour":
            return level_map(image, disturbed).unsqueeze(1)
        if self.target == "mask":
            return mask.to(image.dtype)
        return (disturbed - image).abs().mean(dim=1, keepdim=True).clamp_max(1)
