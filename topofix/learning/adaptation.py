"""Which weights of a network the `weights` stage moves: all, those of its decoder, or those of its head.

A network may be anybody's: a module, TorchScript or an exported program. What all of them tell is the
order of their weights, which for networks from image to image is that of the way through them, and their
shapes. On that way the feature maps grow in number down to the deepest layer and dwindle behind it:

    feature maps   16 16 | 32 32 | 64 64 | 128 128 | 64 64 | 32 32 | 16 16 | 4
                                                     `--- decoder ----------' `- head
"""

from torch import nn

from topofix.errors import InvalidOption
from topofix.records import Adapt


def adapted_weights(network: nn.Module, adapt: Adapt, channels: int) -> list[nn.Parameter]:
    """The weights that `adapt` names, in the network's order.

    The head is the last layer that makes as many channels as there are logits. The decoder is all from behind
    the last of the layers with the most feature maps; how many those are, biases and normalisations tell.

    Args:
        network: From images (N, 1, *S) to logits (N, channels, *S).
        adapt: `all`, `decoder` or `head`.
        channels: Of the logits. Where they are two, the network may make one, to which a sigmoid belongs.

    Raises:
        InvalidOption: The order and shapes of the network's weights do not tell.

    Example:
        >>> layers = (nn.Conv2d(1, 4, 3), nn.Conv2d(4, 8, 3), nn.Conv2d(8, 4, 3), nn.Conv2d(4, 2, 1))
        >>> net = nn.Sequential(*layers)
        >>> [tuple(weight.shape) for weight in adapted_weights(net, "head", 2)]
        [(2, 4, 1, 1), (2,)]
        >>> len(adapted_weights(net, "decoder", 2))
        4
    """
    named = [(name, weight) for name, weight in network.named_parameters() if weight.is_floating_point()]
    if adapt == "head":
        return _head(named, {channels, 1} if channels == 2 else {channels})
    return [weight for _, weight in (_decoder(named) if adapt == "decoder" else named)]


def _head(named: list[tuple[str, nn.Parameter]], channels: set[int]) -> list[nn.Parameter]:
    layers = [
        name.rpartition(".")[0]
        for name, weight in named
        if weight.ndim > 2 and channels & set(weight.shape[:2])  # in and out, or out and in if transposed
    ]
    if not layers:
        raise InvalidOption(
            "--adapt head: expected a last convolution that makes one channel per label, found none in this "
            "network; try --adapt all"
        )
    return [weight for name, weight in named if name.rpartition(".")[0] == layers[-1]]


def _decoder(named: list[tuple[str, nn.Parameter]]) -> list[tuple[str, nn.Parameter]]:
    widths = [len(weight) if weight.ndim == 1 else 0 for _, weight in named]
    most = max(widths, default=0)
    kernel = (most, most)  # within the deepest layer, of a convolution that the normalisation precedes
    deepest = max(
        (
            place
            for place, (_, weight) in enumerate(named)
            if widths[place] == most or (weight.ndim > 2 and weight.shape[:2] == kernel)
        ),
        default=0,
    )
    before = [width for width in widths[:deepest] if width > 1]
    behind = [width for width in widths[deepest + 1 :] if width > 1]
    if not before or len(set(behind)) < 2 or min(before) == most:
        raise InvalidOption(
            "--adapt decoder: expected a network whose feature maps grow in number and then dwindle, found "
            "another; try --adapt all or head"
        )
    return named[deepest + 1 :]
