"""Names of the folders of unpacked layers, each of which stands for a layer and all layers below it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from imagesmith.layers.records import LayerBlob


def layer_keys(layers: Sequence[LayerBlob]) -> list[str]:
    """The key of each layer, lowest first: a digest over the diff ids and blobs of it and of all layers below."""
    keys: list[str] = []
    for layer in layers:
        text = " ".join((*keys[-1:], layer.diff_id, layer.digest))
        keys.append("sha256:" + hashlib.sha256(text.encode()).hexdigest())
    return keys


def chain_ids(layers: Sequence[LayerBlob]) -> list[str]:
    """The chain id of each layer, lowest first, as the OCI image specification defines it: what older versions used
    in place of the key."""
    chain: list[str] = []
    for layer in layers:
        text = f"{chain[-1]} {layer.diff_id}" if chain else ""
        chain.append("sha256:" + hashlib.sha256(text.encode()).hexdigest() if text else layer.diff_id)
    return chain
