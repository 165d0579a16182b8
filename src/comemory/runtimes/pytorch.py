"""PyTorch, for research: the same evidence straight from the model, on any of its devices."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import safetensors
import safetensors.torch
import torch
from numpy.typing import NDArray

from comemory.errors import BundleError
from comemory.runtimes import Network
from comemory.science import MODELS
from comemory.tables import Table


class PyTorch:
    """The model in evaluation mode, fp32, on the CPU.

    Args:
        network: its `model`, `arguments` and `weights` are read.
        threads: CPU threads of this process; None leaves them as they are.

    Raises:
        BundleError: the weights do not fit the model.
        ConfigError: the model is not in the table.
    """

    name = "pytorch"

    def __init__(self, network: Network, threads: int | None = None) -> None:
        if threads is not None:
            torch.set_num_threads(threads)
        self._model = Table("model", MODELS).load(network.model)(**network.arguments)
        try:
            self._model.load_state_dict(safetensors.torch.load_file(network.weights))
        except (safetensors.SafetensorError, RuntimeError) as error:
            raise BundleError(
                f"the weights of {network.weights} do not fit the model: {str(error).splitlines()[0]}"
            ) from None
        self._model.eval()

    @torch.inference_mode()
    def run(self, inputs: Mapping[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
        """See `types.Runtime`."""
        names = ["frames", "flow", *(f"{name}_items" for name in self._model.memories())]
        tensors = [torch.from_numpy(np.ascontiguousarray(inputs[name])) for name in names]
        return {name: tensor.numpy() for name, tensor in self._model.observe(*tensors).items()}
