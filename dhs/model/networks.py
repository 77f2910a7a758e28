"""The networks that this project knows by name: how each is built, called and retrained.

To add a network, add an entry here. Training, checkpoints, the audit and the methods text read it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Network:
    """An architecture.

    Attributes
    ----------
    paper_name : str
        Name in papers. The retraining plan counts architectures with the same name as one.
    timm_name : str or None
        Name in timm; None for a class of our own.
    timm_options : mapping
        Options that timm builds it with.
    training_options : mapping
        Options of a training that its configuration leaves out.
    own_class : str or None
        ``module:class`` of our own network, imported when it is built. Its constructor takes
        ``in_ch``, ``forward`` returns logits (N, 1), and ``get_classifier()`` returns the last
        layer, a ``torch.nn.Linear``, as networks of timm do.
    retraining_config : str or None
        Configuration of the retraining plan.
    least_auc : float or None
        Smallest validation AUC that the plan requires.
    """

    paper_name: str
    timm_name: str | None = None
    timm_options: Mapping[str, Any] = field(default_factory=dict)
    training_options: Mapping[str, Any] = field(default_factory=dict)
    own_class: str | None = None
    retraining_config: str | None = None
    least_auc: float | None = None


BOTTLENECKED_RESNET = "bottlenecked_resnet"

# The rates that torchvision builds EfficientNetV2-S with.
_RATES = {"drop_rate": 0.2, "drop_path_rate": 0.2}

NETWORKS: Mapping[str, Network] = {
    "efficientnet_v2_s": Network(
        "EfficientNetV2-S",
        "tf_efficientnetv2_s",
        training_options=_RATES,
        retraining_config="configs/paperIV_efficientnet_v2_s_v5_annulus_fix.yaml",
        least_auc=0.995,
    ),
    # Padding and batch-norm epsilon of torchvision, for weights that were trained with it.
    "efficientnet_v2_s_torchvision": Network(
        "EfficientNetV2-S", "efficientnetv2_s", {"bn_eps": 1e-3}, training_options=_RATES
    ),
    BOTTLENECKED_RESNET: Network(
        "bottlenecked ResNet",
        own_class="dhs.model.resnet:BottleneckedResNet",
        retraining_config="configs/paperIV_bottlenecked_resnet_v2_annulus_fix.yaml",
        least_auc=0.990,
    ),
}
"""Networks by the name that ``train.arch`` takes."""

TIMM_NAMES: dict[str, tuple[str, dict[str, Any]]] = {
    arch: (network.timm_name, dict(network.timm_options))
    for arch, network in NETWORKS.items()
    if network.timm_name is not None
}
"""Names of architectures, each with its name in timm and its options there."""

PLANNED_NETWORKS: Mapping[str, Network] = {
    network.paper_name: network for network in NETWORKS.values() if network.retraining_config
}
"""Networks of the retraining plan by their names in papers."""


def paper_name(arch: str) -> str | None:
    """Return the name of an architecture in papers, or None for other networks of timm."""
    network = NETWORKS.get(arch)
    return None if network is None else network.paper_name
