"""topofix as a MONAI transform, for anybody's post-processing.

post = Compose([Activationsd("pred", softmax=True), TopologyRefined("pred", "1,0,0")])
"""

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from monai.config.type_definitions import KeysCollection
from monai.transforms.transform import MapTransform
from monai.utils.type_conversion import convert_to_dst_type

from topofix.api import refine
from topofix.records import CaseOptions, RefinementOptions


class TopologyRefined(MapTransform):  # type: ignore[misc]
    """Replaces probabilities by a label map that has the topology asked for.

    Args:
        keys: Of the probabilities, (C, *S) as MONAI has them: one channel for the foreground, or a softmax
            whose channel 0 is the background.
        betti: The prior, as on the command line: `1,0,0`, `2:1,1`, or several of them.
        options: Connectivity, slice axis.
        refinement: Stages, steps, learning rates, limits.
        allow_missing_keys: Whether a key may be missing.
        frozen_key: Of a mask (1, *S) of voxels that keep their label; None freezes none.

    Example:
        >>> field = np.full((1, 12, 12), 0.1)
        >>> field[0, 2:5, 2:5], field[0, 7:10, 7:10] = 0.9, 0.6
        >>> TopologyRefined("pred", "1,0")({"pred": field})["pred"].shape
        (1, 12, 12)
    """

    def __init__(
        self,
        keys: KeysCollection,
        betti: str | Sequence[str],
        options: CaseOptions = CaseOptions(input_type="probabilities"),
        refinement: RefinementOptions = RefinementOptions(),
        allow_missing_keys: bool = False,
        frozen_key: Hashable | None = None,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.betti, self.options, self.refinement = betti, options, refinement
        self.frozen_key = frozen_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """The data with a label map (1, *S) of the same kind in place of the probabilities."""
        done = dict(data)
        frozen = None if self.frozen_key is None else _array(done[self.frozen_key])[0]
        for key in self.key_iterator(done):
            image = done[key]
            spacing = np.asarray(image.pixdim).tolist() if hasattr(image, "pixdim") else None
            array = _array(image)
            result = refine(
                array,
                self.betti,
                spacing=spacing and spacing[: array.ndim - 1],
                channel_axis=0,
                options=self.options,
                refinement=self.refinement,
                frozen=frozen,
            )
            done[key] = convert_to_dst_type(result.labels[None], image, dtype=np.uint8)[0]
        return done


def _array(image: Any) -> npt.NDArray[Any]:
    return image.detach().cpu().numpy() if hasattr(image, "detach") else np.asarray(image)
